"""Power spectra and slice-to-slice seams: sharpness, texture and slice-wise artefacts.

A generator that blurs lacks power at high spatial frequencies; upsampling layers add some.
Generators that work slice by slice (2.5-D) or in tiles leave seams: planes where intensities jump.

The brain's outline against an empty background would dominate both. So the spectrum is that of
the deviation from the in-mask mean, with a window that falls to zero at the mask's border, and
seams are measured at voxels whose neighbours also lie in the mask.

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
from jaxtyping import Bool, Float32, Float64

from synthbench.errors import MetricError
from synthbench.metrics.blocked.means import BlockedMeanDistance
from synthbench.metrics.inference.resampling import LARGE_SET, estimate
from synthbench.metrics.intensity import Array, Stack, check_set, measured_rows, stack_mask
from synthbench.metrics.metric import (
    BaseMetric,
    IntervalMethod,
    Needs,
    Part,
    Reuse,
    Target,
    VolumeSource,
    check_features,
)
from synthbench.metrics.mmd import KernelDiscrepancy
from synthbench.metrics.radial_spectrum import TAPER_MM, checked_spacing, log_spectrum, radial_bins
from synthbench.metrics.seams import (
    AXES,
    PATCH_MM,
    SLICE_SHARE,
    SeamDistance,
    centred_rows,
    mean_kernels,
    seam_distance,
    seam_profiles_of,
    slices_of,
)
from synthbench.metrics.subjects import subject_index

DRAWN_AXIS = "z"
"""The axis whose seams a figure shows; one of the three is enough."""


class _WithSeams:
    """The squared difference of mean log spectra, with that of the seams as parts."""

    seams: Mapping[str, SeamDistance]

    def parts(self) -> dict[str, Part]:
        """The seams along each axis."""
        return {
            f"seam_{a}": Part(f"seams along {a} (dB²)", seam, drawn=a == DRAWN_AXIS)
            for a, seam in self.seams.items()
        }


@dataclass(frozen=True)
class SpectrumDistance(_WithSeams, KernelDiscrepancy):
    """Squared difference of the sets' mean log spectra, averaged over frequencies; dB^2.

    Attributes
    ----------
    seams
        For each axis, the squared difference of their mean seam profiles, averaged over slices.
    """

    seams: Mapping[str, SeamDistance]


@dataclass(frozen=True, kw_only=True)
class BlockedSpectrumDistance(_WithSeams, BlockedMeanDistance):
    """`SpectrumDistance` of large sets, which holds no matrix over pairs of images."""

    seams: Mapping[str, SeamDistance]


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
    reuse: Reuse | None = "volume"
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
        return {"spacing": list(checked_spacing(spacing))}

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
        known: Float64[np.ndarray, "n k"] | None = None,
    ) -> Float64[np.ndarray, "n k"]:
        """Return each volume's log spectrum and its seam profiles along x, y and z, side by side.

        A row is four blocks of one length. A block holds the mean of a profile, then its scaled
        deviations from the mean, then zeros.

        Parameters
        ----------
        volumes
            Float32 arrays, intensities in [0, 1].
        mask
            The voxels that count, the same for real and synthetic volumes.
        settings
            What `freeze` returned: the spacing in mm.
        progress
            Called with the number of volumes done and their total.
        known
            Rows of volumes that are not read; NaN for the others.

        Raises
        ------
        MetricError
            There are fewer than two volumes, one of them is on another grid than the mask or not
            finite, or the mask is too small.
        """
        check_set(self.name, volumes, mask)
        spacing = checked_spacing(settings.get("spacing"))
        radial, slices = radial_bins(mask, spacing), slices_of(mask, spacing)

        def blocks(volume: Float32[np.ndarray, "d h w"], _: int) -> Float64[np.ndarray, " k"]:
            profiles = [log_spectrum(volume, radial), *seam_profiles_of(volume, slices)]
            length = 1 + max(len(profile) for profile in profiles)
            return np.concatenate([_block(profile, length) for profile in profiles])

        return measured_rows(self.name, volumes, mask, blocks, progress, known)

    def prepare(
        self,
        real: Float64[np.ndarray, "n k"],
        synth: Float64[np.ndarray, "m k"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> SpectrumDistance | BlockedSpectrumDistance:
        """Return the distances, from the rows of `measure`.

        Parameters
        ----------
        real, synth
            One row per volume, measured with one mask.
        subjects
            For each role, the subject of each image; None is one image per subject.
        settings
            Not used: the rows were measured with them.

        Raises
        ------
        MetricError
            The rows are unusable, or differ in length.
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
        seams = [seam_distance(axis, real_seams, synth_seams, index) for axis in range(3)]
        by_axis = dict(zip(AXES, seams, strict=True))
        if max(len(rows) for rows in sets.values()) > LARGE_SET:
            return BlockedSpectrumDistance(
                **centred_rows(spectrum, synth_spectrum, index), seams=by_axis
            )
        return SpectrumDistance(**mean_kernels(spectrum, synth_spectrum, index), seams=by_axis)


def spectrum_distance(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None = None,
    *,
    spacing: tuple[float, float, float],
) -> float:
    """Return the squared distance between the mean power spectra of two sets of volumes.

    Parameters
    ----------
    x, y
        Real and synthetic volumes, intensities in [0, 1]: arrays, or tensors on any device.
    mask
        The voxels that count; None: all.
    spacing
        Voxel sizes in mm.

    Returns
    -------
    The distance in dB^2, averaged over frequencies up to the smallest Nyquist frequency: 9 is a
    difference of 3 dB. Its expectation is zero for equal distributions, so it may be negative.

    Raises
    ------
    MetricError
        `Spectrum.measure` refuses the volumes, the mask or the spacing.
    """
    return estimate(_prepared(x, y, mask, spacing))


def seam_energy(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None = None,
    *,
    spacing: tuple[float, float, float],
) -> dict[str, float]:
    """Return the squared distance between the mean seam profiles of two sets, along x, y and z.

    `synthbench.metrics.seams.seam_profiles` defines the profile of a volume.

    Parameters
    ----------
    x, y, mask, spacing
        As for `spectrum_distance`.

    Returns
    -------
    For each axis, the distance in dB^2, averaged over slices. Its expectation is zero for equal
    distributions, so it may be negative.

    Raises
    ------
    MetricError
        `Spectrum.measure` refuses the volumes, the mask or the spacing.
    """
    seams = _prepared(x, y, mask, spacing).seams
    return {axis: estimate(seam) for axis, seam in seams.items()}


def _prepared(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None,
    spacing: tuple[float, float, float],
) -> SpectrumDistance | BlockedSpectrumDistance:
    metric = Spectrum()
    settings = metric.freeze(None, None, spacing=spacing)
    inside = stack_mask(metric.name, x, mask)
    real, synth = (metric.measure(Stack(volumes), inside, settings) for volumes in (x, y))
    return metric.prepare(real, synth)


def _block(profile: Float64[np.ndarray, " k"], length: int) -> Float64[np.ndarray, " l"]:
    """Return the mean of a profile of length k, its deviations over sqrt(k), and zeros.

    The squared distance of two blocks is then the mean squared difference of the profiles, for
    any length of the padded blocks.
    """
    mean = profile.mean()
    deviations = (profile - mean) / np.sqrt(len(profile))
    return np.pad(np.concatenate([[mean], deviations]), (0, length - 1 - len(profile)))
