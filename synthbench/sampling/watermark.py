"""A watermark in the voxels: a faint pattern that only the holder of a key can find.

The pattern W is a cubic B-spline on a lattice of `LATTICE_MM` in world coordinates (mm). Its
coefficients are signs that follow from the key, less their neighbours' mean (`_high`): so it has
low and middle spatial frequencies (wavelengths of about 16 to 40 mm) and little else, and coarser
voxels or a light blur keep it. A marked volume is x (1 + s W) inside the brain and x outside:
spread spectrum (Cox et al. 1997, IEEE Trans. Image Process. 6:1673). The strength s is the
smallest that makes the mark found in a coarse and blurred copy of this very volume: an informed
embedding, as in Malvar & Florencio 2003 (IEEE Trans. Signal Process. 51:898).

The test needs neither the original nor its grid. Let c be what a volume says of each coefficient
(`evidence`), whatever the key. Under the null the volume does not depend on the key, so the signs
a are independent coin tosses. Then z = sum(a c) / sqrt(sum(c^2)) has mean 0 and variance 1, and
P(z > t) <= exp(-t^2 / 2) for every volume (Hoeffding 1963, J. Am. Stat. Assoc. 58:13). So the
rate of false positives over keys is bounded without any assumption on volumes.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8
from scipy import ndimage

from synthbench.errors import UsageError
from synthbench.runtime.documents import read_text
from synthbench.volumes.grid import Space, resample

VERSION = 1
"""Of the pattern and of the test: another one would not find these marks."""

LATTICE_MM = 8.0
"""Distance of the pattern's coefficients."""

PERIOD = 64
"""Coefficients along an axis; the pattern repeats after 512 mm, longer than any head."""

MAX_VOXEL_MM = 4.25
"""The coarsest grid that is marked: at 1.5 times this spacing, the pattern is still sampled."""

FALSE_POSITIVES = 0.001
"""Bound of the share of unmarked volumes in which a mark is found, over keys."""

THRESHOLD = float(np.sqrt(2 * np.log(1 / FALSE_POSITIVES)))
"""A mark is found where z is above this: 3.72."""

TARGET = 6.0
"""The z that a coarse and blurred copy of a marked volume reaches."""

MAX_STRENGTH = 0.05
"""The greatest root mean square of the relative change of voxels inside the brain."""

MIN_KEY = 16
"""The fewest characters of a key."""

_MAX_KEY_FILE = 4096
_STEPS = 7  # of the bisection: the strength is exact to 0.05 / 2^7, 0.04%
_BRAIN_ABOVE = 0.1  # of the 99th percentile of positive voxels
_SPLINE = np.array([1, 8, 23, 32, 23, 8, 1]) / 48  # cubic B-spline at half steps of its lattice
_LOCAL_SIGMA = 1.4  # voxels of the analysis grid: of the local mean of the log intensity
_CLIP = 0.1  # of the log intensity less its local mean
_EDGE = 0.05  # gradient of the log intensity, per voxel, above which a voxel tells little
_FEW = 0.3  # share of the greatest overlap with the brain, below which a coefficient is left out


@dataclass(frozen=True, eq=False)
class WatermarkKey:
    """A key of watermarks; the text itself is not kept.

    Attributes
    ----------
    signs
        The coefficients of the pattern, 1 or -1.
    identity
        Twelve hexadecimal digits that tell keys apart, and that no key can be computed from.
    """

    signs: Int8[np.ndarray, "64 64 64"]
    identity: str

    @classmethod
    def parse(cls, text: str) -> WatermarkKey:
        """Return the key of a text, or of a file: `@FILE` stands for what the file holds.

        Space around the text is left out, and letters are brought to Unicode's form NFC.

        Raises
        ------
        UsageError
            The key has fewer than `MIN_KEY` characters, or the file cannot be read.
        """
        where, fix = "the watermark's key", f"Use a random text of at least {MIN_KEY} characters."
        if text.startswith("@"):
            where = f"{text[1:]} (the watermark's key)"
            text = read_text(Path(text[1:]), error=UsageError, fix=fix, most=_MAX_KEY_FILE)
        secret = unicodedata.normalize("NFC", text.strip())
        if len(secret) < MIN_KEY:
            found = f"it has {len(secret)} characters" if secret else "it is empty"
            raise UsageError(f"{where}: {found}, which can be guessed. {fix}")
        # A slow hash: whoever guesses keys pays 16 MB and some 50 ms for each guess.
        master = hashlib.scrypt(
            secret.encode("utf-8", "surrogatepass"), salt=b"synthbench watermark 1",
            n=2**14, r=8, p=1, dklen=32,
        )  # fmt: skip
        content = hashlib.shake_256(b"pattern" + master).digest(PERIOD**3 // 8)
        bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8)).astype(np.int8)
        signs = (2 * bits - 1).reshape((PERIOD,) * 3)
        return cls(signs, hashlib.sha256(b"identity" + master).hexdigest()[:12])

    @property
    def fields(self) -> dict[str, int | str]:
        """What a sidecar says of the mark: its version and which key, never the key."""
        return {"version": VERSION, "key_id": self.identity}


