"""Whether a whole head still has its face: who has the face may be recognised.

Faces rendered from MRI were matched with photographs of their owners by software (Schwarz et al.
2019, NEJM 381:1684). The head is placed by the brain in it: the MNI152 brain is moved and pitched
until it correlates best with the coarse copy, and the face is where it then lies.
docs/privacy.md has the rates at which faces, and heads without one, are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64
from scipy import fft

from synthbench.cohorts.inspection import COARSE_MM, FOREGROUND, RIM_MM, Inspection, template_on
from synthbench.volumes.grid import Space

FACE_ML = 25.0
"""A face has at least this much foreground in the region below; with its front removed, less."""

LEAST_FIT = 0.4
"""The least correlation with the MNI152 brain of a head that is placed."""

PITCHES = (-20, -10, 0, 10, 20)
"""Degrees by which a head may be pitched; positive: nose up."""

# Nose, cheeks and upper lip in MNI152 space, in mm: in front of the eyes' back and below the brain.
_WIDTH, _BEHIND, _TOP, _BOTTOM = 50.0, 50.0, -25.0, -85.0
_CELLS = (30, 42, 36)
_CORNER = np.array([-87.0, -132.0, -102.0])  # centre of the first cell, in mm
_PAD = 18  # cells by which the brain may reach beyond the field of view


@dataclass(frozen=True)
class Face:
    """What was found of the face of a head.

    Attributes
    ----------
    fit
        Correlation of the head with the MNI152 brain where it is placed.
    foreground_ml
        Foreground in the region of the face; NaN where the head could not be placed.
    to_mni
        The affine from its own mm to those of the MNI152 brain, moved and pitched; None where the
        head could not be placed.
    """

    fit: float
    foreground_ml: float
    to_mni: Float64[np.ndarray, "4 4"] | None = field(default=None, repr=False, compare=False)

    @property
    def there(self) -> bool | None:
        """True where the head has a face; None where it could not be placed."""
        return None if np.isnan(self.foreground_ml) else self.foreground_ml >= FACE_ML


def face_of(inspection: Inspection) -> Face:
    """Return what is left of the face of a head.

    Parameters
    ----------
    inspection
        The measurements of a whole head, T1-weighted; it need not be registered.
    """
    coarse = inspection.coarse.astype(np.float64)
    padded = np.pad(coarse, _PAD)
    size = tuple(fft.next_fast_len(n, real=True) for n in padded.shape)
    if any(n < cells for n, cells in zip(padded.shape, _CELLS, strict=True)):
        return Face(0.0, float("nan"))
    spectra = (fft.rfftn(padded, size), fft.rfftn(padded**2, size))
    fits = {pitch: _correlations(pitch, size, spectra, padded.shape) for pitch in PITCHES}
    pitch = max(fits, key=lambda degrees: float(fits[degrees].max()))
    fit = float(fits[pitch].max())
    if fit < LEAST_FIT:
        return Face(fit, float("nan"))
    shift = np.array(np.unravel_index(int(fits[pitch].argmax()), fits[pitch].shape)) - _PAD
    turn = _turn(pitch).T
    from_cells = np.eye(4)
    from_cells[:3, :3], from_cells[:3, 3] = turn * COARSE_MM, turn @ (_CORNER - COARSE_MM * shift)
    inside = _in_face(coarse.shape, from_cells) & (inspection.coarse > FOREGROUND)
    to_mni = from_cells @ np.linalg.inv(inspection.coarse_grid.matrix)
    return Face(fit, float(inside.sum() * COARSE_MM**3 / 1000), to_mni)


def _correlations(
    pitch: int,
    size: tuple[int, ...],
    spectra: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, ...],
) -> Float64[np.ndarray, "a b c"]:
    """Return Pearson's correlation of the pitched brain with the head, for each of its places."""
    brain, near, norm = _brain(pitch)
    of_brain, of_near = (np.conj(fft.rfftn(values, size)) for values in (brain, near))
    places = tuple(slice(0, n - cells + 1) for n, cells in zip(shape, _CELLS, strict=True))

    def sums(spectrum: np.ndarray, of: np.ndarray) -> Float64[np.ndarray, "a b c"]:
        found: Float64[np.ndarray, "a b c"] = fft.irfftn(spectrum * of, size)[places]
        return found

    once, squared = spectra
    variance = sums(squared, of_near) - sums(once, of_near) ** 2 / near.sum()
    # Where the head is nearly constant, rounding would decide.
    return np.asarray(sums(once, of_brain) / np.sqrt(np.maximum(variance, 1e-3) * norm))


@lru_cache(maxsize=len(PITCHES))
def _brain(
    pitch: int,
) -> tuple[Float64[np.ndarray, "a b c"], Float64[np.ndarray, "a b c"], float]:
    """Return the pitched MNI152 image without its mean, the mask around its brain, and its norm."""
    turn = _turn(pitch).T
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * COARSE_MM, turn @ _CORNER
    image, distance = template_on(Space.of(_CELLS, affine))
    near = distance <= RIM_MM
    brain = np.where(near, image - image[near].mean(dtype=np.float64), 0).astype(np.float64)
    return brain, near.astype(np.float64), float((brain**2).sum())


def _turn(pitch: int) -> Float64[np.ndarray, "3 3"]:
    """Return the rotation about the axis from left to right; positive degrees lift the nose."""
    cosine, sine = np.cos(np.deg2rad(pitch)), np.sin(np.deg2rad(pitch))
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def _in_face(
    shape: tuple[int, ...], to_mni: Float64[np.ndarray, "4 4"]
) -> Bool[np.ndarray, "a b c"]:
    """Return the cells in the region of the face; `to_mni` takes an index of a cell to mm."""
    cells = np.indices(shape).reshape(3, -1)
    x, y, z = to_mni[:3, :3] @ cells + to_mni[:3, 3:]
    inside = (np.abs(x) < _WIDTH) & (y > _BEHIND) & (z < _TOP) & (z > _BOTTOM)
    return np.asarray(inside.reshape(shape))
