"""Multi-scale structural similarity of pairs of volumes, and the diversity that it measures.

The mean over pairs within a set falls as the set grows more diverse. Pairs share images, so
its uncertainty comes from resampling images, never pairs.

With an all-ones mask the values are those of MONAI's `compute_ms_ssim`. What differs is the
cost: a volume's own means and variances are found once, and a pair takes one separable blur
a scale.

References
----------
Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment",
Asilomar 2003: equation 7, and the weights in section 3.2.
Wang et al., "Image quality assessment: from error visibility to structural similarity",
IEEE Transactions on Image Processing 13 (2004): window, k1 and k2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import avg_pool3d

from synthbench.errors import MetricError, near_miss
from synthbench.metrics.inference import (
    between_mean,
    between_row_means,
    distinct_pairs,
    subject_index,
    variance_of_mean,
    within_mean,
    within_row_means,
)
from synthbench.metrics.metric import (
    BaseMetric,
    Direction,
    IntervalMethod,
    Needs,
    Statistic,
    Target,
    VolumeSource,
    Weights,
)

WANG_2003 = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first; they sum to 1.0001, and MONAI keeps them so."""

PREPARED_BYTES = 2**30
"""Volumes are prepared in blocks of at most this many bytes; two blocks are held at a time."""

BATCH_BYTES = {"cpu": 2**22, "cuda": 2**29}
"""Size of a batch of products: within a CPU's cache, or enough to keep a GPU busy."""

BLUR_ROWS = 24
"""Rows of the banded matrices with which the blur multiplies: few, so that few are zeros."""


@dataclass(frozen=True)
class Settings:
    """Every setting that can change an MS-SSIM value.

    Attributes
    ----------
    window
        Side of the Gaussian window, voxels.
    sigma
        Its standard deviation, voxels.
    weights
        Exponents of the scales, finest first; their number is the number of scales.
    k1, k2
        Stability constants of the luminance and the contrast term.
    data_range
        The intensities' range; volumes lie in [0, data_range].
    full_frame
        Whether the mean runs over the whole grid, with no mask.

    Raises
    ------
    MetricError
        A setting is outside its range.
    """

    window: int = 11
    sigma: float = 1.5
    weights: tuple[float, ...] = tuple(w / sum(WANG_2003[:3]) for w in WANG_2003[:3])
    k1: float = 0.01
    k2: float = 0.03
    data_range: float = 1.0
    full_frame: bool = False

    def __post_init__(self) -> None:
        if self.window < 2:
            raise MetricError(f"MS-SSIM: window must be at least 2 voxels; found {self.window}.")
        if not self.weights:
            raise MetricError("MS-SSIM: weights must hold at least one scale; found none.")
        positive = {
            "sigma": self.sigma,
            "k1": self.k1,
            "k2": self.k2,
            "data_range": self.data_range,
            "the smallest of weights": min(self.weights),
        }
        for name, value in positive.items():
            if not value > 0:
                raise MetricError(f"MS-SSIM: {name} must be above zero; found {value}.")

    @property
    def scales(self) -> int:
        """The number of scales."""
        return len(self.weights)


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "default": Settings(),
        "wang5": Settings(weights=WANG_2003),
        "monai-k4": Settings(window=4, weights=WANG_2003, full_frame=True),
    }
)
"""`default`: three scales, the first three weights renormalised; runs from 44 voxels a side.
`wang5`: the five scales of Wang et al. 2003, from 176 voxels a side. `monai-k4`: five scales
with a 4-voxel window over the full frame, as in MONAI's tutorials, from 64 voxels a side."""


