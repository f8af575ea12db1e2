"""Power spectra and slice-to-slice seams: sharpness, texture and slice-wise artefacts.

A generator that blurs lacks power at high spatial frequencies; upsampling layers add some.
Slice-wise (2.5-D) and tiled generators leave seams: planes at which the volume jumps.

The brain's outline against an empty background would dominate both. So the spectrum is that
of the deviation from the in-mask mean, faded out towards the border of the mask, and seams are
measured at voxels whose neighbours lie in the mask too.

References
----------
Durall, Keuper and Keuper, "Watch your up-convolution: CNN based generative deep neural networks
are failing to reproduce spectral distributions", CVPR 2020: the azimuthally averaged spectrum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.fft import fftfreq, rfftfreq, rfftn
from scipy.ndimage import distance_transform_edt, uniform_filter1d

from synthbench.errors import MetricError
from synthbench.metrics.inference import distinct_pairs, estimate, ratio, subject_index
from synthbench.metrics.intensity import (
    Array,
    Stack,
    check_set,
    checked_volumes,
    stack_mask,
)
from synthbench.metrics.metric import (
    BaseMetric,
    IntervalMethod,
    Needs,
    Part,
    Target,
    VolumeSource,
    Weights,
    check_features,
)
from synthbench.metrics.mmd import KernelDiscrepancy, squared_distances

AXES = ("x", "y", "z")
DRAWN_AXIS = "z"
"""The axis whose seams a figure shows: one stands for all three."""

TAPER_MM = 8.0
"""Depth inside the mask over which a volume is faded in, so that the mask has no hard edge."""

PATCH_MM = 30.0
"""Side of the patches over which differences between slices are averaged."""

SLICE_SHARE = 0.2
"""A slice counts where its part of the mask is at least this share of the largest slice's."""

SMALLEST_SIDE = 8
"""Voxels that the mask's bounding box needs along each axis."""

QUANTUM = (1 / 255) ** 2 / 12
"""Variance of rounding to 8 bits: power below it says how a volume was stored, not how it is."""


