"""Sets of volumes for the tests of preflight, and ways to damage them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage

N = 9
SPACING = 5


def moved(affine, millimetres):
    """The same axes with an origin further to the right."""
    there = affine.copy()
    there[0, 3] += millimetres
    return there


def save(volumes, affine, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i, volume in enumerate(volumes):
        image = nib.Nifti1Image(volume.astype(np.float32), affine)
        nib.save(image, folder / f"sub-{folder.name}{i:02d}.nii")
    return folder


def only(third):
    """Change the volume of index 3 alone."""
    return lambda volume, i: third(volume) if i == 3 else volume


def with_scalp(volume):
    distance = ndimage.distance_transform_edt(volume == 0, sampling=SPACING)
    return volume + 0.7 * ((distance > 12) & (distance < 22))


def serious(findings):
    return [f for f in findings if f.rule != "few"]
