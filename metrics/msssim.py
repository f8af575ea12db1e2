"""Multi-scale structural similarity of pairs of volumes, and the diversity that it measures.

The mean over pairs within a set falls as the set grows more diverse. Pairs share images, so
its uncertainty comes from resampling images, never pairs.

With an all-ones mask the values are those of MONAI's `compute_ms_ssim`. What differs is the
cost: a volume's own means and variances are found once, and a pair takes one separable blur
a scale, of the mask's bounding box.

References
----------
Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment",
Asilomar 2003: equation 7, and the weights in section 3.2.
Wang et al., "Image quality assessment: from error visibility to structural similarity",
IEEE Transactions on Image Processing 13 (2004): window, k1 and k2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

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
    pair_design,
    ratio,
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
    Part,
    Role,
    Target,
    VolumeSource,
    Weights,
)

WANG_2003 = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first; they sum to 1.0001, and MONAI keeps them so."""

PREPARED_BYTES = 2**30
"""Volumes are prepared in blocks of at most this many bytes; two blocks are held at a time."""

BATCH_BYTES = {"cpu": 1, "cuda": 2**29}
"""Size of a batch of products: one pair at a time, or enough to keep a GPU busy."""

_Run = TypeVar("_Run")
_Compared = TypeVar("_Compared")

BLUR_ROWS = 16
"""Rows of the banded matrices with which the blur multiplies: few, so that few are zeros."""

PAIR_BUDGET = 50_000
"""The number of pairs of a set, or across two sets, up to which all of them are computed."""

DESIGN_SEED = 0
"""Seed of the pairs that are computed where there are more than `PAIR_BUDGET`."""

MIN_PARTNERS = 4
"""Each image must be in at least this many of the pairs that a design computes."""


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

    `box` is the part of the scale's grid that the masked windows touch. `inside` says which of
    the box's windows are masked, in the order of axes of `blur`, and is None where all of them
    are. `count` is the number of masked windows.
    """

    box: tuple[slice, slice, slice]
    inside: Bool[Tensor, "h w d 1"] | None
    count: int


def _scales(mask: Bool[Tensor, "d h w"], settings: Settings) -> list[_Scale]:
    return [_cropped(level, settings.window) for level in mask_pyramid(mask, settings)]


def _cropped(mask: Bool[Tensor, "d h w"], window: int) -> _Scale:
    """Crop to the mask's bounding box, grown by what the window reaches."""
    occupied = mask.nonzero()
    low, high = occupied.amin(dim=0).tolist(), (occupied.amax(dim=0) + 1).tolist()
    windows = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    d, h, w = (slice(a, b + window - 1) for a, b in zip(low, high, strict=True))
    inside = None if bool(windows.all()) else windows.permute(1, 2, 0)[..., None].contiguous()
    return _Scale(box=(d, h, w), inside=inside, count=len(occupied))


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


def slide(columns: Float32[Tensor, "a k"], band: Float32[Tensor, "r c"]) -> Float32[Tensor, "_ k"]:
    """Weighted means under a window that slides down the columns of a matrix.

    A product with a banded matrix, band by band: one matrix for all positions would be mostly
    zeros.

    Parameters
    ----------
    columns
        In any layout, so that the transpose of a matrix costs no copy.
    band
        The window, from `banded`.

    Returns
    -------
    Shorter by the window's length less one, contiguous.
    """
    rows, reach = band.shape
    windows = len(columns) - (reach - rows)
    means = columns.new_empty(windows, columns.shape[1])
    for start in range(0, windows, rows):
        n = min(rows, windows - start)
        m = n + reach - rows
        torch.mm(band[:n, :m], columns[start : start + m], out=means[start : start + n])
    return means


