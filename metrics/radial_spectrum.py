"""The radial power spectrum of a volume inside a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.fft import fftfreq, rfftfreq, rfftn
from scipy.ndimage import distance_transform_edt

from synthbench.errors import MetricError

TAPER_MM = 8.0
"""Depth in mm over which the window rises from 0 at the mask's border to 1: no hard edge."""

SMALLEST_SIDE = 8
"""Smallest number of voxels of the mask's bounding box along each axis."""

QUANTUM = (1 / 255) ** 2 / 12
"""Variance of rounding to 8 bits: power below it shows how a volume was stored, not its content."""


def radial_profile(
    volume: Float32[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Return a volume's radially averaged power spectrum inside the mask.

    Parameters
    ----------
    volume
        Intensities in [0, 1].
    mask
        The voxels that count.
    spacing
        Voxel sizes in mm.

    Returns
    -------
    Frequencies in cycles/mm, and power spectral density in dB of 1 mm^3 (squared intensity
    times mm^3).

    Raises
    ------
    MetricError
        The mask is too small, or the spacing is not three positive numbers.
    """
    radial = radial_bins(mask, checked_spacing(spacing))
    return radial.frequencies, log_spectrum(volume, radial)


@dataclass(frozen=True)
class _RadialBins:
    """The box of a spectrum, its window, and the bin of each frequency.

    `bins` holds the bin of each coefficient of the half spectrum, with 0 for those left out.
    `shares` holds the weight of each coefficient in the mean of its bin. `frequencies` are those
    of the bins 1, 2, ... in cycles/mm. `density` is the factor from power to power density, and
    `floor` the density of 8-bit rounding, which is added.
    """

    box: tuple[slice, slice, slice]
    window: Float32[np.ndarray, "d h w"]
    bins: Int64[np.ndarray, " f"]
    shares: Float64[np.ndarray, " f"]
    frequencies: Float64[np.ndarray, " k"]
    density: float
    floor: float


def radial_bins(
    mask: Bool[np.ndarray, "d h w"], spacing: tuple[float, float, float]
) -> _RadialBins:
    """Return the bins of a mask's spectrum; raise a MetricError where the mask is too small."""
    box = bounding_box(mask)
    window = _taper(mask, spacing)[box]
    shape = window.shape
    step = 1 / min(n * s for n, s in zip(shape, spacing, strict=True))
    nyquist = 1 / (2 * max(spacing))
    count = int(np.floor(nyquist / step + 1e-6))
    if count < 2:
        raise MetricError(
            f"spectrum: at least 2 frequencies of {step:.3g} cycles/mm must lie below the Nyquist "
            f"frequency {nyquist:.3g}; found {count} in a box of {shape} voxels of {spacing} mm. "
            "Use a larger mask, or resample to isotropic voxels.",
            "few frequencies",
            needed=2,
            found=count,
        )
    along = [fftfreq(shape[0], spacing[0]), fftfreq(shape[1], spacing[1])]
    half = rfftfreq(shape[2], spacing[2])
    radius = np.sqrt(along[0][:, None, None] ** 2 + along[1][:, None] ** 2 + half**2)
    bins = np.rint(radius / step).astype(np.int64)
    bins[bins > count] = 0
    # rfftn leaves out the mirror images of its coefficients. Those count twice here, except in
    # the planes that are their own mirror images.
    copies = np.full(half.shape, 2.0)
    copies[0] = 1.0
    if shape[2] % 2 == 0:
        copies[-1] = 1.0
    counts = np.broadcast_to(copies, bins.shape).ravel()
    totals = np.bincount(bins.ravel(), weights=counts, minlength=count + 1)
    voxel = float(np.prod(spacing))
    return _RadialBins(
        box=box,
        window=window,
        bins=bins.ravel(),
        shares=counts / totals[bins.ravel()],
        frequencies=step * np.arange(1, count + 1),
        density=voxel / float((window.astype(np.float64) ** 2).sum()),
        floor=QUANTUM * voxel,
    )


def _taper(
    mask: Bool[np.ndarray, "d h w"], spacing: tuple[float, float, float]
) -> Float32[np.ndarray, "d h w"]:
    """A window of 0 outside the mask that rises to 1 within `TAPER_MM` of its border."""
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    window: Float32[np.ndarray, "d h w"] = (
        np.sin(np.pi / 2 * np.minimum(depth / TAPER_MM, 1.0)) ** 2
    ).astype(np.float32)
    return window


def log_spectrum(
    volume: Float32[np.ndarray, "d h w"], radial: _RadialBins
) -> Float64[np.ndarray, " k"]:
    """Return the power spectral density of a volume in each bin, in dB of 1 mm^3."""
    inside = volume[radial.box]
    mean = np.average(inside, weights=radial.window.astype(np.float64))
    amplitude = rfftn((inside - np.float32(mean)) * radial.window)
    power = (
        amplitude.real.astype(np.float64) ** 2 + amplitude.imag.astype(np.float64) ** 2
    ).ravel()
    sums = np.bincount(radial.bins, weights=power * radial.shares)
    decibels: Float64[np.ndarray, " k"] = 10 * np.log10(sums[1:] * radial.density + radial.floor)
    return decibels


def others(axis: int) -> tuple[int, int]:
    """Return the two other axes of 0, 1 and 2."""
    first, second = (a for a in range(3) if a != axis)
    return first, second


def bounding_box(mask: Bool[np.ndarray, "d h w"]) -> tuple[slice, slice, slice]:
    """Return the mask's bounding box; raise a MetricError where a side is too short."""
    occupied = [np.flatnonzero(mask.any(axis=others(axis))) for axis in range(3)]
    sides = [int(o[-1] - o[0] + 1) if len(o) else 0 for o in occupied]
    if min(sides) < SMALLEST_SIDE:
        raise MetricError(
            f"spectrum: the mask must span at least {SMALLEST_SIDE} voxels along each axis; found "
            f"{'x'.join(map(str, sides))}. Use a larger mask, or volumes on a finer grid.",
            "small grid",
            needed=SMALLEST_SIDE,
            found=min(sides),
        )
    d, h, w = (slice(int(o[0]), int(o[-1]) + 1) for o in occupied)
    return d, h, w


def checked_spacing(
    spacing: tuple[float, float, float] | list[float] | None,
) -> tuple[float, float, float]:
    """Return the spacing; raise a MetricError unless it is three positive numbers."""
    sizes = np.asarray(np.nan if spacing is None else spacing, dtype=np.float64)
    if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise MetricError(
            "spacing: frequencies and patches are in physical units, so voxel sizes must be three "
            f"positive numbers of mm; found {spacing}. Pass spacing=(sx, sy, sz)."
        )
    assert spacing is not None
    return float(spacing[0]), float(spacing[1]), float(spacing[2])