@dataclass(frozen=True)
class SeamDistance:
    """Squared difference of the sets' mean seam profiles along an axis; dB^2.

    Isotropic blur, noise and contrast move the levels of all axes alike, so profiles are taken
    relative to the volume's mean level along another axis: that of the other two which rose
    less from the real to the synthetic set, because a seam along one axis should not move the
    numbers of the others. The choice biases it upward by less than the sampling variance of a
    mean level.

    Attributes
    ----------
    first, second
        The distance relative to the one and to the other of the other axes.
    levels
        For each role, the images' mean levels along these two, in dB.
    """

    first: KernelDiscrepancy
    second: KernelDiscrepancy
    levels: Mapping[str, Float64[np.ndarray, "n 2"]]

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image, by role."""
        return self.first.subjects

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The U-statistic relative to the axis that rose less."""
        return np.where(
            self._first_rose_less(weights), self.first.value(weights), self.second.value(weights)
        )

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The three mean kernels in absolute values, relative to the axis that rose less."""
        return np.where(
            self._first_rose_less(weights),
            self.first.magnitude(weights),
            self.second.magnitude(weights),
        )

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The variance of its first-order term, as if the axis were given."""
        return np.where(
            self._first_rose_less(weights),
            self.first.variance(weights),
            self.second.variance(weights),
        )

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image."""
        chosen = self._first_rose_less(weights)[:, None]
        second = self.second.contributions(weights)
        return {
            role: np.where(chosen, terms, second[role])
            for role, terms in self.first.contributions(weights).items()
        }

    def _first_rose_less(self, weights: Weights) -> Bool[np.ndarray, " b"]:
        means = {
            role: ratio(weights[role] @ levels, weights[role].sum(axis=1, keepdims=True))
            for role, levels in self.levels.items()
        }
        rise = means["synth"] - means["real"]
        return np.asarray(rise[:, 0] <= rise[:, 1])


@dataclass(frozen=True)
class SpectrumDistance(KernelDiscrepancy):
    """Squared difference of the sets' mean log spectra, averaged over frequencies; dB^2.

    Attributes
    ----------
    seams
        For each axis, the squared difference of their mean seam profiles, averaged over slices.
    """

    seams: Mapping[str, SeamDistance]

    def parts(self) -> dict[str, Part]:
        """The seams along each axis."""
        return {
            f"seam_{a}": Part(f"seams along {a} (dB²)", seam, drawn=a == DRAWN_AXIS)
            for a, seam in self.seams.items()
        }


class Spectrum(BaseMetric):
    """Squared distance between the sets' mean power spectra in dB; unbiased, may be negative."""

    name = "spectrum"
    label = "spectrum (dB²)"
    drawn = True
    formula = (
        "U-statistic of the squared difference of mean 10 log10(radial power + 8-bit rounding), "
        "averaged over bins of 1/(mask box's shortest side) up to Nyquist; in-mask mean removed, "
        f"sin^2 taper of {TAPER_MM:g} mm into the mask. Seams: likewise of 10 log10 of each "
        f"slice's mean square second difference, averaged over {PATCH_MM:g} mm in-plane patches; "
        "less the volume's mean level along the other axis that rose less from real to synth; "
        f"slices of at least {SLICE_SHARE:g} of the largest"
    )
    needs: Needs = "volumes"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    sees = "blur, noise and upsampling patterns; its parts: slice jitter and borders between tiles"
    misses = "where a structure is: a volume and its mirror image have one spectrum"
    responds_to: tuple[str, ...] = ("blur", "noise", "slices")

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The voxel sizes, as {"spacing": [sx, sy, sz]} in mm.

        Raises
        ------
        MetricError
            There is no spacing, or it is not three positive numbers.
        """
        return {"spacing": list(_checked_spacing(spacing))}

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n k"]:
        """Return each volume's log spectrum and its seam profiles along x, y and z, side by side.

        A row is four blocks of one length, see `_block`.

        Parameters
        ----------
        volumes
            Float32 arrays, intensities in [0, 1].
        mask
            The voxels that count, of the real and the synthetic volumes alike.
        settings
            What `freeze` gave: the spacing in mm.
        progress
            Called with the volumes done and their total.

        Raises
        ------
        MetricError
            As `check_set` and `checked_volumes`, or the mask is too small.
        """
        check_set(self.name, volumes, mask)
        spacing = _checked_spacing(settings.get("spacing"))
        radial, slices = _radial_bins(mask, spacing), _slices(mask, spacing)
        rows = []
        for index, volume in enumerate(checked_volumes(self.name, volumes, mask)):
            profiles = [_log_spectrum(volume, radial), *_seam_profiles(volume, slices)]
            length = 1 + max(len(profile) for profile in profiles)
            rows.append(np.concatenate([_block(profile, length) for profile in profiles]))
            if progress is not None:
                progress(index + 1, len(volumes))
        return np.stack(rows)

    def prepare(
        self,
        real: Float64[np.ndarray, "n k"],
        synth: Float64[np.ndarray, "m k"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> SpectrumDistance:
        """The distances, from the rows of `measure`.

        Parameters
        ----------
        real, synth
            One row a volume, measured with one mask.
        subjects
            For each role, the subject of each image; None is one image a subject.
        settings
            What the rows were measured with; nothing more depends on it.

        Raises
        ------
        MetricError
            The rows are unusable, or of different length.
        """
        sets = check_features(self.name, real=real, synth=synth)
        index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
        if sets["real"].shape[1] % (1 + len(AXES)):
            raise MetricError(
                f"spectrum: a row must be {1 + len(AXES)} blocks of one length; found "
                f"{sets['real'].shape[1]} columns. Use the rows of Spectrum.measure."
            )
        spectrum, *real_seams = np.split(sets["real"], 1 + len(AXES), axis=1)
        synth_spectrum, *synth_seams = np.split(sets["synth"], 1 + len(AXES), axis=1)
        seams = [_seam_distance(axis, real_seams, synth_seams, index) for axis in range(3)]
        return SpectrumDistance(
            **_mean_kernels(spectrum, synth_spectrum, index),
            seams=dict(zip(AXES, seams, strict=True)),
        )


# Plain functions of arrays


def spectrum_distance(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None = None,
    *,
    spacing: tuple[float, float, float],
) -> float:
    """Squared distance between the mean power spectra of two sets of volumes.

    Parameters
    ----------
    x, y
        Real and synthetic volumes, intensities in [0, 1]: arrays, or tensors of any device.
    mask
        The voxels that count; None: all.
    spacing
        Voxel sizes in mm.

    Returns
    -------
    dB^2, averaged over frequencies up to the smallest Nyquist frequency: 9 is a difference of
    3 dB. Its expectation is zero for equal distributions, so it may be negative.

    Raises
    ------
    MetricError
        As `Spectrum.measure`.
    """
    return estimate(_prepared(x, y, mask, spacing))


def seam_energy(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None = None,
    *,
    spacing: tuple[float, float, float],
) -> dict[str, float]:
    """Squared distance between the mean seam profiles of two sets, along x, y and z.

    Parameters
    ----------
    x, y, mask, spacing
        See `spectrum_distance`.

    Returns
    -------
    For each axis, dB^2 averaged over slices; see `seam_profiles` for what is compared. Zero in
    expectation for equal distributions.

    Raises
    ------
    MetricError
        As `Spectrum.measure`.
    """
    seams = _prepared(x, y, mask, spacing).seams
    return {axis: estimate(seam) for axis, seam in seams.items()}


def radial_profile(
    volume: Float32[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """A volume's radially averaged power spectrum inside the mask.

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
        The mask is too small, or the spacing is no three positive numbers.
    """
    radial = _radial_bins(mask, _checked_spacing(spacing))
    return radial.frequencies, _log_spectrum(volume, radial)


def seam_profiles(
    volume: Float32[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
) -> list[Float64[np.ndarray, " _"]]:
    """How much each slice stands out from its two neighbours, along x, y and z.

    For a slice: the second difference across it, averaged over in-plane patches of `PATCH_MM`
    so that a jump of a whole plane counts for more than anatomy does, squared, and averaged over
    the slice.

    Parameters
    ----------
    volume, mask, spacing
        See `radial_profile`.

    Returns
    -------
    For each axis, dB of squared intensity at each slice that holds enough of the mask.

    Raises
    ------
    MetricError
        The mask is too small, or the spacing is no three positive numbers.
    """
    return _seam_profiles(volume, _slices(mask, _checked_spacing(spacing)))


# The spectrum


@dataclass(frozen=True)
class _RadialBins:
    """Where a spectrum is taken: the box, its window, and the bin of each frequency.

    `bins` holds the bin of each coefficient of the half spectrum, with 0 for those left out;
    `shares` what each counts for in its bin's mean; `density` turns power into a density.
    """

    box: tuple[slice, slice, slice]
    window: Float32[np.ndarray, "d h w"]
    bins: Int64[np.ndarray, " f"]
    shares: Float64[np.ndarray, " f"]
    frequencies: Float64[np.ndarray, " k"]
    density: float
    floor: float


def _radial_bins(
    mask: Bool[np.ndarray, "d h w"], spacing: tuple[float, float, float]
) -> _RadialBins:
    box = _bounding_box(mask)
    window = _taper(mask, spacing)[box]
    shape = window.shape
    step = 1 / min(n * s for n, s in zip(shape, spacing, strict=True))
    nyquist = 1 / (2 * max(spacing))
    count = int(np.floor(nyquist / step + 1e-6))
    if count < 2:
        raise MetricError(
            f"spectrum: at least 2 frequencies of {step:.3g} cycles/mm must lie below the Nyquist "
            f"frequency {nyquist:.3g}; found {count} in a box of {shape} voxels of {spacing} mm. "
            "Use a larger mask, or resample to isotropic voxels."
        )
    along = [fftfreq(shape[0], spacing[0]), fftfreq(shape[1], spacing[1])]
    half = rfftfreq(shape[2], spacing[2])
    radius = np.sqrt(along[0][:, None, None] ** 2 + along[1][:, None] ** 2 + half**2)
    bins = np.rint(radius / step).astype(np.int64)
    bins[bins > count] = 0
    # The other half of the spectrum mirrors this one, but for the planes that are their own.
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


def _log_spectrum(
    volume: Float32[np.ndarray, "d h w"], radial: _RadialBins
) -> Float64[np.ndarray, " k"]:
    inside = volume[radial.box]
    mean = np.average(inside, weights=radial.window.astype(np.float64))
    amplitude = rfftn((inside - np.float32(mean)) * radial.window)
    power = (
        amplitude.real.astype(np.float64) ** 2 + amplitude.imag.astype(np.float64) ** 2
    ).ravel()
    sums = np.bincount(radial.bins, weights=power * radial.shares)
    decibels: Float64[np.ndarray, " k"] = 10 * np.log10(sums[1:] * radial.density + radial.floor)
    return decibels


# Seams


@dataclass(frozen=True)
class _Slices:
    """Where seams along one axis are looked for, all in the mask's bounding box.

    `inside` marks voxels that lie in the mask with both neighbours along the axis; `voxels` is
    their number around each voxel, over the patch; `kept` are the slices with enough of them.
    """

    axis: int
    box: tuple[slice, slice, slice]
    inside: Bool[np.ndarray, "d h w"]
    patch: tuple[int, int, int]
    voxels: Float32[np.ndarray, "d h w"]
    per_slice: Float64[np.ndarray, " k"]
    kept: Int64[np.ndarray, " k"]


def _slices(mask: Bool[np.ndarray, "d h w"], spacing: tuple[float, float, float]) -> list[_Slices]:
    box = _bounding_box(mask)
    cropped = mask[box]
    return [_slices_along(axis, box, cropped, spacing) for axis in range(3)]


def _slices_along(
    axis: int,
    box: tuple[slice, slice, slice],
    mask: Bool[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
) -> _Slices:
    below, here, above = _neighbours(mask, axis)
    inside = below & here & above
    sides = [2 * round((PATCH_MM / s - 1) / 2) + 1 for s in spacing]
    sides[axis] = 1
    patch = (max(1, sides[0]), max(1, sides[1]), max(1, sides[2]))
    per_slice = inside.sum(axis=_others(axis)).astype(np.float64)
    kept = np.flatnonzero(per_slice >= max(1.0, SLICE_SHARE * per_slice.max()))
    if len(kept) == 0:
        raise MetricError(
            f"spectrum: the mask must be at least 3 voxels thick along {AXES[axis]}; found "
            f"{int(mask.sum())} voxels without both neighbours. Use a solid mask."
        )
    voxels = _patch_sums(inside.astype(np.float32), patch)
    return _Slices(axis, box, inside, patch, voxels, per_slice[kept], kept)


def _seam_profiles(
    volume: Float32[np.ndarray, "d h w"], slices: list[_Slices]
) -> list[Float64[np.ndarray, " _"]]:
    return [10 * np.log10(_slice_energies(volume, along)) for along in slices]


def _slice_energies(
    volume: Float32[np.ndarray, "d h w"], along: _Slices
) -> Float64[np.ndarray, " k"]:
    """Each slice's mean square patch average of the second difference across it."""
    below, here, above = _neighbours(volume[along.box], along.axis)
    difference = np.where(along.inside, below - 2 * here + above, np.float32(0))
    sums = _patch_sums(difference, along.patch)
    averages = np.divide(sums, along.voxels, out=np.zeros_like(sums), where=along.inside)
    squares = np.square(averages, dtype=np.float64).sum(axis=_others(along.axis))
    energies: Float64[np.ndarray, " k"] = squares[along.kept] / along.per_slice + QUANTUM
    return energies