def blur(
    volumes: Float32[Tensor, "d b h w"], band: Float32[Tensor, "r c"]
) -> Float32[Tensor, "_ _ _ b"]:
    """Weighted local means under a separable window, where it lies inside the grid.

    Each pass after the first slides along the last axis and leaves it in front, which is how
    three plain matrix products need no copy between them.

    Parameters
    ----------
    volumes
        A batch of volumes, contiguous; the batch is the second axis.
    band
        The window along one axis, from `banded`.

    Returns
    -------
    The axes h, w, d and batch; each but the batch is shorter by the window's length less one.
    """
    d, b, h, w = volumes.shape
    by_d = slide(volumes.view(d, -1), band)
    by_w = slide(by_d.view(-1, w).T, band)
    by_h = slide(by_w.view(-1, h).T, band)
    return by_h.view(len(by_h), len(by_w), len(by_d), b)


# Volumes, and pairs of them


@dataclass(frozen=True)
class _Tensors:
    """Volumes that are read as arrays, as tensors on one device."""

    arrays: VolumeSource
    device: torch.device

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int, /) -> Float32[Tensor, "d h w"]:
        volume: Tensor = _tensor(self.arrays[index]).to(self.device, torch.float32)
        return volume


@dataclass(frozen=True)
class _Prepared:
    """Volumes at one scale, with the part of SSIM that needs one volume only.

    `means` are local means; `halves` are (variance + c2/2) / 2, so that a pair's denominator is
    the sum of two of them, and infinite outside the mask, so that its quotient is zero there.
    """

    volumes: Float32[Tensor, "d b h w"]
    means: Float32[Tensor, "h w d b"]
    halves: Float32[Tensor, "h w d b"]


def _covariance(
    x: Float32[Tensor, "d b h w"],
    y: Float32[Tensor, "d b h w"],
    means_of_x: Float32[Tensor, "h w d b"],
    means_of_y: Float32[Tensor, "h w d b"],
    band: Float32[Tensor, "r c"],
    c2: float,
) -> Float32[Tensor, "h w d b"]:
    """Local covariances plus c2/2, which joins the product because a window sums to one."""
    product = torch.addcmul(y.new_tensor(c2 / 2), x, y, out=y.new_empty(y.shape))
    return blur(product, band).addcmul_(means_of_x, means_of_y, value=-1)


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
        box = level[0][scale.box][:, None].contiguous()
        means = blur(box, band)
        halves = _covariance(box, box, means, means, band, c2).div_(2)
        if scale.inside is not None:
            halves.masked_fill_(~scale.inside, torch.inf)
        prepared.append(_Prepared(box, means, halves))
    return prepared


def _side_by_side(singles: list[list[_Prepared]]) -> list[_Prepared]:
    """Join volumes that were prepared one by one into a batch, scale by scale."""
    if len(singles) == 1:
        return singles[0]
    return [
        _Prepared(
            torch.cat([one.volumes for one in level], dim=1),
            torch.cat([one.means for one in level], dim=3),
            torch.cat([one.halves for one in level], dim=3),
        )
        for level in zip(*singles, strict=True)
    ]


def _contrast(
    x: _Prepared, y: _Prepared, band: Float32[Tensor, "r c"], c2: float
) -> Float32[Tensor, "h w d b"]:
    """The contrast-structure term, (2 s_xy + c2) / (s_x^2 + s_y^2 + c2), at each window."""
    terms = _covariance(x.volumes, y.volumes, x.means, y.means, band, c2)
    return terms.div_(y.halves + x.halves)


def _luminance(x: _Prepared, y: _Prepared, c1: float) -> Float32[Tensor, "h w d b"]:
    """The luminance term, (2 m_x m_y + c1) / (m_x^2 + m_y^2 + c1), at each window."""
    product = (2 * y.means).mul_(x.means).add_(c1)
    return product.div_(y.means.square().add_(x.means.square()).add_(c1))


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
    size = others[0].volumes.shape[1]
    product = torch.ones(size, dtype=torch.float64, device=band.device)
    for number, (x, y, scale) in enumerate(zip(one, others, scales, strict=True)):
        terms = _contrast(x, y, band, c2)
        if number == settings.scales - 1:
            terms.mul_(_luminance(x, y, c1))
        mean = terms.sum(dim=(0, 1, 2)).to(torch.float64) / scale.count
        # A negative mean has no real power; MONAI takes zero for it too.
        product *= torch.relu(mean) ** settings.weights[number]
    return product


