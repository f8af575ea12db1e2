"""Time of a first and of a second `synthbench score` with all default metrics.

Usage: python studies/scoring_speed.py [--n 86] [--again 1] [--scratch FOLDER]
       python studies/scoring_speed.py --real COHORT --synth COHORT [--train COHORT]

Without cohorts, simulated ones of n subjects are written: 91 x 109 x 91 voxels of 2 mm. The first
run starts with an empty cache; the second has what the first one kept. Each is a process of its
own, as a user starts it, so the times include the start of Python. Training volumes add the tests
of copies: --train COHORT, or --with-train for simulated ones.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from synthbench.cohorts.preflight.check import RULES
from synthbench.records.scorecard import Scorecard
from synthbench.simulation.cohort import atlas_cohort

SHAPE = (91, 109, 91)
"""The grid of MNI152 at 2 mm."""


@dataclass(frozen=True)
class Timed:
    """One scoring: wall and CPU seconds, and its scorecard."""

    wall: float
    cpu: float
    card: Scorecard


def simulated(folder: Path, n: int, roles: list[str]) -> dict[str, Path]:
    """Return simulated cohorts by role, which are written where they are not there yet."""
    return {
        role: atlas_cohort(n, folder / f"{role}-{n}", seed=seed, shape=SHAPE)
        if not (folder / f"{role}-{n}" / "participants.tsv").exists()
        else folder / f"{role}-{n}"
        for seed, role in enumerate(roles)
    }


def timed(cohorts: dict[str, Path], cache: Path, out: Path) -> Timed:
    """Score in a process of its own, and return its time."""
    command = [sys.executable, "-m", "synthbench", "score", "--extractor", "random-resnet10"]
    for role, path in cohorts.items():
        command += [f"--{role}", str(path)]
    # Faults of the volumes change no time.
    for rule in RULES:
        command += ["--accept", rule]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(out)], env={**os.environ, "SYNTHBENCH_CACHE": str(cache)},
        capture_output=True, text=True, check=False, encoding="utf-8", errors="replace"
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timed(wall, cpu, Scorecard.load(out))


def same(one: Scorecard, other: Scorecard) -> bool:
    """Return True where scorecards differ in nothing but the time at which they were made."""
    first, second = (card.model_copy(update={"created": ""}) for card in (one, other))
    return first.model_dump_json() == second.model_dump_json()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for role in ("real", "synth", "train"):
        parser.add_argument(f"--{role}", type=Path)
    parser.add_argument("--with-train", action="store_true")
    parser.add_argument("--n", type=int, default=86)
    parser.add_argument("--again", type=int, default=1, help="number of scorings after the first")
    parser.add_argument("--scratch", type=Path, help="folder in which simulated cohorts stay")
    given = parser.parse_args()
    if (given.real is None) != (given.synth is None):
        parser.error("give --real and --synth, or neither")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.scratch or Path(temporary)
        if given.real is None:
            roles = ["real", "synth", *(["train"] if given.with_train else [])]
            cohorts = simulated(folder, given.n, roles)
        else:
            named = {role: getattr(given, role) for role in ("real", "synth", "train")}
            cohorts = {role: path for role, path in named.items() if path is not None}
        runs = [
            timed(cohorts, Path(temporary) / "cache", Path(temporary) / f"{i}.json")
            for i in range(1 + given.again)
        ]
    card = runs[0].card
    sizes = ", ".join(
        f"{getattr(card, role).n} {role}" for role in cohorts if getattr(card, role) is not None
    )
    print(
        f"{sizes}; scored on {' x '.join(map(str, card.protocol.space.shape))}; "
        f"{os.cpu_count()} cores; Python {sys.version.split()[0]}, torch {torch.__version__}\n"
    )
    print("| scoring | s | CPU s | same scorecard |\n| --- | ---: | ---: | --- |")
    for i, run in enumerate(runs):
        name = "first: empty cache" if i == 0 else f"again ({i})"
        print(f"| {name} | {run.wall:.1f} | {run.cpu:.1f} | "
              f"{'yes' if same(run.card, card) else 'NO'} |")  # fmt: skip


if __name__ == "__main__":
    main()
