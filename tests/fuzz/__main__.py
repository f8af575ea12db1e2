"""Run the campaigns at length and print their table: `python -m tests.fuzz --cases 1000`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import Tally, campaign
from tests.fuzz.parsers import parsers

_MACHINE_BYTES = 4 * 2**30  # of the process: a parser that asks for more gets a MemoryError


def main() -> int:
    """Print a table and every fault; return 1 where there is one."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--cases", type=int, default=1000, help="damaged files per parser")
    options.add_argument("--seed", type=int, default=0, help="another seed makes other files")
    options.add_argument("--only", default="", help="parsers whose name holds this")
    chosen = options.parse_args()
    print("| parser | cases | refused | read | tracebacks | slowest | memory | outside |")
    print("|---|---|---|---|---|---|---|---|")
    faults, whole = [], Tally()
    for parser in parsers():
        if chosen.only not in parser.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            tally = campaign(parser, Path(folder), chosen.cases, chosen.seed)
        print(_row(parser.name, tally), flush=True)
        faults += [f"{parser.name}: {words}" for words in tally.faults.values()]
        for name in ("refused", "read", "traced", "outside"):
            setattr(whole, name, getattr(whole, name) + getattr(tally, name))
        whole.slowest = max(whole.slowest, tally.slowest)
        whole.peak = max(whole.peak, tally.peak)
    print(_row("all", whole))
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(faults))


def _row(name: str, tally: Tally) -> str:
    return (
        f"| {name} | {tally.cases:,} | {tally.refused:,} | {tally.read:,} | {tally.traced} | "
        f"{tally.slowest:.2f} s | {tally.peak / 2**20:.0f} MiB | {tally.outside} |"
    )


if __name__ == "__main__":
    sys.exit(main())
