"""Power and false alarms of preflight, for mirrored and for moved volumes.

    python studies/preflight_power.py REAL

Each volume of a real cohort is mirrored left-right, or moved, in turn, in random subsets of
several sizes; the rest of the subset is left as it is. Prints the tables of docs/preflight.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from synthbench.cohorts.cohort import Entry, read_volume
from synthbench.cohorts.inspection import cell_means
from synthbench.cohorts.preflight import alignment
from synthbench.cohorts.preflight.set_rules import MIN_SHIFT_MM, mirrored_left_right
from synthbench.cohorts.preflight.survey import Survey, inspection_of
from synthbench.cohorts.reading import read_cohort

SIZES = (8, 15, 30, 60)
SUBSETS = 40
MOVED = 20  # number of volumes that are moved, along each axis


def flips(entries: tuple[Entry, ...], rng: np.random.Generator) -> list[str]:
    """Return hits and false alarms for left-right flips, and the separation."""
    rows = ["volumes  found        false alarms  separation (median)"]
    for size in (*[s for s in SIZES if s < len(entries)], len(entries)):
        subsets = 1 if size == len(entries) else SUBSETS
        hits, alarms, separations = [], [], []
        for _ in range(subsets):
            chosen = rng.choice(len(entries), size, replace=False)
            survey = Survey([entries[i] for i in chosen])
            scores, power = survey.asymmetry, survey.power
            alarms += list(mirrored_left_right(scores, power))
            # If one volume is mirrored, its score changes sign, and the others hardly change.
            for i in range(size):
                with_flip = np.where(np.arange(size) == i, -scores, scores)
                hits.append(bool(mirrored_left_right(with_flip, power)[i]))
            separations.append(power.separation)
        rows.append(
            f"{size:7d}  {np.mean(hits):7.1%}      {np.sum(alarms)} of {len(alarms)}"
            f"     {np.median(separations):.1f}"
        )
    return rows


def moves(entries: tuple[Entry, ...], rng: np.random.Generator) -> list[str]:
    """Return the estimated displacements of volumes that were moved by whole voxels."""
    survey = Survey(entries)
    median = np.nanmedian(survey.displaced, axis=0)
    limit = [max(MIN_SHIFT_MM, 6 * alignment.spread(survey.displaced[:, a])[1]) for a in range(3)]
    rows = ["moved by  estimate (sd)  found"]
    mean = survey.mean.astype(np.float64)
    chosen = rng.choice(len(entries), min(MOVED, len(entries)), replace=False)
    for voxels in (1, 2, 3):
        found, errors = [], []
        for i in chosen:
            inspection, volume = inspection_of(entries[i]), read_volume(entries[i])
            spacing = inspection.grid.spacing
            for axis in range(3):
                moved = np.roll(volume, voxels, axis) - np.float32(inspection.background[1])
                coarse = cell_means(moved, spacing, inspection.coarse_grid.spacing[0])
                lies = alignment.displacements(
                    coarse[None] / inspection.scale, survey.coarse_grid.spacing, mean
                )[0]
                found.append(np.abs(lies[axis] - median[axis]) > limit[axis])
                errors.append(lies[axis] - median[axis])
        millimetres = voxels * survey.inspections[0].grid.spacing[0]
        rows.append(
            f"{millimetres:5.1f} mm  {np.mean(errors):.1f} ({np.std(errors):.1f})      "
            f"{np.mean(found):.0%}"
        )
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("real", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    entries = read_cohort(arguments.real).entries
    rng = np.random.default_rng(arguments.seed)
    print("\n".join([*flips(entries, rng), "", *moves(entries, rng)]))


if __name__ == "__main__":
    main()
