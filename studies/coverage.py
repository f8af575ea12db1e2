"""Validity study: do the default intervals cover, and do the p-values hold their level?

Usage: python studies/coverage.py --reps 2000 --out coverage.jsonl
       python studies/coverage.py --reps 2000 --out coverage.jsonl --report docs/coverage.md

The first command simulates one cell after the other (n, effective rank, regime) and appends a JSON
line for each. If it is started again, it skips the cells that are in the file. The second command
only renders that file. Both end with the gate, and exit with 1 where a gated interval does not
cover. Timings are for one core: set OMP_NUM_THREADS=1. `coverage_cells` simulates,
`coverage_gate` decides, `coverage_report` writes the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coverage_cells import SIZES, Cell, cells, run_cell
from coverage_designs import designs_of_page
from coverage_gate import failures
from coverage_report import report


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Return the cells in a file, by name; none where there is no file."""
    if not path.exists():
        return {}
    records = [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    return {record["name"]: record for record in records}


def run(study: Iterable[Cell], path: Path, reps: int, seed: int) -> None:
    """Simulate the cells that are not in the file, and append each when it is done.

    Raises
    ------
    SystemExit
        The file has one of the cells with other settings.
    """
    done = read_records(path)
    for cell in study:
        settings = json.loads(json.dumps({**asdict(cell), "reps": reps, "seed": seed}))
        if cell.name in done:
            found = {key: done[cell.name][key] for key in settings}
            if found != settings:
                sys.exit(f"{path}: {cell.name} has other settings, {found}. Use another --out.")
            continue
        record = run_cell(cell, reps, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")
        print(progress_line(record), flush=True)


def progress_line(record: Mapping[str, Any]) -> str:
    """Return a cell's coverages as one line."""
    parts = [
        f"{metric} {summary['covered'] / summary['reps']:.1%}"
        for metric, summary in record["intervals"].items()
    ]
    if record["permutations"]:
        parts.append(f"false alarms {record['rejected'] / record['reps']:.1%}")
    return f"{record['name']}: {', '.join(parts)} ({record['seconds']:.0f} s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, or render it; return 1 where the gate fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=2000, help="repetitions per cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, nargs="+", default=SIZES, help="images of each role")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per cell")
    parser.add_argument("--report", type=Path, help="render --out to this file; simulate nothing")
    options = parser.parse_args(arguments)
    study = list(cells(options.n))
    if options.report is None:
        run(study, options.out, options.reps, options.seed)
    done = read_records(options.out)
    records = [done[cell.name] for cell in study if cell.name in done]
    if not records:
        parser.error(f"{options.out} has no cell of this study; run it without --report first")
    if options.report is not None:
        others = designs_of_page(options.report)
        options.report.write_text(report(records, len(study)) + others, encoding="utf-8")
    failed = failures(records)
    print("\n".join(failed) or f"the gate holds in {len(records)} of {len(study)} cells")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