@dataclass(frozen=True)
class Marked:
    """A marked volume.

    Attributes
    ----------
    volume
        In [0, 1].
    strength
        Root mean square of the relative change inside the brain; 0: there is no brain to mark.
    z
        The statistic of the volume.
    """

    volume: Float32[np.ndarray, "d h w"]
    strength: float
    z: float

    @property
    def found(self) -> bool:
        """Whether the mark can be found."""
        return self.z > THRESHOLD


def check_grid(space: Space) -> None:
    """Check that a grid is fine enough, and not too long, for a mark.

    Raises
    ------
    UsageError
        A side of a voxel is above `MAX_VOXEL_MM`, or the field of view is too long.
    """
    if max(space.spacing) > MAX_VOXEL_MM:
        raise UsageError(
            f"--watermark: the run's grid is {space}; voxels of at most {MAX_VOXEL_MM:g} mm can "
            "carry a mark. Leave out --watermark, or train on a finer grid."
        )
    _analysis_grid(space)


def pattern(key: WatermarkKey, space: Space) -> Float64[np.ndarray, "d h w"]:
    """Return the pattern of a key at the voxels of a grid; its mean over space is 0."""
    lattice = _high(key.signs.astype(np.float64), "wrap")
    matrix = space.matrix / LATTICE_MM
    found = ndimage.affine_transform(
        lattice, matrix[:3, :3], matrix[:3, 3], output_shape=space.shape, order=3,
        mode="grid-wrap", prefilter=False,
    )  # fmt: skip
    return np.asarray(found)


def mark(volume: Float32[np.ndarray, "d h w"], space: Space, key: WatermarkKey) -> Marked:
    """Return a volume with the mark of a key: the same arguments give the same voxels.

    Parameters
    ----------
    volume
        In [0, 1]. Voxels outside the brain, and those of value 0, are not changed.
    space
        Its grid (`check_grid`).
    """
    inside = _brain(volume)
    wave = np.where(inside, pattern(key, space), 0.0)
    power = float(np.mean(wave[inside] ** 2)) if inside.any() else 0.0
    if power == 0:
        return Marked(volume, 0.0, 0.0)
    wave = (wave / np.sqrt(power)).astype(np.float32)

    def marked(strength: float) -> Float32[np.ndarray, "d h w"]:
        return np.asarray(np.clip(volume * (1 + np.float32(strength) * wave), 0, 1))

    low, high = 0.0, MAX_STRENGTH
    for _ in range(_STEPS):
        middle = (low + high) / 2
        enough = statistic(*_coarse_copy(marked(middle), space), key) >= TARGET
        low, high = (low, middle) if enough else (middle, high)
    result = marked(high)
    return Marked(result, high, statistic(result, space, key))


def statistic(volume: Float32[np.ndarray, "d h w"], space: Space, key: WatermarkKey) -> float:
    """Return z: how well a volume agrees with the pattern of a key.

    Mean 0 and sd 1 over keys that the volume does not depend on; 0 for a volume without a brain.

    Parameters
    ----------
    volume
        Finite intensities of any positive scale, on any grid: the pattern is compared in mm.

    Raises
    ------
    UsageError
        The field of view is longer than the pattern's period.
    """
    found, first = evidence(volume, space)
    return agreement(found, first, key)


def agreement(
    found: Float64[np.ndarray, "a b c"], first: tuple[int, int, int], key: WatermarkKey
) -> float:
    """Return z from the evidence of a volume; several keys can be tried on one volume."""
    size = float(np.sqrt(np.sum(found**2)))
    if size == 0:
        return 0.0
    indices = [(np.arange(n) + at) % PERIOD for n, at in zip(found.shape, first, strict=True)]
    return float(np.sum(key.signs[np.ix_(*indices)] * found)) / size


def most_likely(z: float) -> float:
    """Return the bound of the p value of z: the share of keys that would do as well, at most."""
    return float(np.exp(-(z**2) / 2)) if z > 0 else 1.0