class TensorSource(Protocol):
    """Volumes read one by one: float32 tensors of one shape, "d h w", on one device."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


def preset_settings(name: str) -> Settings:
    """The settings of a preset.

    Raises
    ------
    MetricError
        No preset has this name.
    """
    if name not in PRESETS:
        raise MetricError(f"MS-SSIM: no preset '{name}'; {near_miss(name, PRESETS)}")
    return PRESETS[name]


# The grid


def smallest_side(scales: int, window: int) -> int:
    """Voxels a side that this many scales need.

    The coarsest grid must hold the window; MONAI asks for window x (scales - 1)^2 as well.
    """
    return window * max(1 << (scales - 1), (scales - 1) ** 2)


def scales_that_fit(shape: tuple[int, ...], settings: Settings) -> int:
    """The largest number of scales that a grid of this shape allows with this window.

    >>> scales_that_fit((84, 128, 84), Settings())
    3
    """
    scales = 0
    while min(shape) >= smallest_side(scales + 1, settings.window):
        scales += 1
    return scales


def mask_pyramid(mask: Bool[Tensor, "d h w"], settings: Settings) -> list[Bool[Tensor, "_ _ _"]]:
    """The mask at each scale, on the voxels whose window lies inside the grid.

    At scale k it holds the voxels of which more than half (of 2^k a side) lie in the mask. The
    grid loses window - 1 voxels a side; an even window has no central voxel, and the one below
    the centre stands for it.

    Parameters
    ----------
    mask
        True inside; its shape is the volumes' grid.
    settings
        Gives the number of scales and the window.

    Returns
    -------
    One mask a scale, finest first.

    Raises
    ------
    MetricError
        The grid is too small for the scales, or nothing of the mask is left at a scale.
    """
    if mask.ndim != 3:
        raise MetricError(
            f"MS-SSIM: the mask must have the axes (d, h, w); found shape {tuple(mask.shape)}. "
            "Pass the volumes' grid without channel or batch axis."
        )
    _check_grid(tuple(mask.shape), settings)
    below = (settings.window - 1) // 2
    above = settings.window - 1 - below
    inside = slice(below, -above)
    share = mask.to(torch.float32)[None, None]
    pyramid = []
    for scale in range(settings.scales):
        if scale:
            share = avg_pool3d(share, kernel_size=2)
        pyramid.append(share[0, 0, inside, inside, inside] > 0.5)
        if not pyramid[-1].any():
            raise MetricError(
                f"MS-SSIM: the mask is empty at scale {scale + 1} of {settings.scales}, "
                f"{settings.window}-voxel windows taken off; {int(mask.sum())} of {mask.numel()} "
                "voxels are in it at full resolution. Use a larger mask or fewer scales."
            )
    return pyramid


@dataclass(frozen=True)
class _Scale:
    """Where a scale is evaluated.

    `box` is the part of the scale's grid that the masked windows touch; `inside` holds the
    masked positions among the box's windows, flattened, and is None where all of them are.
    """

    box: tuple[slice, slice, slice]
    inside: Int64[Tensor, " k"] | None


def _scales(mask: Bool[Tensor, "d h w"], settings: Settings) -> list[_Scale]:
    return [_cropped(level, settings.window) for level in mask_pyramid(mask, settings)]


def _cropped(mask: Bool[Tensor, "d h w"], window: int) -> _Scale:
    """Crop to the mask's bounding box, grown by what the window reaches."""
    occupied = mask.nonzero()
    low, high = occupied.amin(dim=0).tolist(), (occupied.amax(dim=0) + 1).tolist()
    windows = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    d, h, w = (slice(a, b + window - 1) for a, b in zip(low, high, strict=True))
    inside = None if bool(windows.all()) else windows.flatten().nonzero()[:, 0]
    return _Scale(box=(d, h, w), inside=inside)


# The blur


def gaussian_window(window: int, sigma: float) -> Float32[Tensor, " w"]:
    """A Gaussian of `window` voxels, centred, that sums to one."""
    offsets = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    values = torch.exp(-((offsets / sigma) ** 2) / 2)
    return (values / values.sum()).to(torch.float32)


def banded(window: Float32[Tensor, " w"]) -> Float32[Tensor, "r c"]:
    """The matrix that slides a window along `BLUR_ROWS` positions."""
    matrix = window.new_zeros(BLUR_ROWS, BLUR_ROWS + len(window) - 1)
    for row in range(BLUR_ROWS):
        matrix[row, row : row + len(window)] = window
    return matrix