def _patch_sums(
    values: Float32[np.ndarray, "d h w"], patch: tuple[int, int, int]
) -> Float32[np.ndarray, "d h w"]:
    sums = values
    for axis, side in enumerate(patch):
        if side > 1:
            sums = uniform_filter1d(sums, side, axis=axis, mode="constant") * np.float32(side)
    return sums


def _neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slices before, at and after each inner position of an axis."""
    n = values.shape[axis]
    below, here, above = (values.take(range(k, n - 2 + k), axis=axis) for k in range(3))
    return below, here, above


def _others(axis: int) -> tuple[int, int]:
    first, second = (a for a in range(3) if a != axis)
    return first, second


# Rows, and distances between their means


def _prepared(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None,
    spacing: tuple[float, float, float],
) -> SpectrumDistance:
    metric = Spectrum()
    settings = metric.freeze(None, None, spacing=spacing)
    inside = stack_mask(metric.name, x, mask)
    real, synth = (metric.measure(Stack(volumes), inside, settings) for volumes in (x, y))
    return metric.prepare(real, synth)


def _block(profile: Float64[np.ndarray, " k"], length: int) -> Float64[np.ndarray, " l"]:
    """A profile's mean, then its deviations from it over sqrt(k), then zeros.

    The squared distance of two blocks is the mean square difference of the profiles, whatever
    the length that they are padded to.
    """
    mean = profile.mean()
    deviations = (profile - mean) / np.sqrt(len(profile))
    return np.pad(np.concatenate([[mean], deviations]), (0, length - 1 - len(profile)))


def _seam_distance(
    axis: int,
    real: list[Float64[np.ndarray, "n l"]],
    synth: list[Float64[np.ndarray, "m l"]],
    index: Mapping[str, Int64[np.ndarray, " _"]],
) -> SeamDistance:
    first, second = (
        KernelDiscrepancy(
            **_mean_kernels(_relative(real, axis, other), _relative(synth, axis, other), index)
        )
        for other in _others(axis)
    )
    levels = {
        role: np.stack([blocks[other][:, 0] for other in _others(axis)], axis=1)
        for role, blocks in (("real", real), ("synth", synth))
    }
    return SeamDistance(first, second, levels)


def _relative(
    seams: list[Float64[np.ndarray, "n l"]], axis: int, other: int
) -> Float64[np.ndarray, "n l"]:
    """The blocks of an axis's profiles, relative to the mean level along another."""
    relative = seams[axis].copy()
    relative[:, 0] -= seams[other][:, 0]
    return relative