def evidence(
    volume: Float32[np.ndarray, "d h w"], space: Space
) -> tuple[Float64[np.ndarray, "a b c"], tuple[int, int, int]]:
    """Return what a volume says of each coefficient, and the lattice index of the first.

    The log intensity less its local mean, clipped, is weighted down at edges: anatomy is the noise
    of this measurement, and most of it is there. It is projected on the pattern's B-splines, and
    each coefficient is divided by the local size of its neighbours. No key is used.
    """
    grid, first = _analysis_grid(space)
    values = resample(volume.astype(np.float32, copy=False), space, grid).astype(np.float64)
    inside = _brain(values)
    if not inside.any():
        return np.zeros([(n + 1) // 2 for n in grid.shape]), first
    floor = _BRAIN_ABOVE * _bright(values)
    logs = np.log(np.maximum(values, floor))
    steepness = np.sqrt(np.sum(np.square(np.gradient(logs)), axis=0))
    weight = inside * _EDGE / (_EDGE + steepness)
    local = _blurred(logs * weight, _LOCAL_SIGMA) / np.maximum(_blurred(weight, _LOCAL_SIGMA), 1e-9)
    rest = np.clip(logs - local, -_CLIP, _CLIP) * weight
    found = _high(_projected(rest), "constant")
    size = np.sqrt(_blurred(found**2, 1.5))
    overlap = _projected(inside.astype(np.float64))
    kept = (overlap > _FEW * overlap.max()) & (size > 0.01 * size.max())
    return np.where(kept, found / np.where(kept, size, 1), 0.0), first


def _analysis_grid(space: Space) -> tuple[Space, tuple[int, int, int]]:
    """Return the grid of half lattice steps around a field of view, and its first lattice index."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in space.shape])).reshape(3, -1)
    at = (space.matrix[:3, :3] @ corners + space.matrix[:3, 3:]) / LATTICE_MM
    low, high = np.floor(at.min(axis=1)) - 2, np.ceil(at.max(axis=1)) + 2
    if (high - low).max() >= PERIOD:
        raise UsageError(
            f"a field of view of {space} is longer than the watermark's {PERIOD * LATTICE_MM:g} "
            "mm. Crop it to the head, or correct its voxel size."
        )
    affine = np.diag([LATTICE_MM / 2] * 3 + [1.0])
    affine[:3, 3] = low * LATTICE_MM
    steps = (2 * (high - low) + 1).astype(int)
    first = (int(low[0]), int(low[1]), int(low[2]))
    return Space.of(tuple(steps), affine), first


def _coarse_copy(
    volume: Float32[np.ndarray, "d h w"], space: Space
) -> tuple[Float32[np.ndarray, "d h w"], Space]:
    """Return a volume as a user may pass it on: blurred by half a voxel, at 1.5 times the size."""
    blurred = ndimage.gaussian_filter(volume, 0.5, mode="constant")
    coarse = space.regrid(spacing=1.5 * max(space.spacing))
    return resample(blurred, space, coarse), coarse


def _bright(values: np.ndarray) -> float:
    """Return the 99th percentile of the positive voxels; 0 where there is none."""
    positive = values[values > 0]
    return float(np.percentile(positive, 99)) if positive.size else 0.0


def _brain(values: np.ndarray) -> Bool[np.ndarray, "a b c"]:
    """Return the largest component of what is not dark, with its holes filled."""
    bright = _bright(values)
    if bright == 0:
        return np.zeros(values.shape, dtype=bool)
    labels, _ = ndimage.label(values > _BRAIN_ABOVE * bright)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(labels == int(np.argmax(sizes))))


def _blurred(values: Float64[np.ndarray, "a b c"], sigma: float) -> Float64[np.ndarray, "a b c"]:
    return np.asarray(ndimage.gaussian_filter(values, sigma, mode="constant"))


def _projected(values: Float64[np.ndarray, "a b c"]) -> Float64[np.ndarray, "d h w"]:
    """Return the sums of values times each B-spline of the lattice."""
    for axis in range(3):
        values = ndimage.correlate1d(values, _SPLINE, axis=axis, mode="constant")
    return values[::2, ::2, ::2]


def _high(values: Float64[np.ndarray, "a b c"], mode: str) -> Float64[np.ndarray, "a b c"]:
    """Return values of the lattice less the weighted mean around each: no slow changes stay."""
    mean = values
    for axis in range(3):
        mean = ndimage.correlate1d(mean, [0.25, 0.5, 0.25], axis=axis, mode=mode)
    return np.asarray(values - mean)
