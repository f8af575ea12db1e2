"""Damage to single volumes: noise, blur, shading, shifts, warps, larger ventricles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64
from scipy import fft, ndimage

from synthbench.errors import UsageError
from synthbench.sensitivity.corruptions.base import Axes, Factors, Spacing, Volume
from synthbench.volumes.grid import Space

FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
WARP_LATTICE_MM = 30.0
BIAS_LATTICE_MM = 80.0


def head(volume: Volume) -> Bool[np.ndarray, "d h w"]:
    """Return the voxels above zero with holes filled: everything else is background."""
    return np.asarray(ndimage.binary_fill_holes(volume > 0), dtype=bool)


# --- intensities --------------------------------------------------------------------------------


def add_noise(volume: Volume, sd: float, rng: np.random.Generator) -> Volume:
    """Return a volume with Rician noise in the head.

    Rician noise is the magnitude of a complex signal with Gaussian noise in both parts.

    Parameters
    ----------
    volume
        Intensities in [0, 1].
    sd
        Standard deviation of the noise in each part, on the same scale. Where the signal is
        several times larger, the noise of the intensities has it too.
    rng
        Source of the noise.
    """
    import torch

    from synthbench.simulation.subject import rician

    noisy = rician(torch.from_numpy(np.ascontiguousarray(volume)), sd, rng).numpy()
    return np.where(head(volume), noisy, np.float32(0))


def add_background_noise(volume: Volume, sd: float, rng: np.random.Generator) -> Volume:
    """Return a volume with Gaussian noise around the head, its negative half cut off.

    Generators whose samples are clipped at zero leave such noise in an empty background.

    Parameters
    ----------
    volume
        Intensities in [0, 1].
    sd
        Standard deviation of the noise before the cut, on the same scale.
    rng
        Source of the noise.
    """
    noise = np.maximum(sd * rng.standard_normal(volume.shape), 0).astype(np.float32)
    return np.where(head(volume), volume, noise)


def blur(volume: Volume, fwhm: float, spacing: Spacing) -> Volume:
    """Return a volume blurred within the head by a Gaussian with this full width (FWHM) in mm.

    Normalised convolution (Knutsson and Westin 1993, CVPR): the blurred volume over the blurred
    head, so that the background does not darken the rim. The Gaussian is applied to the
    spectrum, where it is exact also when it is narrower than a voxel.
    """
    sigma = fwhm / FWHM_PER_SIGMA / np.array(spacing)
    margin = np.ceil(4 * sigma).astype(int)
    inside = head(volume)

    def gaussian(frequencies: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        pairs = zip(frequencies, sigma, strict=True)
        return [np.exp(-2 * np.pi**2 * (f * s) ** 2) for f, s in pairs]

    weighted = _filter(volume, gaussian, margin)
    weight = _filter(inside.astype(np.float32), gaussian, margin)
    blurred = np.zeros_like(volume)
    blurred[inside] = weighted[inside] / weight[inside]
    return blurred


def shade(volume: Volume, peak_to_peak: float, space: Space, rng: np.random.Generator) -> Volume:
    """Return a volume multiplied by a smooth random bias field.

    The field is a cubic B-spline on an 80 mm lattice, stretched so that over the head it runs
    from 1 - `peak_to_peak` / 2 to 1 + `peak_to_peak` / 2.
    """
    field = _smooth_field(rng, BIAS_LATTICE_MM, space)
    inside = field[head(volume)]
    low, high = inside.min(), inside.max()
    factor = 1 + peak_to_peak * ((field - low) / (high - low) - 0.5)
    return np.asarray(volume * factor, dtype=np.float32)


# --- places -------------------------------------------------------------------------------------


def shift(volume: Volume, millimetres: Float64[np.ndarray, " 3"], spacing: Spacing) -> Volume:
    """Return a volume translated along the three axes, filled with zero.

    The shift is a phase of the spectrum, which keeps every frequency; interpolation between
    voxels would also blur. (By half a voxel, the mean squared gradient within a brain at 2 mm
    falls to 52% by linear and to 85% by cubic interpolation, and is 101% by the phase.)
    """
    offset = np.asarray(millimetres) / np.array(spacing)
    margin = np.ceil(np.abs(offset)).astype(int) + 2

    def phases(frequencies: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        pairs = zip(frequencies, offset, strict=True)
        return [np.exp(-2j * np.pi * f * o) for f, o in pairs]

    return _move(volume, phases, margin)


def misalign_slices(
    volume: Volume, sd: float, spacing: Spacing, rng: np.random.Generator
) -> Volume:
    """Return a volume with every axial slice translated separately at random within its plane.

    Parameters
    ----------
    volume
        A volume in RAS+: slices lie along the last axis.
    sd
        Standard deviation in mm of the translation along each of the two axes.
    spacing
        Voxel size in mm.
    rng
        Source of the translations.
    """
    slices = volume.shape[2]
    offsets = sd * rng.standard_normal((2, slices)) / np.array(spacing[:2])[:, None]
    margin = np.array([*np.ceil(np.abs(offsets).max(axis=1)).astype(int) + 2, 0])

    def phases(frequencies: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        in_plane = zip(frequencies[:2], offsets, strict=True)
        return [np.exp(-2j * np.pi * f * o) for f, o in in_plane]

    return _move(volume, phases, margin, axes=(0, 1))


def warp(volume: Volume, rms: float, space: Space, rng: np.random.Generator) -> Volume:
    """Return a volume under a smooth random deformation.

    Each component of the displacement is a cubic B-spline on a 30 mm lattice. Over the head its
    mean is zero (a warp does not shift) and its root mean squared length is `rms` mm. Folding
    starts far above 5 mm.
    """
    return resample_displaced(volume, warp_displacement(head(volume), rms, space, rng))


def warp_displacement(
    inside: Bool[np.ndarray, "d h w"], rms: float, space: Space, rng: np.random.Generator
) -> Float64[np.ndarray, "3 d h w"]:
    """Return the displacement of `warp`, in voxels along each axis."""
    field = np.stack([_smooth_field(rng, WARP_LATTICE_MM, space) for _ in range(3)])
    within = field[:, inside]
    mean = within.mean(axis=1)
    length = np.sqrt(((within - mean[:, None]) ** 2).sum(axis=0).mean())
    millimetres = (field - mean[:, None, None, None]) * (rms / length)
    voxels: Float64[np.ndarray, "3 d h w"] = millimetres / _per_axis(space.spacing)
    return voxels


def enlarge_ventricles(volume: Volume, percent: float, space: Space) -> Volume:
    """Return a volume with larger lateral ventricles and less white matter around them.

    The deformation is the one that ages the embedded atlas: it makes the ventricles of the
    MNI152 template larger by `percent` of their volume. It uses no segmentation, so it is an
    approximation for a single person: the volume must be registered to MNI152, and ventricles
    that are larger than the template's grow by a smaller share.

    Raises
    ------
    UsageError
        The deformation cannot make them that large.
    """
    return resample_displaced(volume, _ventricle_displacement(percent, space))


def resample_displaced(volume: Volume, displacement: Float64[np.ndarray, "3 d h w"]) -> Volume:
    """Return a volume whose voxels in the head are read at displaced places.

    Values are interpolated by quintic splines, which keep more detail than lower ones. The head
    itself moves by linear interpolation, so that background is exactly zero.

    Parameters
    ----------
    volume
        Zero outside the head.
    displacement
        From each voxel to where its value comes from, in voxels along each axis.
    """
    points = np.indices(volume.shape, dtype=np.float64) + displacement
    moved = ndimage.map_coordinates(head(volume).astype(np.float32), points, order=1) > 0.5
    result = np.zeros_like(volume)
    result[moved] = ndimage.map_coordinates(volume, points[:, moved], order=5)
    return result


@lru_cache(maxsize=2)
def _ventricle_displacement(percent: float, space: Space) -> Float64[np.ndarray, "3 d h w"]:
    """Return the backward displacement in voxels that widens the template's ventricles."""
    import torch

    from synthbench.simulation.deformation import CORNER_MM, EXTENT_MM, exponential, sample
    from synthbench.simulation.template import GROWTH_STRENGTHS, template_anatomy

    anatomy = template_anatomy()
    log_ratio = math.log1p(percent / 100)
    if log_ratio > anatomy.log_ratios[-1]:
        largest = 100 * math.expm1(anatomy.log_ratios[-1])
        raise UsageError(
            f"ventricles: they can be made up to {largest:.0f}% larger; found {percent:g}%. "
            "Use a smaller dose."
        )
    strength = float(np.interp(log_ratio, anatomy.log_ratios, GROWTH_STRENGTHS))
    box = exponential(-strength * anatomy.ventricle_growth)
    half = np.array(EXTENT_MM) / 2
    linear, origin = space.matrix[:3, :3], space.matrix[:3, 3]
    voxels = np.indices(space.shape, dtype=np.float64)
    places = np.einsum("ij,jabc->iabc", linear, voxels) + origin[:, None, None, None]
    # The atlas uses units of its box, -1 and 1 at the faces, in the order z, y, x.
    points = (places - _per_axis(CORNER_MM)) / _per_axis(half) - 1
    ordered = torch.from_numpy(np.moveaxis(points[::-1], 0, -1).astype(np.float32))
    sampled = sample(box, ordered, outside="border").numpy()[::-1]
    millimetres = sampled.astype(np.float64) * _per_axis(half)
    displacement: Float64[np.ndarray, "3 d h w"] = np.einsum(
        "ij,jabc->iabc", np.linalg.inv(linear), millimetres
    )
    displacement.flags.writeable = False
    return displacement


