"""MS-SSIM of pairs of volumes, inside one mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor
from torch.nn.functional import avg_pool3d

from synthbench.errors import MetricError
from synthbench.metrics.similarity.settings import (
    Settings,
    preset_settings,
    scales_that_fit,
    smallest_side,
)
from synthbench.metrics.similarity.volumes import (
    TensorSource,
    as_volume,
    blocks,
    check_volume,
    chosen_pairs,
    each,
    mirrored,
    runs_of_pairs,
    tensor,
)
from synthbench.metrics.similarity.windows import banded, blur, gaussian_window

PREPARED_BYTES = 2**30
"""Volumes are prepared in blocks of at most this many bytes; two blocks are in memory at a time."""

BATCH_BYTES = {"cpu": 1, "cuda": 2**29}
"""Size of a batch of products: one pair at a time, or enough to keep a GPU busy."""


def mask_pyramid(mask: Bool[Tensor, "d h w"], settings: Settings) -> list[Bool[Tensor, "_ _ _"]]:
    """Return the mask at each scale, on the voxels whose window lies inside the grid.

    A voxel of scale k = 0, 1, ... is a cube of 2^k voxels per side. It is in the mask where more
    than half of the cube is. Each axis is shorter by window - 1 voxels. An even window has no
    central voxel; the voxel just below its centre is used.

    Parameters
    ----------
    mask
        True inside; its shape is the volumes' grid.
    settings
        The number of scales and the window are used.

    Returns
    -------
    One mask per scale, finest first.

    Raises
    ------
    MetricError
        The grid is too small for the scales, or the mask is empty at a scale.
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
                "voxels are in it at full resolution. Use a larger mask or fewer scales.",
                "empty mask",
            )
    return pyramid


@dataclass(frozen=True)
class _Scale:
    """The windows of one scale that count.

    `box` is the part of the scale's grid that the masked windows touch. `inside` is True for the
    box's windows that are in the mask, with the axes in the order of `blur`, and None where all
    of them are. `count` is the number of windows in the mask.
    """

    box: tuple[slice, slice, slice]
    inside: Bool[Tensor, "h w d 1"] | None
    count: int


def _scales(mask: Bool[Tensor, "d h w"], settings: Settings) -> list[_Scale]:
    return [_cropped(level, settings.window) for level in mask_pyramid(mask, settings)]


def _cropped(mask: Bool[Tensor, "d h w"], window: int) -> _Scale:
    """Crop to the mask's bounding box, enlarged by the reach of the window."""
    occupied = mask.nonzero()
    low, high = occupied.amin(dim=0).tolist(), (occupied.amax(dim=0) + 1).tolist()
    windows = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    d, h, w = (slice(a, b + window - 1) for a, b in zip(low, high, strict=True))
    inside = None if bool(windows.all()) else windows.permute(1, 2, 0)[..., None].contiguous()
    return _Scale(box=(d, h, w), inside=inside, count=len(occupied))