@torch.no_grad()
def pair_matrix(
    volumes: Float32[Tensor, "n d h w"] | TensorSource,
    others: Float32[Tensor, "m d h w"] | TensorSource | None = None,
    *,
    mask: Bool[Tensor, "d h w"] | None,
    settings: Settings,
    design: Bool[np.ndarray, "n m"] | None = None,
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
    design
        The pairs to compute, symmetric within one set; None is all of them.
    progress
        Called with the number of pairs done since its last call.

    Returns
    -------
    Values in [0, 1], NaN where the design leaves a pair out; within one set symmetric, with
    ones on the diagonal.

    Raises
    ------
    MetricError
        A set is empty, shapes differ, a volume holds NaN or infinity, the grid is too small,
        the mask is empty at a scale, the settings are full-frame and a mask is given, or the
        design does not fit the sets.
    """
    for role, source in (("volumes", volumes), ("others", others)):
        if source is not None and len(source) == 0:
            raise MetricError(f"MS-SSIM: {role} must hold at least 1 volume; found none.")
    first = volumes[0]
    grid = _grid_mask(mask, first, settings)
    scales = _scales(grid, settings)
    band = banded(gaussian_window(settings.window, settings.sigma)).to(first.device)

    columns = volumes if others is None else others

    def prepare(source: TensorSource, block: range) -> list[list[_Prepared]]:
        which = "" if source is volumes else " of the second set"
        checked = (_checked(source[i], f"volume {i}{which}", grid) for i in block)
        return [_prepare(volume, scales, band, settings) for volume in checked]

    chosen = _chosen_pairs(design, len(volumes), None if others is None else len(others))
    result = np.full(chosen.shape, np.nan)
    block_size, batch_size = _sizes(scales, grid, settings)
    for rows in _blocks(range(len(volumes)), block_size):
        held = prepare(volumes, rows)
        # Within one set, the pairs below the diagonal mirror those above it.
        first_column = rows.start if others is None else 0
        for block in _blocks(range(first_column, len(columns)), block_size):
            wanted = chosen[rows.start : rows.stop, block.start : block.stop]
            if not wanted.any():
                continue
            facing = held if others is None and block == rows else prepare(columns, block)

            def compare(
                run: tuple[int, int, int],
                held: list[list[_Prepared]] = held,
                facing: list[list[_Prepared]] = facing,
            ) -> tuple[tuple[int, int, int], Float64[np.ndarray, " b"]]:
                i, start, stop = run
                batch = _side_by_side(facing[start:stop])
                return run, _similarities(held[i], batch, scales, band, settings).cpu().numpy()

            runs = [
                (i, start, stop)
                for i, partners in enumerate(wanted)
                for start, stop in _runs(partners, batch_size)
            ]
            for (i, start, stop), values in _each(compare, runs, band.device):
                result[rows.start + i, block.start + start : block.start + stop] = values
                if progress is not None:
                    progress(stop - start)
    return result if others is not None else _mirrored(result)


def _each(
    function: Callable[[_Run], _Compared], runs: Sequence[_Run], device: torch.device
) -> Iterator[_Compared]:
    """Map, on a CPU with a pair on each core: one pair's products are too small to share out.

    So every pair is computed by one thread, and its value does not depend on their number.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        yield from map(function, runs)
        return

    def alone(run: _Run) -> _Compared:
        with torch.no_grad():  # which holds for one thread only
            return function(run)

    # The number of threads of an operation is a setting of the thread that calls it.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(alone, runs)


def _chosen_pairs(
    design: Bool[np.ndarray, "n m"] | None, n: int, m: int | None
) -> Bool[np.ndarray, "n m"]:
    """Which pairs to compute: within one set (m is None) those above the diagonal only."""
    shape = (n, n if m is None else m)
    wanted = np.ones(shape, dtype=np.bool_) if design is None else np.asarray(design)
    if wanted.shape != shape or wanted.dtype != np.bool_:
        raise MetricError(
            f"MS-SSIM: the design must be a boolean matrix of shape {shape}; found shape "
            f"{wanted.shape} of {wanted.dtype}. Use pair_design, or None for all pairs."
        )
    if m is not None:
        return wanted
    if not np.array_equal(wanted, wanted.T):
        raise MetricError(
            "MS-SSIM: the design of pairs within one set must be symmetric; found otherwise. "
            "Use design | design.T."
        )
    above: Bool[np.ndarray, "n n"] = np.triu(wanted, k=1)
    return above


def _mirrored(above: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "n n"]:
    pairs: Float64[np.ndarray, "n n"] = np.fmax(above, above.T)
    np.fill_diagonal(pairs, 1.0)
    return pairs


def ms_ssim(
    x: Float32[Tensor, "d h w"] | Float32[np.ndarray, "d h w"],
    y: Float32[Tensor, "d h w"] | Float32[np.ndarray, "d h w"],
    mask: Bool[Tensor, "d h w"] | Bool[np.ndarray, "d h w"] | None = None,
    preset: str = "default",
) -> float:
    """MS-SSIM of two volumes (Wang et al. 2003, equation 7).

    Parameters
    ----------
    x, y
        Volumes with intensities in [0, 1]: arrays, or tensors. The device of `x` computes.
    mask
        The voxels to average over; None is the full frame.
    preset
        A name in `PRESETS`.

    Returns
    -------
    A value in [0, 1]; 1 for equal volumes, constant ones too.

    Raises
    ------
    MetricError
        A volume has more than the axes (d, h, w) or leaves [0, 1], no preset has this name, or as
        `pair_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).random((44, 44, 44), dtype=np.float32)
    >>> ms_ssim(x, x)
    1.0
    """
    settings = preset_settings(preset)
    first, second = (
        _volume(name, volume, settings.data_range) for name, volume in (("x", x), ("y", y))
    )
    return float(
        pair_matrix(
            first[None],
            second.to(first.device)[None],
            mask=None if mask is None else _tensor(mask),
            settings=settings,
        )[0, 0]
    )


def _tensor(array: Tensor | np.ndarray) -> Tensor:
    # A copy, because arrays of a memory map are read-only, which tensors cannot be.
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def _volume(name: str, array: Tensor | np.ndarray, data_range: float) -> Float32[Tensor, "d h w"]:
    volume = _tensor(array)
    if volume.ndim != 3:
        raise MetricError(
            f"MS-SSIM: {name} must be one volume with the axes (d, h, w); found shape "
            f"{tuple(volume.shape)}. Pass {name}[0] to drop a leading axis."
        )
    low, high = (float(bound) for bound in volume.aminmax())
    # A comparison with NaN is false, so this refuses NaN too.
    if not (low >= 0 and high <= data_range):
        raise MetricError(
            f"MS-SSIM: intensities must be finite and lie in [0, {data_range:g}]; {name} spans "
            f"[{low:g}, {high:g}]. Scale both volumes by one factor first."
        )
    return volume.to(torch.float32)


def _blocks(indices: range, size: int) -> Iterator[range]:
    for start in range(indices.start, indices.stop, size):
        yield range(start, min(start + size, indices.stop))


def _runs(partners: Bool[np.ndarray, " m"], size: int) -> Iterator[tuple[int, int]]:
    """Start and stop of the runs of chosen partners, each of at most `size`."""
    edges = np.flatnonzero(np.diff(partners, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
        for run in _blocks(range(start, stop), size):
            yield run.start, run.stop


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
        f"MS-SSIM: {settings.scales} scales and windows of {settings.window} voxels need at least "
        f"{needed} voxels a side; the smallest side of {'x'.join(map(str, shape))} has "
        f"{min(shape)}. {remedy}, or volumes on a finer grid."
    )


def _checked(volume: Tensor, name: str, mask: Tensor) -> Float32[Tensor, "d h w"]:
    if volume.shape != mask.shape:
        raise MetricError(
            f"MS-SSIM: volumes and mask must share one grid; found {name} of shape "
            f"{tuple(volume.shape)} where the grid is {tuple(mask.shape)}. "
            "Bring all of them to one space."
        )
    if not bool(torch.isfinite(volume).all()):
        raise MetricError(
            f"MS-SSIM: {name} holds NaN or infinity. Look at it, and remove or mend it."
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
    design
        Which pairs were computed; None is all of them.
    """

    pairs: Float64[np.ndarray, "n n"]
    role: str
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    design: Bool[np.ndarray, "n n"] | None = None

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The U-statistic w' S0 w / (n^2 - sum over subjects of (sum of their w)^2).

        With a design, the weighted mean over its pairs (see `within_mean`).
        """
        index = self.subjects[self.role]
        return within_mean(self.pairs, weights[self.role], index, self.design)

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = 4 var(g)/n, with g the images' mean similarities to the others.

        With a design, g runs over an image's partners, and V includes the choice of pairs (see
        `within_row_means`: it is conservative).
        """
        w, index = weights[self.role], self.subjects[self.role]
        return variance_of_mean(self.contributions(weights)[self.role], w, index)

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image, 2 g_i."""
        index = self.subjects[self.role]
        return {self.role: 2 * within_row_means(self.pairs, weights[self.role], index, self.design)}


@dataclass(frozen=True)
class CrossSimilarity:
    """Mean similarity over pairs of a real and a synthetic image.

    Attributes
    ----------
    pairs
        Pair matrix of real rows and synthetic columns, zero for those not computed.
    subjects
        For each role, the subject index of each image.
    design
        Which pairs were computed; None is all of them.
    """

    pairs: Float64[np.ndarray, "n m"]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    design: Bool[np.ndarray, "n m"] | None = None

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The mean w' S v / (n m); with a design A, w' (A * S) v / (w' A v)."""
        w, v = weights["real"], weights["synth"]
        if self.design is None:
            return between_mean(self.pairs, w, v)
        return ratio(((w @ self.pairs) * v).sum(axis=1), ((w @ self.design) * v).sum(axis=1))

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = var(row means)/n + var(column means)/m: order (1, 1), so no factor of 4.

        With a design the means run over an image's partners, whose own differences stay in
        them: V then includes the choice of pairs, and is conservative.
        """
        total = np.zeros(len(weights["real"]))
        for role, means in self.contributions(weights).items():
            total += variance_of_mean(means, weights[role], self.subjects[role])
        return total

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image: its mean similarity to the other role's."""
        w, v = weights["real"], weights["synth"]
        if self.design is None:
            return {
                "real": between_row_means(self.pairs, v),
                "synth": between_row_means(self.pairs.T, w),
            }
        overall = self.value(weights)[:, None]
        rows, columns = v @ self.design.T, w @ self.design
        return {
            "real": np.where(rows > 0, ratio(v @ self.pairs.T, rows), overall),
            "synth": np.where(columns > 0, ratio(w @ self.pairs, columns), overall),
        }


@dataclass(frozen=True)
class SimilarityGap:
    """Mean similarity within the synthetic set less that within the real one.

    Zero is best: above it the synthetic set is less diverse than the real one, below it more.
    """

    real: MeanSimilarity
    synth: MeanSimilarity
    cross: CrossSimilarity | None = None

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image, of both roles."""
        return {**self.real.subjects, **self.synth.subjects}

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """Synthetic less real, in [-1, 1]."""
        gap: Float64[np.ndarray, " b"] = self.synth.value(weights) - self.real.value(weights)
        return gap

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The two mean similarities that the gap is the difference of, in absolute values."""
        terms: Float64[np.ndarray, " b"] = np.abs(self.synth.value(weights)) + np.abs(
            self.real.value(weights)
        )
        return terms

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of the two variances: the sets are independent."""
        total: Float64[np.ndarray, " b"] = self.synth.variance(weights) + self.real.variance(
            weights
        )
        return total

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image: -2 g_i of real ones, 2 g_j of synthetic ones."""
        return {
            "real": -self.real.contributions(weights)["real"],
            "synth": self.synth.contributions(weights)["synth"],
        }

    def parts(self) -> dict[str, Part]:
        """The two means that the gap is made of, and the mean across where it is known."""
        parts = {
            "synth": Part("MS-SSIM synth", self.synth, tabled=True),
            "real": Part("MS-SSIM real", self.real, tabled=True),
        }
        if self.cross is not None:
            parts["cross"] = Part("MS-SSIM real x synth", self.cross)
        return parts


def cross_design(n: int, m: int, partners: int, *, seed: int) -> Bool[np.ndarray, "n m"]:
    """Choose pairs across two sets at random so that each image is in equally many.

    Rows, in a random order, take turns through the columns, in another: each row is in
    `partners` pairs, each column in n partners / m of them, rounded up or down.

    Parameters
    ----------
    n, m
        The numbers of images.
    partners
        The number of pairs that each row is in.
    seed
        Seed of the orders.

    Raises
    ------
    MetricError
        `partners` lies outside 1 to m.

    Examples
    --------
    >>> design = cross_design(4, 6, 3, seed=0)
    >>> design.sum(axis=0), design.sum(axis=1)
    (array([2, 2, 2, 2, 2, 2]), array([3, 3, 3, 3]))
    """
    if not 1 <= partners <= m:
        raise MetricError(
            f"MS-SSIM: partners must lie between 1 and the {m} columns; found {partners}. "
            "Use fewer, or all pairs."
        )
    rng = np.random.default_rng(seed)
    turns = np.arange(n * partners)
    design = np.zeros((n, m), dtype=np.bool_)
    design[rng.permutation(n)[turns // partners], rng.permutation(m)[turns % m]] = True
    return design


def mean_similarity(
    metric: str, role: str, pairs: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> MeanSimilarity:
    """The mean over a set's pairs, from a pair matrix in which pairs not computed are NaN.

    Parameters
    ----------
    metric, role
        What the messages call the metric and the set.
    pairs
        A symmetric pair matrix.
    index
        The subject of each image.

    Raises
    ------
    MetricError
        The matrix is not square, smaller than 2 x 2, asymmetric, infinite, or holds too few
        pairs of an image.
    """
    matrix = np.asarray(pairs, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise MetricError(
            f"{metric}: {role} must be a square matrix of pairs of at least 2 images; "
            f"found shape {matrix.shape}. Compute the pairs of a set of volumes."
        )
    if np.isinf(matrix).any() or not np.allclose(matrix, matrix.T, equal_nan=True):
        raise MetricError(
            f"{metric}: the pair matrix of {role} must be finite and symmetric; found "
            "otherwise. Compute the pairs within one set, without others."
        )
    distinct = index[:, None] != index[None, :]
    computed = _computed(metric, f"of {role}", matrix, needed=distinct)
    pairs_of_subjects = distinct_pairs(np.nan_to_num(matrix, nan=0.0), index)
    return MeanSimilarity(pairs_of_subjects, role, {role: index}, computed)


def _computed(
    metric: str, which: str, matrix: Float64[np.ndarray, "n m"], needed: Bool[np.ndarray, "n m"]
) -> Bool[np.ndarray, "n m"] | None:
    """Which of the needed pairs were computed; None where all of them were."""
    computed: Bool[np.ndarray, "n m"] = needed & ~np.isnan(matrix)
    if np.array_equal(computed, needed):
        return None
    fewest = int(min(computed.sum(axis=0).min(), computed.sum(axis=1).min()))
    if fewest < MIN_PARTNERS:
        raise MetricError(
            f"{metric}: the pair matrix {which} must hold at least {MIN_PARTNERS} finite "
            f"pairs of each image; found {fewest} of one, and NaN for "
            f"{int((needed & ~computed).sum())} of {int(needed.sum())} entries. "
            "Use a design of more pairs, or none."
        )
    return computed


class MSSSIM(BaseMetric):
    """MS-SSIM: the gap in diversity between the synthetic and the real set.

    Up to `PAIR_BUDGET` pairs of a set, or across both, all are computed; past it a seeded random
    design of about that many, in which each image is equally often.
    """

    preset: ClassVar[str] = "default"

    name = "ms_ssim"
    label = "MS-SSIM gap"
    drawn = True
    of_variety = True
    formula = "mean MS-SSIM over synthetic pairs less that over real pairs, inside the mask"
    needs: Needs = "volumes"
    direction: Direction = "zero"
    target: Target = "zero"
    pairs = True
    needs_cross = False
    interval: IntervalMethod = "studentized"
    sees = "how alike the volumes of a set are: lost (above zero) or excess (below) diversity"
    misses = "whether the volumes are realistic, and differences between equally diverse sets"
    responds_to: tuple[str, ...] = ("blur", "noise", "warp", "slices", "duplicates")

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The settings of the metric's preset: none of them depends on the real set."""
        settings = PRESETS[self.preset]
        return {**asdict(settings), "weights": list(settings.weights)}

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

        Returns
        -------
        As `pair_matrix`: past the budget, NaN for the pairs that are left out.

        Raises
        ------
        MetricError
            There are fewer than 2 volumes, or as `pair_matrix`.
        """
        n = len(volumes)
        if n < 2:
            raise MetricError(
                f"{self.name}: a mean over pairs needs at least 2 volumes; found {n}. Add more."
            )
        design = _affordable_design(n)
        total = n * (n - 1) // 2 if design is None else int(design.sum()) // 2
        return pair_matrix(
            _Tensors(volumes, _device()),
            **_averaged_over(mask, settings),
            design=design,
            progress=_counted(total, progress),
        )

    def measure_across(
        self,
        real: VolumeSource,
        synth: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n m"]:
        """Return the pair matrix of real rows and synthetic columns; see `measure`.

        Raises
        ------
        MetricError
            As `pair_matrix`.
        """
        n, m = len(real), len(synth)
        design = _affordable_cross_design(n, m)
        device = _device()
        return pair_matrix(
            _Tensors(real, device),
            _Tensors(synth, device),
            **_averaged_over(mask, settings),
            design=design,
            progress=_counted(n * m if design is None else int(design.sum()), progress),
        )

    def prepare(
        self,
        real: Float64[np.ndarray, "n n"],
        synth: Float64[np.ndarray, "m m"],
        *,
        cross: Float64[np.ndarray, "n m"] | None = None,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> SimilarityGap:
        """The gap, from pair matrices within the two sets.

        Parameters
        ----------
        real, synth
            Symmetric matrices of `measure`; NaN stands for a pair that was not computed.
        cross
            The matrix of `measure_across`; with it the mean across is a part of the gap. Of a
            set in both roles, for a floor, it is the set's own matrix: a floor's two sides are
            disjoint, so that they never meet its diagonal.
        subjects
            For each role, the subject of each image; None is one image a subject.
        settings
            What the matrices were computed with; nothing more depends on it.

        Raises
        ------
        MetricError
            A matrix has the wrong shape, is smaller than 2 x 2, asymmetric or infinite, or
            leaves an image with fewer than `MIN_PARTNERS` pairs.
        """
        index = subject_index(subjects, real=len(real), synth=len(synth))
        within = {
            role: mean_similarity(self.name, role, matrix, index[role])
            for role, matrix in (("real", real), ("synth", synth))
        }
        across = None if cross is None else self._across(cross, index)
        return SimilarityGap(real=within["real"], synth=within["synth"], cross=across)

    def _across(
        self, pairs: Float64[np.ndarray, "n m"], index: Mapping[str, Int64[np.ndarray, " _"]]
    ) -> CrossSimilarity:
        matrix = np.asarray(pairs, dtype=np.float64)
        shape = (len(index["real"]), len(index["synth"]))
        if matrix.shape != shape or np.isinf(matrix).any():
            raise MetricError(
                f"{self.name}: the cross pairs must be a finite matrix of {shape[0]} real by "
                f"{shape[1]} synthetic images; found shape {matrix.shape}. "
                "Use pair_matrix(real, synth, ...)."
            )
        computed = _computed(self.name, "across", matrix, needed=np.ones(shape, dtype=np.bool_))
        return CrossSimilarity(np.nan_to_num(matrix, nan=0.0), dict(index), computed)


class MSSSIMWang5(MSSSIM):
    """MS-SSIM with the five scales of Wang et al. 2003, for comparison with papers."""

    preset = "wang5"
    name = "ms_ssim_wang5"
    label = "MS-SSIM gap (five scales)"
    role: Role = "for_papers"
    on_request = True
    drawn = False


class MSSSIMMonaiK4(MSSSIM):
    """MS-SSIM as in MONAI's tutorials, for comparison with papers.

    Papers print the mean and the spread over pairs within a set: its parts are those means,
    with intervals over images.
    """

    preset = "monai-k4"
    name = "ms_ssim_monai_k4"
    label = "MS-SSIM gap (MONAI, 4-voxel window)"
    role: Role = "for_papers"
    on_request = True
    drawn = False
    formula = "mean MS-SSIM over synthetic pairs less that over real pairs, over the full frame"
    misses = "diversity inside the brain: the background that all volumes share counts as alike"


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _averaged_over(mask: Bool[np.ndarray, "d h w"], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as `pair_matrix` takes them, and the mask that they allow."""
    chosen = Settings(**{**settings, "weights": tuple(settings["weights"])})
    given = None if chosen.full_frame else torch.from_numpy(np.array(mask, dtype=bool))
    return {"settings": chosen, "mask": given}


def _counted(
    total: int, progress: Callable[[int, int], None] | None
) -> Callable[[int], None] | None:
    """Sum up the pairs done, for a progress that wants them with their total."""
    if progress is None:
        return None
    done = 0

    def advance(pairs: int) -> None:
        nonlocal done
        done += pairs
        progress(done, total)

    return advance


def _affordable_design(n: int) -> Bool[np.ndarray, "n n"] | None:
    """About `PAIR_BUDGET` pairs of a set's n volumes; None where all of them are affordable."""
    if n * (n - 1) // 2 <= PAIR_BUDGET:
        return None
    partners = 2 * PAIR_BUDGET // n
    _check_partners(partners, f"{n} volumes")
    return pair_design(np.arange(n), partners, seed=DESIGN_SEED)


def _affordable_cross_design(n: int, m: int) -> Bool[np.ndarray, "n m"] | None:
    """About `PAIR_BUDGET` pairs across two sets; None where all of them are affordable."""
    if n * m <= PAIR_BUDGET:
        return None
    partners = PAIR_BUDGET // n
    _check_partners(min(partners, n * partners // m), f"{n} real by {m} synthetic volumes")
    return cross_design(n, m, partners, seed=DESIGN_SEED)


def _check_partners(fewest: int, found: str) -> None:
    if fewest < MIN_PARTNERS:
        raise MetricError(
            f"MS-SSIM: each image must be in at least {MIN_PARTNERS} of the {PAIR_BUDGET} pairs "
            f"that are computed; found {found}, which leaves {fewest}. Score fewer volumes."
        )
