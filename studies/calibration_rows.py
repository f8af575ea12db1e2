"""Write two cohorts of training volumes, whose scores help to read a leaderboard.

Usage: python studies/calibration_rows.py RUN OUT

RUN is any run folder: its training cohort is read again and resampled to its space. OUT/training
has these volumes, OUT/training-blurred the same volumes blurred with a Gaussian of sigma = one
voxel. Both are real data: the terms of use of the data bind OUT too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from synthbench.cohorts.reading import read_cohort
from synthbench.runs.folder import Run
from synthbench.runtime.files import write_atomic
from synthbench.volumes.grid import Space
from synthbench.volumes.nifti import nifti_bytes


def main(run_folder: str, out: str) -> None:
    """Write both cohorts."""
    run = Run.open(run_folder)
    grid = run.record["space"]
    space = Space.of(grid["shape"], np.array(grid["affine"]).reshape(4, 4))
    cohort = read_cohort(run.config["real"])
    for name, sigma in (("training", 0.0), ("training-blurred", 1.0)):
        folder = Path(out) / name
        folder.mkdir(parents=True)
        for index, volume in enumerate(cohort.volumes(space, run.config["intensity"])):
            changed = ndimage.gaussian_filter(volume, sigma) if sigma else volume
            content = nifti_bytes(changed, space, f"real volume, blurred by {sigma:g} voxels")
            write_atomic(folder / f"{name}-{index:03d}.nii.gz", content)
        print(f"{folder}: {len(cohort)} volumes")


if __name__ == "__main__":
    main(*sys.argv[1:])