@dataclass(frozen=True)
class _Prepared:
    """Volumes at one scale, with the parts of SSIM that depend on one volume only.

    `means` are local means. `halves` are (variance + c2/2) / 2, so that their sum over a pair is
    half the denominator of the contrast term, as `_covariance` returns half the numerator. They
    are infinite outside the mask, so that the quotient is zero there.
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
    """Local covariances plus c2/2, which can be added before the blur as a window sums to one."""
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
    """MS-SSIM of one volume with each volume of a batch: the product of the scales' means."""
    c1 = (settings.k1 * settings.data_range) ** 2
    c2 = (settings.k2 * settings.data_range) ** 2
    size = others[0].volumes.shape[1]
    product = torch.ones(size, dtype=torch.float64, device=band.device)
    for number, (x, y, scale) in enumerate(zip(one, others, scales, strict=True)):
        terms = _contrast(x, y, band, c2)
        if number == settings.scales - 1:
            terms.mul_(_luminance(x, y, c1))
        mean = terms.sum(dim=(0, 1, 2)).to(torch.float64) / scale.count
        # A negative mean has no real power; MONAI uses zero for it too.
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
    """Return the MS-SSIM of every pair of volumes.

    It runs on the volumes' device. Volumes of a `TensorSource` are read in blocks, so that memory
    stays bounded; where one block holds all volumes, each is read once.

    Parameters
    ----------
    volumes, others
        Intensities in [0, settings.data_range]. With `others`, all pairs of one volume and one
        other; without, all pairs within `volumes`.
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
        the mask is empty at a scale, there is a mask with full-frame settings, or the design does
        not fit the sets.
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
        checked = (check_volume(source[i], f"volume {i}{which}", grid) for i in block)
        return [_prepare(volume, scales, band, settings) for volume in checked]

    chosen = chosen_pairs(design, len(volumes), None if others is None else len(others))
    result = np.full(chosen.shape, np.nan)
    block_size, batch_size = _sizes(scales, grid, settings)
    for rows in blocks(range(len(volumes)), block_size):
        row_volumes = prepare(volumes, rows)
        # Within one set, the pairs below the diagonal mirror those above it.
        first_column = rows.start if others is None else 0
        for block in blocks(range(first_column, len(columns)), block_size):
            wanted = chosen[rows.start : rows.stop, block.start : block.stop]
            if not wanted.any():
                continue
            column_volumes = (
                row_volumes if others is None and block == rows else prepare(columns, block)
            )

            def compare(
                run: tuple[int, int, int],
                row_volumes: list[list[_Prepared]] = row_volumes,
                column_volumes: list[list[_Prepared]] = column_volumes,
            ) -> tuple[tuple[int, int, int], Float64[np.ndarray, " b"]]:
                i, start, stop = run
                batch = _side_by_side(column_volumes[start:stop])
                return run, _similarities(
                    row_volumes[i], batch, scales, band, settings
                ).cpu().numpy()

            runs = [
                (i, start, stop)
                for i, partners in enumerate(wanted)
                for start, stop in runs_of_pairs(partners, batch_size)
            ]
            for (i, start, stop), values in each(compare, runs, band.device):
                result[rows.start + i, block.start + start : block.start + stop] = values
                if progress is not None:
                    progress(stop - start)
    return result if others is not None else mirrored(result)


def ms_ssim(
    x: Float32[Tensor, "d h w"] | Float32[np.ndarray, "d h w"],
    y: Float32[Tensor, "d h w"] | Float32[np.ndarray, "d h w"],
    mask: Bool[Tensor, "d h w"] | Bool[np.ndarray, "d h w"] | None = None,
    preset: str = "default",
) -> float:
    """Return the MS-SSIM of two volumes (Wang et al. 2003, equation 7).

    Parameters
    ----------
    x, y
        Volumes with intensities in [0, 1], as arrays or tensors; it runs on the device of `x`.
    mask
        The voxels to average over; None is the full frame.
    preset
        A name in `PRESETS`.

    Returns
    -------
    A value in [0, 1]; 1 for equal volumes, also for constant ones.

    Raises
    ------
    MetricError
        A volume has other axes than (d, h, w) or intensities outside [0, 1], no preset has this
        name, or `pair_matrix` refuses the volumes or the mask.

    Examples
    --------
    >>> x = np.random.default_rng(0).random((44, 44, 44), dtype=np.float32)
    >>> ms_ssim(x, x)
    1.0
    """
    settings = preset_settings(preset)
    first, second = (
        as_volume(name, volume, settings.data_range) for name, volume in (("x", x), ("y", y))
    )
    return float(
        pair_matrix(
            first[None],
            second.to(first.device)[None],
            mask=None if mask is None else tensor(mask),
            settings=settings,
        )[0, 0]
    )


def _sizes(scales: list[_Scale], mask: Tensor, settings: Settings) -> tuple[int, int]:
    """The number of volumes per block and of pairs per batch, from the bytes of each."""
    finest = 4
    for axis in scales[0].box:
        finest *= axis.stop - axis.start
    volume_bytes = sum(3 * finest / 8**number for number in range(settings.scales))
    block = max(1, int(PREPARED_BYTES // volume_bytes))
    batch = max(1, BATCH_BYTES["cuda" if mask.is_cuda else "cpu"] // finest)
    return block, batch


def _grid_mask(
    mask: Bool[Tensor, "d h w"] | None, volume: Tensor, settings: Settings
) -> Bool[Tensor, "d h w"]:
    if mask is None:
        return torch.ones(volume.shape, dtype=torch.bool, device=volume.device)
    if settings.full_frame:
        raise MetricError(
            "MS-SSIM: these settings average over the full frame, so mask must be None; found a "
            "mask. Pass mask=None, or settings with full_frame=False."
        )
    return mask.to(device=volume.device, dtype=torch.bool)


def grid_refusal(shape: tuple[int, ...], settings: Settings) -> str | None:
    """Return why these settings do not fit a grid, without a remedy; None where they fit."""
    if scales_that_fit(shape, settings) >= settings.scales:
        return None
    needed = smallest_side(settings.scales, settings.window)
    return (
        f"MS-SSIM: {settings.scales} scales and windows of {settings.window} voxels need at least "
        f"{needed} voxels per side; the smallest side of {'x'.join(map(str, shape))} has "
        f"{min(shape)}."
    )


def _check_grid(shape: tuple[int, ...], settings: Settings) -> None:
    if refusal := grid_refusal(shape, settings):
        fit = scales_that_fit(shape, settings)
        remedy = f"at most {fit} scales" if fit else f"a window of at most {min(shape)} voxels"
        raise MetricError(
            f"{refusal} Use {remedy}, or volumes on a finer grid.",
            "small grid",
            needed=smallest_side(settings.scales, settings.window),
            found=min(shape),
        )