def _bands(length: int, size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut an axis into bands: windows, the voxels that they reach, and rows of the matrix."""
    windows = length - size + 1
    for start in range(0, windows, BLUR_ROWS):
        stop = min(start + BLUR_ROWS, windows)
        yield slice(start, stop), slice(start, stop + size - 1), slice(0, stop - start)


def blur(
    volumes: Float32[Tensor, "b d h w"], band: Float32[Tensor, "r c"]
) -> Float32[Tensor, "b _ _ _"]:
    """Weighted local means under a separable window, where it lies inside the grid.

    Three products with banded matrices, one an axis, in bands: a matrix for a whole axis would
    be mostly zeros.

    Parameters
    ----------
    volumes
        A batch of volumes.
    band
        The window along one axis, from `banded`.

    Returns
    -------
    Each axis is shorter by the window's length less one.
    """
    size = band.shape[1] - band.shape[0] + 1
    b, d, h, w = volumes.shape
    flat = volumes.reshape(b, d, h * w)
    along_d = flat.new_empty(b, d - size + 1, h * w)
    for windows, reached, rows in _bands(d, size):
        along_d[:, windows] = band[rows, : reached.stop - reached.start] @ flat[:, reached]
    slabs = along_d.reshape(-1, h, w)
    along_h = slabs.new_empty(len(slabs), h - size + 1, w)
    for windows, reached, rows in _bands(h, size):
        matrix = band[rows, : reached.stop - reached.start]
        along_h[:, windows] = torch.matmul(matrix, slabs[:, reached])
    lines = along_h.reshape(-1, w)
    along_w = lines.new_empty(len(lines), w - size + 1)
    for windows, reached, rows in _bands(w, size):
        along_w[:, windows] = lines[:, reached] @ band[rows, : reached.stop - reached.start].T
    return along_w.reshape(b, d - size + 1, h - size + 1, w - size + 1)


# Volumes, and pairs of them


@dataclass(frozen=True)
class _Tensors:
    """Volumes that are read as arrays, as tensors on one device."""

    arrays: VolumeSource
    device: torch.device

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int, /) -> Float32[Tensor, "d h w"]:
        # A copy, because arrays of a memory map are read-only, which tensors cannot be.
        array = np.array(self.arrays[index], dtype=np.float32)
        return torch.from_numpy(array).to(self.device)


@dataclass(frozen=True)
class _Prepared:
    """A block of volumes at one scale, with the part of SSIM that needs one volume only.

    `means` are local means at the masked windows; `halves` are (variance + c2/2) / 2 there, so
    that a pair's denominator is the sum of two of them.
    """

    volumes: Float32[Tensor, "b d h w"]
    means: Float32[Tensor, "b k"]
    halves: Float32[Tensor, "b k"]


def _at_windows(maps: Float32[Tensor, "b d h w"], scale: _Scale) -> Float32[Tensor, "b k"]:
    flat = maps.flatten(start_dim=1)
    return flat if scale.inside is None else flat.index_select(1, scale.inside)


def _prepare(
    volume: Float32[Tensor, "d h w"],
    scales: list[_Scale],
    band: Float32[Tensor, "r c"],
    settings: Settings,
) -> list[_Prepared]:
    c2 = (settings.k2 * settings.data_range) ** 2
    level = volume[None]
    prepared = []
    for number, scale in enumerate(scales):
        if number:
            level = avg_pool3d(level, kernel_size=2)
        box = level[:, scale.box[0], scale.box[1], scale.box[2]].contiguous()
        means = _at_windows(blur(box, band), scale)
        variances = _at_windows(blur(box * box, band), scale).addcmul_(means, means, value=-1)
        prepared.append(_Prepared(box, means, variances.add_(c2 / 2).div_(2)))
    return prepared


def _prepare_block(
    source: TensorSource,
    block: range,
    mask: Bool[Tensor, "d h w"],
    scales: list[_Scale],
    band: Float32[Tensor, "r c"],
    settings: Settings,
) -> list[_Prepared]:
    singles = [_prepare(_checked(source[i], i, mask), scales, band, settings) for i in block]
    return [
        _Prepared(
            torch.cat([one.volumes for one in level]),
            torch.cat([one.means for one in level]),
            torch.cat([one.halves for one in level]),
        )
        for level in zip(*singles, strict=True)
    ]


def _contrast(
    one: _Prepared, others: _Prepared, scale: _Scale, band: Tensor, c2: float
) -> Float32[Tensor, "b k"]:
    """The contrast-structure term, (2 s_xy + c2) / (s_x^2 + s_y^2 + c2), at each window."""
    covariance = _at_windows(blur(others.volumes * one.volumes, band), scale)
    covariance.addcmul_(others.means, one.means, value=-1).add_(c2 / 2)
    return covariance.div_(others.halves + one.halves)


def _luminance(one: _Prepared, others: _Prepared, c1: float) -> Float32[Tensor, "b k"]:
    """The luminance term, (2 m_x m_y + c1) / (m_x^2 + m_y^2 + c1), at each window."""
    product = (2 * others.means).mul_(one.means).add_(c1)
    return product.div_(others.means.square().add_(one.means.square()).add_(c1))


def _similarities(
    one: list[_Prepared],
    others: list[_Prepared],
    scales: list[_Scale],
    band: Float32[Tensor, "r c"],
    settings: Settings,
) -> Float64[Tensor, " b"]:
    """MS-SSIM of one volume with each of a batch: the product of the scales' masked means."""
    c1 = (settings.k1 * settings.data_range) ** 2
    c2 = (settings.k2 * settings.data_range) ** 2
    product = torch.ones(len(others[0].means), dtype=torch.float64, device=band.device)
    for number, (x, y, scale) in enumerate(zip(one, others, scales, strict=True)):
        terms = _contrast(x, y, scale, band, c2)
        if number == settings.scales - 1:
            terms.mul_(_luminance(x, y, c1))
        # A negative mean has no real power; MONAI takes zero for it too.
        mean = torch.relu(terms.mean(dim=1).to(torch.float64))
        product *= mean ** settings.weights[number]
    return product


@torch.no_grad()
def pair_matrix(
    volumes: Float32[Tensor, "n d h w"] | TensorSource,
    others: Float32[Tensor, "m d h w"] | TensorSource | None = None,
    *,
    mask: Bool[Tensor, "d h w"] | None,
    settings: Settings,
    progress: Callable[[int], None] | None = None,
) -> Float64[np.ndarray, "n m"]:
    """MS-SSIM of every pair of volumes.

    Runs on the volumes' device. Volumes of a `TensorSource` are read in blocks, so that memory
    stays bounded; with few volumes each is read once.

    Parameters
    ----------
    volumes, others
        Intensities in [0, settings.data_range]. With `others`, all pairs across; without, all
        pairs within `volumes`.
    mask
        The voxels to average over, in the volumes' grid; None is the full frame.
    settings
        Window, scales and constants.
    progress
        Called with the number of pairs done since its last call.

    Returns
    -------
    Values in [0, 1]; within one set symmetric, with ones on the diagonal.

    Raises
    ------
    MetricError
        A set is empty, shapes differ, a volume holds NaN or infinity, the grid is too small,
        the mask is empty at a scale, or the settings are full-frame and a mask is given.
    """
    for role, source in (("volumes", volumes), ("others", others)):
        if source is not None and len(source) == 0:
            raise MetricError(f"MS-SSIM: {role} must hold at least 1 volume; found none.")
    first = volumes[0]
    grid = _grid_mask(mask, first, settings)
    scales = _scales(grid, settings)
    band = banded(gaussian_window(settings.window, settings.sigma)).to(first.device)

    def prepare(source: TensorSource, block: range) -> list[_Prepared]:
        return _prepare_block(source, block, grid, scales, band, settings)

    columns = volumes if others is None else others
    result = np.zeros((len(volumes), len(columns)))
    block_size, batch_size = _sizes(scales, grid, settings)
    for rows in _blocks(range(len(volumes)), block_size):
        held = prepare(volumes, rows)
        # Within one set, the pairs below the diagonal mirror those above it.
        first_column = rows.start if others is None else 0
        for block in _blocks(range(first_column, len(columns)), block_size):
            diagonal = others is None and block == rows
            facing = held if diagonal else prepare(columns, block)
            for i in rows:
                one = _part(held, i - rows.start, i - rows.start + 1)
                partners = range(i + 1 if diagonal else block.start, block.stop)
                for batch in _blocks(partners, batch_size):
                    these = _part(facing, batch.start - block.start, batch.stop - block.start)
                    values = _similarities(one, these, scales, band, settings)
                    result[i, batch.start : batch.stop] = values.cpu().numpy()
                    if progress is not None:
                        progress(len(batch))
    return result + result.T + np.eye(len(volumes)) if others is None else result


def ms_ssim(
    x: Float32[Tensor, "d h w"],
    y: Float32[Tensor, "d h w"],
    mask: Bool[Tensor, "d h w"] | None = None,
    preset: str = "default",
) -> float:
    """MS-SSIM of two volumes (Wang et al. 2003, equation 7).

    Parameters
    ----------
    x, y
        Volumes with intensities in [0, 1].
    mask
        The voxels to average over; None is the full frame.
    preset
        A name in `PRESETS`.

    Returns
    -------
    A value in [0, 1]; 1 for equal volumes.

    Raises
    ------
    MetricError
        As `pair_matrix`, or no preset has this name.
    """
    settings = preset_settings(preset)
    return float(pair_matrix(x[None], y[None], mask=mask, settings=settings)[0, 0])


def _blocks(indices: range, size: int) -> Iterator[range]:
    for start in range(indices.start, indices.stop, size):
        yield range(start, min(start + size, indices.stop))


def _part(levels: list[_Prepared], start: int, stop: int) -> list[_Prepared]:
    chosen = slice(start, stop)
    return [
        _Prepared(level.volumes[chosen], level.means[chosen], level.halves[chosen])
        for level in levels
    ]


def _sizes(scales: list[_Scale], mask: Tensor, settings: Settings) -> tuple[int, int]:
    """Volumes a block and pairs a batch, from the bytes that each holds."""
    finest = 4
    for axis in scales[0].box:
        finest *= axis.stop - axis.start
    held = sum(3 * finest / 8**number for number in range(settings.scales))
    block = max(1, int(PREPARED_BYTES // held))
    batch = max(1, BATCH_BYTES["cuda" if mask.is_cuda else "cpu"] // finest)
    return block, batch


def _grid_mask(
    mask: Bool[Tensor, "d h w"] | None, volume: Tensor, settings: Settings
) -> Bool[Tensor, "d h w"]:
    if mask is None:
        return torch.ones(volume.shape, dtype=torch.bool, device=volume.device)
    if settings.full_frame:
        raise MetricError(
            "MS-SSIM: these settings average over the full frame; found a mask. Pass mask=None, "
            "or settings with full_frame=False."
        )
    return mask.to(device=volume.device, dtype=torch.bool)


def _check_grid(shape: tuple[int, ...], settings: Settings) -> None:
    fit = scales_that_fit(shape, settings)
    if fit >= settings.scales:
        return
    needed = smallest_side(settings.scales, settings.window)
    remedy = f"Use at most {fit} scales" if fit else f"Use a window of at most {min(shape)} voxels"
    raise MetricError(
        f"MS-SSIM: {settings.scales} scales with a {settings.window}-voxel window need at least "
        f"{needed} voxels a side; the smallest side of {'x'.join(map(str, shape))} has "
        f"{min(shape)}. {remedy}, or volumes on a finer grid."
    )


def _checked(volume: Tensor, index: int, mask: Tensor) -> Float32[Tensor, "d h w"]:
    if volume.shape != mask.shape:
        raise MetricError(
            f"MS-SSIM: volumes and mask must share one grid; found volume {index} of shape "
            f"{tuple(volume.shape)} where the grid is {tuple(mask.shape)}. "
            "Bring all of them to one space."
        )
    if not bool(torch.isfinite(volume).all()):
        raise MetricError(
            f"MS-SSIM: volume {index} holds NaN or infinity. Look at it, and remove or mend it."
        )
    return volume.to(torch.float32)


# The statistics


@dataclass(frozen=True)
class MeanSimilarity:
    """Mean similarity over pairs within one set: its lack of diversity.

    Attributes
    ----------
    pairs
        Pair matrix, zero for pairs within a subject.
    role
        Whose weights apply.
    subjects
        For that role, the subject index of each image.
    """

    pairs: Float64[np.ndarray, "n n"]
    role: str
    subjects: Mapping[str, Int64[np.ndarray, " _"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The U-statistic w' S0 w / (n^2 - sum over subjects of (sum of their w)^2)."""
        return within_mean(self.pairs, weights[self.role], self.subjects[self.role])

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = 4 var(g)/n, with g the images' mean similarities to the others."""
        w, index = weights[self.role], self.subjects[self.role]
        return 4 * variance_of_mean(within_row_means(self.pairs, w, index), w, index)


@dataclass(frozen=True)
class SimilarityGap:
    """Mean similarity within the synthetic set less that within the real one.

    Zero is best: above it the synthetic set is less diverse than the real one, below it more.
    """

    real: MeanSimilarity
    synth: MeanSimilarity

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image, of both roles."""
        return {**self.real.subjects, **self.synth.subjects}

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """Synthetic less real, in [-1, 1]."""
        gap: Float64[np.ndarray, " b"] = self.synth.value(weights) - self.real.value(weights)
        return gap

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of the two variances: the sets are independent."""
        total: Float64[np.ndarray, " b"] = self.synth.variance(weights) + self.real.variance(
            weights
        )
        return total

    def parts(self) -> dict[str, tuple[str, Statistic]]:
        """The two means that the gap is made of."""
        return {"synth": ("MS-SSIM synth", self.synth), "real": ("MS-SSIM real", self.real)}


@dataclass(frozen=True)
class CrossSimilarity:
    """Mean similarity over pairs of a real and a synthetic image.

    Attributes
    ----------
    pairs
        Pair matrix of real rows and synthetic columns.
    subjects
        For each role, the subject index of each image.
    """

    pairs: Float64[np.ndarray, "n m"]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The mean w' S v / (n m)."""
        return between_mean(self.pairs, weights["real"], weights["synth"])

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = var(row means)/n + var(column means)/m: order (1, 1), so no factor of 4."""
        w, v = weights["real"], weights["synth"]
        rows = between_row_means(self.pairs, v)
        columns = between_row_means(self.pairs.T, w)
        by_real = variance_of_mean(rows, w, self.subjects["real"])
        by_synth = variance_of_mean(columns, v, self.subjects["synth"])
        total: Float64[np.ndarray, " b"] = by_real + by_synth
        return total


class MSSSIM(BaseMetric):
    """MS-SSIM: the gap in diversity between the synthetic and the real set."""

    name = "ms_ssim"
    label = "MS-SSIM gap"
    formula = "mean MS-SSIM over synthetic pairs less that over real pairs, inside the mask"
    needs: Needs = "volumes"
    direction: Direction = "zero"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    sees = "how alike the volumes of a set are: lost (above zero) or excess (below) diversity"
    misses = "whether the volumes are realistic, and differences between equally diverse sets"

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The settings of the default preset: none of them depends on the real set."""
        return {**asdict(PRESETS["default"]), "weights": list(PRESETS["default"].weights)}

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n n"]:
        """Return the pair matrix within a set, on the GPU where there is one.

        Parameters
        ----------
        volumes
            Float32 arrays, intensities in [0, 1].
        mask
            The voxels to average over; full-frame settings average over all.
        settings
            What `freeze` gave: the fields of `Settings`.
        progress
            Called with the pairs done and their total.

        Raises
        ------
        MetricError
            As `pair_matrix`.
        """
        chosen = Settings(**{**settings, "weights": tuple(settings["weights"])})
        total = len(volumes) * (len(volumes) - 1) // 2
        done = 0

        def advance(pairs: int) -> None:
            nonlocal done
            done += pairs
            if progress is not None:
                progress(done, total)

        return pair_matrix(
            _Tensors(volumes, torch.device("cuda" if torch.cuda.is_available() else "cpu")),
            mask=None if chosen.full_frame else torch.from_numpy(np.array(mask, dtype=bool)),
            settings=chosen,
            progress=advance,
        )

    def prepare(
        self,
        real: Float64[np.ndarray, "n n"],
        synth: Float64[np.ndarray, "m m"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> SimilarityGap:
        """The gap, from pair matrices within the two sets.

        Parameters
        ----------
        real, synth
            Symmetric matrices of `pair_matrix`.
        subjects
            For each role, the subject of each image; None is one image a subject.
        settings
            What the matrices were computed with; nothing more depends on it.

        Raises
        ------
        MetricError
            A matrix is not square, smaller than 2 x 2, asymmetric or not finite.
        """
        matrices = {"real": _checked_pairs("real", real), "synth": _checked_pairs("synth", synth)}
        index = subject_index(subjects, real=len(real), synth=len(synth))
        within = {
            role: MeanSimilarity(distinct_pairs(pairs, index[role]), role, {role: index[role]})
            for role, pairs in matrices.items()
        }
        return SimilarityGap(real=within["real"], synth=within["synth"])

    def prepare_cross(
        self,
        pairs: Float64[np.ndarray, "n m"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
    ) -> CrossSimilarity:
        """The mean over real-synthetic pairs, from the pair matrix across the two sets.

        Raises
        ------
        MetricError
            The matrix is not a finite matrix with at least two rows and columns.
        """
        matrix = np.asarray(pairs, dtype=np.float64)
        if matrix.ndim != 2 or min(matrix.shape) < 2 or not np.isfinite(matrix).all():
            raise MetricError(
                "MS-SSIM: the cross pairs must be a finite matrix of at least 2 real by 2 "
                f"synthetic images; found shape {matrix.shape}. Use pair_matrix(real, synth, ...)."
            )
        index = subject_index(subjects, real=matrix.shape[0], synth=matrix.shape[1])
        return CrossSimilarity(matrix, index)


def _checked_pairs(role: str, pairs: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "n n"]:
    matrix = np.asarray(pairs, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise MetricError(
            f"MS-SSIM: {role} must be a square matrix of pairs of at least 2 images; found shape "
            f"{matrix.shape}. Use pair_matrix(volumes, ...)."
        )
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        raise MetricError(
            f"MS-SSIM: the pair matrix of {role} must be finite and symmetric; found otherwise. "
            "Use pair_matrix(volumes, ...) without others."
        )
    return matrix
