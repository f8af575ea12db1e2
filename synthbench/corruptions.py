"""Graded corruptions of a set of volumes: known damage, to see which metrics notice it.

A corruption has doses in physical units, from barely visible to gross, so a dose means the same
on any grid. One of volumes changes every volume (blur, noise, a shift); one of the set changes
which volumes make it up (duplicates, dropped modes, copies of training images).

`Corrupted` is a set of volumes under a dose. It computes each volume when it is read, so memory
stays bounded. Volume `index` draws from `numpy.random.default_rng([seed, index, *name])`, and a
set from `default_rng([seed, *name])`. The draws do not depend on the dose: a larger dose is more
of the same damage, and what was flipped or replaced at a smaller share is so at a larger one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import fft, ndimage

from synthbench.cohort import read_ahead
from synthbench.errors import UsageError, near_miss
from synthbench.metrics.metric import VolumeSource
from synthbench.space import Intensity, Space, to_unit

Volume = Float32[np.ndarray, "d h w"]
Spacing = tuple[float, float, float]
Axes = tuple[int, ...]
Factors = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]

FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
WARP_LATTICE_MM = 30.0
BIAS_LATTICE_MM = 80.0
COARSE_MM = 8.0


class GridVolumes(VolumeSource, Protocol):
    """Volumes read one by one, on a known grid."""

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        ...


@dataclass(frozen=True)
class Corruption:
    """A kind of damage, with doses to give it in.

    Attributes
    ----------
    name
        The key in a record and on the command line.
    label
        Words for a table.
    unit
        What a dose is measured in.
    words
        A clause with a place for the dose: "blurred by {dose} mm (FWHM)".
    doses
        Ascending, above zero; dose zero is no damage.
    does
        One sentence: what is done.
    """

    name: str
    label: str
    unit: str
    words: str
    doses: tuple[float, ...]
    does: str

    def sentence(self, dose: float | str) -> str:
        """The clause for a dose, a number or words.

        >>> CORRUPTIONS["blur"].sentence(1.4)
        'blurred by 1.4 mm (FWHM)'
        >>> CORRUPTIONS["flip"].sentence("more than 50")
        'with more than 50% of the volumes mirrored'
        """
        return in_words(self.words, dose)


def in_words(words: str, dose: float | str) -> str:
    """Fill a dose into a corruption's clause: words as they are, a number as short as it goes."""
    return words.format(dose=dose if isinstance(dose, str) else f"{dose:g}")


@dataclass(frozen=True)
class VolumeCorruption(Corruption):
    """A corruption of each volume by itself.

    Attributes
    ----------
    apply
        Maps (volume, dose, space, rng) to the damaged volume, float32. Values may leave [0, 1]:
        `Corrupted` brings them back.
    """

    apply: Callable[[Volume, float, Space, np.random.Generator], Volume]