def _mean_kernels(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, "m k"],
    index: Mapping[str, Int64[np.ndarray, " _"]],
) -> dict[str, Any]:
    """The fields of a `KernelDiscrepancy` that is the squared distance between mean rows.

    The kernel is -|a - b|^2 / 2: for one image a subject its U-statistic is that of the linear
    kernel, and for several it does not depend on the origin, as that of the linear kernel does.
    """
    return {
        "real": distinct_pairs(-squared_distances(x, x) / 2, index["real"]),
        "synth": distinct_pairs(-squared_distances(y, y) / 2, index["synth"]),
        "cross": -squared_distances(x, y) / 2,
        "subjects": index,
    }


def _bounding_box(mask: Bool[np.ndarray, "d h w"]) -> tuple[slice, slice, slice]:
    occupied = [np.flatnonzero(mask.any(axis=_others(axis))) for axis in range(3)]
    sides = [int(o[-1] - o[0] + 1) if len(o) else 0 for o in occupied]
    if min(sides) < SMALLEST_SIDE:
        raise MetricError(
            f"spectrum: the mask must span at least {SMALLEST_SIDE} voxels along each axis; found "
            f"{'x'.join(map(str, sides))}. Use a larger mask, or volumes on a finer grid."
        )
    d, h, w = (slice(int(o[0]), int(o[-1]) + 1) for o in occupied)
    return d, h, w


def _checked_spacing(
    spacing: tuple[float, float, float] | list[float] | None,
) -> tuple[float, float, float]:
    sizes = np.asarray(np.nan if spacing is None else spacing, dtype=np.float64)
    if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise MetricError(
            "spacing: frequencies and patches are physical, so the voxel sizes are needed as three "
            f"positive numbers of mm; found {spacing}. Pass spacing=(sx, sy, sz)."
        )
    assert spacing is not None
    return float(spacing[0]), float(spacing[1]), float(spacing[2])