def _per_axis(numbers: Sequence[float] | np.ndarray) -> Float64[np.ndarray, "3 1 1 1"]:
    return np.asarray(numbers, dtype=np.float64).reshape(3, 1, 1, 1)


def _smooth_field(
    rng: np.random.Generator, lattice_mm: float, space: Space
) -> Float64[np.ndarray, "d h w"]:
    """Return a cubic B-spline of standard normal coefficients over the grid's field of view."""
    from synthbench.simulation.deformation import spline_basis

    cells = [side * mm / lattice_mm for side, mm in zip(space.shape, space.spacing, strict=True)]
    field = rng.standard_normal([math.ceil(c) + 3 for c in cells])
    for axis, side in enumerate(space.shape):
        basis = spline_basis(side, cells[axis], math.ceil(cells[axis]) + 3)
        # Each pass takes the first axis and appends the new one.
        field = np.einsum("sk,kab->abs", basis, field)
    return field


def _filter(volume: Volume, factors: Factors, margin: np.ndarray, axes: Axes = (0, 1, 2)) -> Volume:
    """Return a volume whose spectrum is multiplied by factors of the frequencies.

    Frequencies are in cycles per voxel, along each axis. `margin` voxels of zero on each side
    prevent that what leaves one side enters on the other.
    """
    before = [int(m) for m in margin]
    sides = [
        fft.next_fast_len(side + 2 * m, real=True) if axis in axes else side
        for axis, (side, m) in enumerate(zip(volume.shape, before, strict=True))
    ]
    padding = [
        (m, total - side - m) for m, total, side in zip(before, sides, volume.shape, strict=True)
    ]
    frequencies = [
        (np.fft.rfftfreq if axis == axes[-1] else np.fft.fftfreq)(n).reshape(
            [-1 if other == axis else 1 for other in range(3)]
        )
        for axis, n in enumerate(sides)
    ]
    spectrum = fft.rfftn(np.pad(volume, padding), axes=axes)
    for factor in factors(frequencies):
        spectrum *= factor
    filtered = fft.irfftn(spectrum, s=[sides[axis] for axis in axes], axes=axes)
    crop = tuple(slice(m, m + side) for m, side in zip(before, volume.shape, strict=True))
    return np.asarray(filtered[crop], dtype=np.float32)


def _move(volume: Volume, factors: Factors, margin: np.ndarray, axes: Axes = (0, 1, 2)) -> Volume:
    """Return a volume translated with its head; ringing outside the moved head is set to zero."""
    moved = _filter(volume, factors, margin, axes)
    inside = _filter(head(volume).astype(np.float32), factors, margin, axes) > 0.5
    return np.where(inside, moved, np.float32(0))


def direction(rng: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    """Return a random unit vector, uniform over directions."""
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))