@dataclass(frozen=True)
class Pick:
    """One place in a corrupted set: which volume stands there.

    Attributes
    ----------
    index
        Its index in the set, or in the training set.
    training
        Whether it is a copy of a training volume.
    mirrored
        Whether left and right are exchanged.
    """

    index: int
    training: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class SetCorruption(Corruption):
    """A corruption of which volumes make up the set.

    Attributes
    ----------
    choose
        Maps (volumes, share in %, rng, number of training volumes) to the places of the set.
    needs_training
        Whether it copies training volumes.
    """

    choose: Callable[[GridVolumes, float, np.random.Generator, int], tuple[Pick, ...]]
    needs_training: bool = False


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A set of volumes under a dose of a corruption, computed as it is read.

    Indexing gives `Float32[d h w]` in [0, 1]; iterating reads ahead with `workers` threads. What
    was background (zero, outside the head) stays exactly zero, but where the anatomy moves.
    Dose 0 gives the volumes themselves, bit for bit.

    Attributes
    ----------
    volumes
        The undamaged set.
    corruption, dose, seed
        What is done, how much of it (in the corruption's unit), and the seed of its draws.
    training
        The volumes that a generator was trained on, where the corruption copies them.
    intensity
        How a damaged volume is brought back to [0, 1]: "unit" clips it; "percentile" scales it
        anew, as reading the volume from a file by that rule would. Give the protocol's rule.
    workers
        Threads that read ahead.

    Raises
    ------
    UsageError
        The dose or the seed is negative, or there are no training volumes, or none on this
        grid, for a corruption that copies them. On reading: the dose is too large for the set.
    """

    volumes: GridVolumes
    corruption: Corruption
    dose: float
    seed: int
    training: GridVolumes | None = None
    intensity: Intensity = "unit"
    workers: int = 2

    def __post_init__(self) -> None:
        name = self.corruption.name
        if not 0 <= self.dose < math.inf:
            raise UsageError(
                f"{name}: the dose must be 0 {self.corruption.unit} or more; found {self.dose}. "
                f"Its doses are {', '.join(f'{d:g}' for d in self.corruption.doses)}."
            )
        if self.seed < 0:
            raise UsageError(f"{name}: the seed must be 0 or more; found {self.seed}.")
        if isinstance(self.corruption, SetCorruption) and self.corruption.needs_training:
            if self.training is None:
                raise UsageError(
                    f"{name}: it copies training volumes, and none were given. "
                    "Give a second set of volumes, or leave this corruption out."
                )
            if not self.training.space.same_grid(self.volumes.space):
                raise UsageError(
                    f"{name}: the training volumes must lie on the set's grid, "
                    f"{self.volumes.space}; found {self.training.space}. Read both in one space."
                )

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        return self.volumes.space

    @cached_property
    def picks(self) -> tuple[Pick, ...]:
        """Which volume stands at each place of the set."""
        if self.dose == 0 or not isinstance(self.corruption, SetCorruption):
            return tuple(Pick(i) for i in range(len(self.volumes)))
        rng = np.random.default_rng([self.seed, *self.corruption.name.encode()])
        available = 0 if self.training is None else len(self.training)
        return self.corruption.choose(self.volumes, self.dose, rng, available)

    def __len__(self) -> int:
        return len(self.picks)

    def __getitem__(self, index: int) -> Volume:
        place = range(len(self))[index]
        pick = self.picks[place]
        if pick.training:
            assert self.training is not None
            return self.training[pick.index]
        volume = self.volumes[pick.index]
        if pick.mirrored:
            return np.ascontiguousarray(volume[::-1])
        if self.dose == 0 or not isinstance(self.corruption, VolumeCorruption):
            return volume
        rng = np.random.default_rng([self.seed, place, *self.corruption.name.encode()])
        damaged = self.corruption.apply(volume, self.dose, self.space, rng)
        name = f"volume {place}, {self.corruption.sentence(self.dose)}"
        return _to_range(damaged, self.intensity, name)

    def __iter__(self) -> Iterator[Volume]:
        return read_ahead(self.__getitem__, range(len(self)), self.workers)


def corruption(name: str) -> Corruption:
    """Look a corruption up by name.

    Raises
    ------
    UsageError
        There is none of that name.
    """
    if name not in CORRUPTIONS:
        raise UsageError(f"no corruption {name!r}: {near_miss(name, CORRUPTIONS)}")
    return CORRUPTIONS[name]


def _to_range(volume: np.ndarray, intensity: Intensity, name: str) -> Volume:
    positive = np.maximum(volume, 0, dtype=np.float32)
    if intensity == "percentile":
        return to_unit(positive, intensity, name)
    return np.asarray(np.minimum(positive, 1), dtype=np.float32)


def head(volume: Volume) -> Bool[np.ndarray, "d h w"]:
    """The voxels above zero, holes filled: everything else is background."""
    return np.asarray(ndimage.binary_fill_holes(volume > 0), dtype=bool)


# --- intensities --------------------------------------------------------------------------------


def add_noise(volume: Volume, sd: float, rng: np.random.Generator) -> Volume:
    """Rician noise in the head: the magnitude of a complex signal with noise in both parts.

    Parameters
    ----------
    volume
        Intensities in [0, 1].
    sd
        Standard deviation of the noise in each part, on the same scale. Where the signal is
        several times larger, it is that of the intensities too.
    rng
        Source of the noise.
    """
    import torch

    from synthbench.atlas import _rician

    noisy = _rician(torch.from_numpy(np.ascontiguousarray(volume)), sd, rng).numpy()
    return np.where(head(volume), noisy, np.float32(0))


def blur(volume: Volume, fwhm: float, spacing: Spacing) -> Volume:
    """Gaussian blur within the head, of a full width at half maximum in mm.

    Normalised convolution (Knutsson and Westin 1993, CVPR): the blurred volume over the blurred
    head, so that the background does not darken the rim. The Gaussian is applied to the
    spectrum, where one that is narrower than a voxel is right too.
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
    """Multiply by a smooth random bias field.

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
    """Translate along the three axes, filling with zero.

    The shift is a phase of the spectrum, which keeps every frequency: interpolation between
    voxels would blur as well. (By half a voxel, the mean squared gradient within a brain at 2 mm
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
    """Translate every axial slice by itself, at random within its plane.

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
    """Deform smoothly at random.

    Each component of the displacement is a cubic B-spline on a 30 mm lattice. Over the head its
    mean is zero (a warp does not shift) and its root mean squared length is `rms` mm. Folding
    starts far above 5 mm.
    """
    return resample_displaced(volume, warp_displacement(head(volume), rms, space, rng))


def warp_displacement(
    inside: Bool[np.ndarray, "d h w"], rms: float, space: Space, rng: np.random.Generator
) -> Float64[np.ndarray, "3 d h w"]:
    """The displacement of `warp`, in voxels along each axis."""
    field = np.stack([_smooth_field(rng, WARP_LATTICE_MM, space) for _ in range(3)])
    within = field[:, inside]
    mean = within.mean(axis=1)
    length = np.sqrt(((within - mean[:, None]) ** 2).sum(axis=0).mean())
    millimetres = (field - mean[:, None, None, None]) * (rms / length)
    voxels: Float64[np.ndarray, "3 d h w"] = millimetres / _per_axis(space.spacing)
    return voxels


def enlarge_ventricles(volume: Volume, percent: float, space: Space) -> Volume:
    """Widen the lateral ventricles at the cost of the white matter around them.

    The deformation is the one that ages the embedded atlas: it makes the ventricles of the
    MNI152 template `percent` larger by volume. It needs no segmentation, and so it is an
    approximation on any one person: the volumes must be registered to MNI152, and ventricles
    that are larger than the template's gain a smaller share.

    Raises
    ------
    UsageError
        The deformation does not reach that far.
    """
    return resample_displaced(volume, _ventricle_displacement(percent, space))


def resample_displaced(volume: Volume, displacement: Float64[np.ndarray, "3 d h w"]) -> Volume:
    """Read each voxel of the head at a displaced place.

    Quintic splines, which keep more detail than lower ones, for values; the head itself moves by
    linear interpolation, so that background is exactly zero.

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
    """Backward displacement in voxels that widens the template's ventricles."""
    import torch

    from synthbench.atlas import (
        _GROWTH_STRENGTHS,
        CORNER_MM,
        EXTENT_MM,
        _anatomy,
        _exponential,
        _sample,
    )

    anatomy = _anatomy()
    log_ratio = math.log1p(percent / 100)
    if log_ratio > anatomy.log_ratios[-1]:
        largest = 100 * math.expm1(anatomy.log_ratios[-1])
        raise UsageError(
            f"ventricles: they can be made up to {largest:.0f}% larger; found {percent:g}%. "
            "Give a smaller dose."
        )
    strength = float(np.interp(log_ratio, anatomy.log_ratios, _GROWTH_STRENGTHS))
    box = _exponential(-strength * anatomy.ventricle_growth)
    half = np.array(EXTENT_MM) / 2
    linear, origin = space.matrix[:3, :3], space.matrix[:3, 3]
    voxels = np.indices(space.shape, dtype=np.float64)
    places = np.einsum("ij,jabc->iabc", linear, voxels) + origin[:, None, None, None]
    # The atlas's box units: -1 and 1 at the faces, in the order z, y, x.
    points = (places - _per_axis(CORNER_MM)) / _per_axis(half) - 1
    ordered = torch.from_numpy(np.moveaxis(points[::-1], 0, -1).astype(np.float32))
    sampled = _sample(box, ordered, outside="border").numpy()[::-1]
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
    """Cubic B-spline of standard normal coefficients, over this grid's own field of view."""
    from synthbench.atlas import _spline_basis

    cells = [side * mm / lattice_mm for side, mm in zip(space.shape, space.spacing, strict=True)]
    field = rng.standard_normal([math.ceil(c) + 3 for c in cells])
    for axis, side in enumerate(space.shape):
        basis = _spline_basis(side, cells[axis], math.ceil(cells[axis]) + 3)
        # Each pass takes the first axis and appends the new one.
        field = np.einsum("sk,kab->abs", basis, field)
    return field


def _filter(volume: Volume, factors: Factors, margin: np.ndarray, axes: Axes = (0, 1, 2)) -> Volume:
    """Multiply the spectrum by functions of the frequencies (cycles a voxel, along each axis).

    `margin` voxels of zero on each side keep what leaves one side from entering on the other.
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
    """Translate a volume and its head; outside the moved head, ringing is set to zero."""
    moved = _filter(volume, factors, margin, axes)
    inside = _filter(head(volume).astype(np.float32), factors, margin, axes) > 0.5
    return np.where(inside, moved, np.float32(0))


def _direction(rng: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    """A unit vector, uniform over directions."""
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


# --- sets ---------------------------------------------------------------------------------------


def share_count(percent: float, n: int) -> int:
    """How many of n volumes a share is: the nearest number, and one at least.

    Raises
    ------
    UsageError
        The share is above 100%.
    """
    if percent > 100:
        raise UsageError(f"a share of a set is at most 100%; found {percent:g}%.")
    return max(1, round(percent / 100 * n))


def mirror_some(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int = 0
) -> tuple[Pick, ...]:
    """Exchange left and right in a share of the volumes.

    The array is reversed along its first axis, as augmentation by flips does: about the middle
    of the grid.
    """
    n = len(volumes)
    chosen = set(rng.permutation(n)[: share_count(percent, n)].tolist())
    return tuple(Pick(i, mirrored=i in chosen) for i in range(n))


def duplicate_some(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int = 0
) -> tuple[Pick, ...]:
    """Replace a share of the volumes by copies of random ones among the rest.

    Raises
    ------
    UsageError
        No volume would be left to copy.
    """
    n = len(volumes)
    order = rng.permutation(n)
    count = share_count(percent, n)
    if count >= n:
        raise UsageError(
            f"duplicates: {percent:g}% of {n} volumes leaves none to copy. Give a smaller dose."
        )
    index = np.arange(n)
    index[order[:count]] = rng.choice(order[count:], size=count)
    return tuple(Pick(int(i)) for i in index)


def copy_training(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int
) -> tuple[Pick, ...]:
    """Replace a share of the volumes by as many different training volumes.

    Raises
    ------
    UsageError
        There are fewer training volumes than that.
    """
    n = len(volumes)
    count = share_count(percent, n)
    if count > training:
        raise UsageError(
            f"copies: {percent:g}% of {n} volumes is {count} training volumes; found {training}. "
            "Give a smaller dose, or more training volumes."
        )
    replaced = rng.permutation(n)[:count]
    copies = rng.permutation(training)[:count]
    copied = dict(zip(replaced.tolist(), copies.tolist(), strict=True))
    return tuple(Pick(copied[i], training=True) if i in copied else Pick(i) for i in range(n))


def drop_modes(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int = 0
) -> tuple[Pick, ...]:
    """Leave out the share of the volumes that is least like the most typical one.

    Volumes are compared by the Euclidean distance of their means over 8 mm blocks; the most
    typical one is the medoid. Nothing is random. The set gets smaller: a biased metric, such as
    the Frechet distance, must be compared at a matched number of volumes.

    Raises
    ------
    UsageError
        Fewer than two volumes would be left.
    """
    n = len(volumes)
    kept = n - share_count(percent, n)
    if kept < 2:
        raise UsageError(
            f"modes: {percent:g}% of {n} volumes leaves {kept}; 2 are needed. Give a smaller dose."
        )
    means = np.stack([_block_means(volumes[i], volumes.space.spacing) for i in range(n)])
    gram = means @ means.T
    squares = np.diag(gram)[:, None] + np.diag(gram)[None] - 2 * gram
    distances = np.sqrt(np.maximum(squares, 0))
    medoid = int(distances.sum(axis=1).argmin())
    nearest = np.argsort(distances[medoid], kind="stable")[:kept]
    return tuple(Pick(int(i)) for i in np.sort(nearest))


def _block_means(volume: Volume, spacing: Spacing) -> Float64[np.ndarray, " blocks"]:
    """Means over blocks of about 8 mm, as one row; the grid is filled up with zeros."""
    sides = [max(1, round(COARSE_MM / mm)) for mm in spacing]
    padded = np.pad(volume, [(0, -n % s) for n, s in zip(volume.shape, sides, strict=True)])
    (a, i), (b, j), (c, k) = ((n // s, s) for n, s in zip(padded.shape, sides, strict=True))
    blocks = padded.reshape(a, i, b, j, c, k).mean(axis=(1, 3, 5), dtype=np.float64)
    means: Float64[np.ndarray, " blocks"] = blocks.ravel()
    return means


# --- the list -----------------------------------------------------------------------------------

_ALL: tuple[Corruption, ...] = (
    VolumeCorruption(
        "blur", "blur", "mm (FWHM)", "blurred by {dose} mm (FWHM)",
        (1, 2, 3, 5, 8),
        "Gaussian blur within the head.",
        lambda volume, dose, space, rng: blur(volume, dose, space.spacing),
    ),
    VolumeCorruption(
        "noise", "noise", "% of the intensity scale",
        "with Rician noise of {dose}% of the intensity scale",
        (1, 2, 4, 8, 16),
        "Rician noise within the head; the intensity scale is the 99.9th percentile.",
        lambda volume, dose, space, rng: add_noise(volume, dose / 100, rng),
    ),
    VolumeCorruption(
        "gamma", "gamma", "% above 1", "with a gamma {dose}% above 1",
        (5, 10, 20, 40, 80),
        "Intensities raised to the power of 1 + dose, which darkens all but the brightest.",
        lambda volume, dose, space, rng: volume ** np.float32(1 + dose / 100),
    ),
    VolumeCorruption(
        "bias", "bias field", "% peak to peak",
        "under a bias field of {dose}% peak to peak",
        (5, 10, 20, 40, 80),
        "A smooth random factor over the head, another one for each volume.",
        lambda volume, dose, space, rng: shade(volume, dose / 100, space, rng),
    ),
    VolumeCorruption(
        "shift", "shift", "mm", "shifted by {dose} mm",
        (0.5, 1, 2, 4, 8),
        "Translation in a random direction, another one for each volume: misregistration.",
        lambda volume, dose, space, rng: shift(volume, dose * _direction(rng), space.spacing),
    ),
    SetCorruption(
        "flip", "left-right flip", "% of the volumes", "with {dose}% of the volumes mirrored",
        (10, 25, 50, 75, 100),
        "Left and right exchanged in a share of the volumes.",
        mirror_some,
    ),
    VolumeCorruption(
        "warp", "smooth warp", "mm (RMS)", "warped by {dose} mm (RMS)",
        (0.5, 1, 2, 3, 5),
        "A smooth random deformation, another one for each volume.",
        lambda volume, dose, space, rng: warp(volume, dose, space, rng),
    ),
    VolumeCorruption(
        "slices", "slice misalignment", "mm (SD)", "with slices misaligned by {dose} mm (SD)",
        (0.25, 0.5, 1, 2, 4),
        "Every axial slice translated at random within its plane.",
        lambda volume, dose, space, rng: misalign_slices(volume, dose, space.spacing, rng),
    ),
    VolumeCorruption(
        "ventricles", "larger ventricles", "% by volume", "with ventricles {dose}% larger",
        (10, 25, 50, 100, 200),
        "The deformation that makes the MNI152 template's lateral ventricles that much larger.",
        lambda volume, dose, space, rng: enlarge_ventricles(volume, dose, space),
    ),
    SetCorruption(
        "modes", "dropped modes", "% of the volumes",
        "without {dose}% of the volumes, the least typical",
        (10, 20, 30, 45, 60),
        "The volumes least like the most typical one are left out; the set gets smaller.",
        drop_modes,
    ),
    SetCorruption(
        "duplicates", "duplicates", "% of the volumes",
        "with {dose}% of the volumes copies of others",
        (5, 10, 20, 40, 60),
        "A share of the volumes replaced by copies of others in the set.",
        duplicate_some,
    ),
    SetCorruption(
        "copies", "training copies", "% of the volumes",
        "with {dose}% of the volumes copied from training",
        (5, 10, 20, 40, 60),
        "A share of the volumes replaced by training volumes, each at most once.",
        copy_training,
        needs_training=True,
    ),
)  # fmt: skip

CORRUPTIONS: dict[str, Corruption] = {c.name: c for c in _ALL}
