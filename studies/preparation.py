"""Time of preparing a scan, and agreement of its brain mask with that of another pipeline.

Usage: python studies/preparation.py RAW REFERENCE [--brain builtin] [--subject sub-X ...]

RAW is a cohort of whole heads, REFERENCE a BIDS derivative of the same subjects, skull-stripped
and registered to MNI152 by another pipeline. The two affines differ. So before the masks are
compared, the reference's image is registered to the raw scan that it was made from (the correlation
is printed, and is near 1). Then our mask is resampled to the reference's grid by the affine between
the two. Prints a markdown table:

- Dice with the reference's non-zero voxels. Interpolation added a rim of half a voxel to them that
  belongs to no mask, so a perfect mask does not reach 1;
- the same, where our mask gets such a rim too: linear interpolation, all voxels above 0;
- processor seconds, and the distance between the two affines (RMS over the brain, mm).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synthbench.cohorts.datasets.find import find_scans
from synthbench.cohorts.preparation import Image, Settings, prepare_scan, read_image
from synthbench.cohorts.preparation.itk import one_thread, to_itk


def registered(reference: Image, scan: Image, start: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the affine from the reference's millimetres to the scan's, and the correlation."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation(start[:3, 3].tolist())
    inside = Image((reference.volume > 0.1 * reference.volume.max()).astype(np.float32),
                   reference.space)  # fmt: skip
    with one_thread():
        for step in (1.0, 0.2):
            method = sitk.ImageRegistrationMethod()
            method.SetMetricAsCorrelation()
            method.SetMetricFixedMask(to_itk(inside, sitk.sitkUInt8))
            method.SetInterpolator(sitk.sitkLinear)
            method.SetInitialTransform(transform, True)
            method.SetOptimizerAsRegularStepGradientDescent(step, 1e-4, 300)
            method.SetOptimizerScalesFromPhysicalShift()
            method.Execute(to_itk(reference), to_itk(scan))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix, -float(method.GetMetricValue())


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return twice the overlap over the sum of both."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--brain", default="builtin", help="the brain extraction")
    parser.add_argument("--subject", action="append")
    options = parser.parse_args()
    settings = Settings.chosen(brain_extraction=options.brain)
    references = {scan.participant_id: scan for scan in find_scans(options.reference).scans}
    print("| subject | Dice | Dice, with rim | mask mL | correlation | distance mm | CPU s |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for found in find_scans(options.raw).scans:
        person = found.participant_id
        if person not in references or (options.subject and person not in options.subject):
            continue
        began = time.process_time()
        scan = read_image(found.path, found.axes)
        prepared = prepare_scan(scan, settings)
        seconds = time.process_time() - began
        reference = read_image(references[person].path)
        to_scan, correlation = registered(reference, scan, prepared.affine.matrix)
        to_ours = np.linalg.inv(prepared.affine.matrix) @ to_scan
        theirs = reference.volume > 0
        mask = Image(prepared.mask.astype(np.float32), prepared.space)
        ours = mask.on(reference.space, to_ours)
        there = np.argwhere(theirs) @ reference.space.matrix[:3, :3].T
        there = np.column_stack([there + reference.space.matrix[:3, 3], np.ones(len(there))])
        apart = np.sqrt((((to_ours - np.eye(4)) @ there.T) ** 2).sum(axis=0).mean())
        row = (dice(ours >= 0.5, theirs), dice(ours > 1e-3, theirs), prepared.facts["brain_ml"],
               correlation, apart, seconds)  # fmt: skip
        rows.append(row)
        print(f"| {person} | " + " | ".join(f"{value:.4g}" for value in row) + " |", flush=True)
    medians = np.median(rows, axis=0)
    print("| median | " + " | ".join(f"{value:.4g}" for value in medians) + " |")


if __name__ == "__main__":
    main()
