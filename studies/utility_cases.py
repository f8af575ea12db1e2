"""Four synthetic cohorts of known use, and the verdicts of `synthbench utility`.

Usage: python studies/utility_cases.py --out FOLDER [--real 20] [--synth 200] [--test 300]
           [--shape 32 40 32] [--extractor voxels] [--seed 0]

Subjects are simulated (the embedded cohort), with another seed for each role:

good            other subjects with their own labels: what a perfect generator would sample
memorizer       the training volumes themselves, with their labels
mislabelled     the good volumes with reversed labels: the other class, or 105 years less the age
uninformative   the good volumes with shuffled labels

The labels are age, and whether a subject is above 52.5 years, which makes two classes. Simulated
volumes are kept in FOLDER: name another one for another seed. The table (markdown) goes to standard
output; exit 1 where a verdict is not the expected one. With only 20 real subjects this may happen
because power is low.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.simulation.cohort import atlas_cohort
from synthbench.simulation.subject import AGE_RANGE
from synthbench.utility.study import utility

MIDDLE = sum(AGE_RANGE) / 2
EXPECTED = {
    "good": ("helped",),
    "memorizer": ("did not help",),
    "mislabelled": ("hurt",),
    "uninformative": ("hurt", "did not help"),
}
ACCEPTED = ("identical-across", "subjects")


def simulated(given: argparse.Namespace, role: str, n: int, seed: int) -> Cohort:
    """Return simulated subjects, with a column that says who is older."""
    folder: Path = given.out / f"{role}-{n}"
    if not (folder / "participants.tsv").is_file():
        atlas_cohort(n, folder, seed=seed, shape=given.shape)
    return with_ages(read_cohort(folder, role=role), lambda ages: ages)


def with_ages(cohort: Cohort, change: Callable[[np.ndarray], np.ndarray]) -> Cohort:
    """Return a cohort with other ages in its table."""
    table: pd.DataFrame = cohort.participants.copy()
    table["age"] = change(table["age"].to_numpy(dtype=np.float64))
    table["older"] = np.where(table["age"] > MIDDLE, "yes", "no")
    return replace(cohort, participants=table)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--real", type=int, default=20)
    parser.add_argument("--synth", type=int, default=200)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--shape", type=int, nargs=3, default=(32, 40, 32))
    parser.add_argument("--extractor", default="voxels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    first = 1000 * given.seed
    real = simulated(given, "real", given.real, first + 201)
    good = simulated(given, "good", given.synth, first + 202)
    test = simulated(given, "test", given.test, first + 203)
    shuffled = np.random.default_rng(given.seed)
    synths = {
        "good": good,
        "memorizer": real,
        "mislabelled": with_ages(good, lambda ages: 2 * MIDDLE - ages),
        "uninformative": with_ages(good, shuffled.permutation),
    }
    print("| label | synthetic volumes | real | synthetic | real + synthetic "
          "| real + augmentation | verdict | s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|", flush=True)
    wrong = 0
    for label in ("older", "age"):
        for name, synth in synths.items():
            began = time.perf_counter()
            record = utility(
                real, synth, test, label, extractor=given.extractor, ratios=(),
                accept=ACCEPTED, seed=given.seed,
            )  # fmt: skip
            found = record.summary
            arms = " | ".join(
                f"{found.arms[arm]:.3f}"
                for arm in ("real", "synthetic", "real + synthetic", "real + augmentation")
            )
            seconds = time.perf_counter() - began
            print(f"| {label} | {name} | {arms} | {found.sentence} | {seconds:.0f} |", flush=True)
            wrong += found.verdict not in EXPECTED[name]
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
