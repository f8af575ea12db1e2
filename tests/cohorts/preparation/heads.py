"""Whole heads whose brain, pose and tissues are known: a brain, wrapped in a head, and scanned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.settings import Registration, Settings
from synthbench.volumes.grid import PAPER_GRID, Space

SPACING = 3.0
UNITS = 1000.0
GRID = PAPER_GRID.regrid((48, 56, 48))

_PLACES = {"brain_spacing_mm": 4.0, "places": 1, "candidates": 2, "poses": 1}

# As the defaults in all but the voxel sizes and the number of starts, for speed.
COARSE = Settings.model_validate(
    {
        "shape": GRID.shape,
        "affine": GRID.affine,
        "denoise": False,
        "bias": {"head_spacing_mm": 9.0, "brain_spacing_mm": 9.0, "iterations": (20, 20)},
        "registration": {
            **_PLACES,
            "pitches_deg": (-30, -10, 10, 30),
            "rolls_deg": (-10, 10),
            "yaws_deg": (-10, 10),
        },
        "extraction": {"spacing_mm": 3.0},
    }
)
ALL_TURNS = Registration.model_validate(_PLACES)
"""Its search, but with the turns of the defaults."""


@dataclass(frozen=True)
class Head:
    """A simulated scan and its truth.

    `pose` maps MNI152 millimetres to the scanner's; `brain` is the mask on the scan's grid.
    """

    scan: Image
    pose: np.ndarray
    brain: np.ndarray


def turned(pitch: float, roll: float, yaw: float, shift: tuple[float, float, float]) -> np.ndarray:
    """A rotation in degrees about x, y and z, in this order, and then a shift in mm."""
    pose = np.eye(4)
    for axis, degrees in enumerate((pitch, roll, yaw)):
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        rotation = np.eye(4)
        one, other = (axis + 1) % 3, (axis + 2) % 3
        rotation[one, one] = rotation[other, other] = cosine
        rotation[one, other], rotation[other, one] = -sine, sine
        pose = rotation @ pose
    pose[:3, 3] = shift
    return pose


def scanned(brain: Image, pose: np.ndarray, seed: int = 0, noise: float = 0.02) -> Head:
    """Wrap a brain in fluid, skull, scalp and neck, and scan it in a pose.

    The noise is Rician, its standard deviation a share of the brightest tissue; a smooth bias
    field lies over all.
    """
    rng = np.random.default_rng(seed)
    # Room for the scalp around the brain, and for a neck below it.
    wide = brain.space.regrid((68, 82, 82), SPACING, (0.0, -18.0, -8.0))
    anatomy = brain.on(wide)
    full = Image((brain.volume > 0).astype(np.float32), brain.space).mask_on(wide)
    mask = ndimage.binary_fill_holes(full)
    whole = Image(np.where(mask, anatomy, wrapping(mask, wide)), wide)
    middle = wide.matrix @ [*(np.array(wide.shape) - 1) / 2, 1]
    right, front, top = (pose @ middle)[:3]
    scanner = wide.regrid(wide.shape, SPACING, (float(right), float(front), float(top)))
    to_head = np.linalg.inv(pose)
    signal = whole.on(scanner, to_head) * bias(scanner)
    real, imaginary = rng.normal(0, noise, (2, *scanner.shape))
    measured = np.sqrt((signal + real) ** 2 + imaginary**2) * UNITS
    truth = Image(mask.astype(np.float32), wide).mask_on(scanner, to_head)
    return Head(Image(measured.astype(np.float32), scanner), pose, truth)


def wrapping(brain: np.ndarray, space: Space) -> np.ndarray:
    """Fluid (2 mm), skull (6 mm) and scalp (7 mm) around a brain, and a neck below it."""
    distance = ndimage.distance_transform_edt(~brain, SPACING)
    shells = np.select([distance <= 2, distance <= 8, distance <= 15], [0.12, 0.04, 0.9], 0.0)
    x, y, z = (space.matrix[a, 3] + SPACING * np.arange(space.shape[a]) for a in range(3))
    column = ((x[:, None] / 55) ** 2 + ((y[None] + 35) / 60) ** 2 < 1)[..., None]
    return np.where(column & (z < -78) & ~brain, 0.55, shells).astype(np.float32)


def bias(space: Space) -> np.ndarray:
    """A field between 0.75 and 1.25 that varies smoothly over the volume."""
    axes = np.meshgrid(*[np.linspace(-1, 1, side) for side in space.shape], indexing="ij")
    return np.asarray(1 + 0.25 * np.sin(axes[1] * 1.5) * np.cos(axes[2] * 1.2))


def save(scan: Image, file: Path) -> Path:
    """Write a scan as NIfTI, its axes as sagittal scans have them: posterior, superior, right."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.round(scan.volume).astype(np.int16), scan.space.matrix)
    wanted = nib.orientations.axcodes2ornt(("P", "S", "R"))
    now = nib.orientations.io_orientation(image.affine)
    sagittal = image.as_reoriented(nib.orientations.ornt_transform(now, wanted))
    sagittal.set_sform(sagittal.affine, code="scanner")
    nib.save(sagittal, file)
    return file


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Twice the overlap over the sum of both."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


CUBE = Space.of((40, 40, 40), np.diag([4.0, 4.0, 4.0, 1.0]))


def ball(radius: float, side: int = 40) -> np.ndarray:
    grid = np.indices((side,) * 3) - (side - 1) / 2
    return np.asarray((grid**2).sum(axis=0) < radius**2)


def rician(signal: np.ndarray, sd: float, seed: int = 0) -> np.ndarray:
    real, imaginary = np.random.default_rng(seed).normal(0, sd, (2, *signal.shape))
    return np.asarray(np.sqrt((signal + real) ** 2 + imaginary**2), dtype=np.float32)
