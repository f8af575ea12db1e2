"""4-G-R-SSIM of pairs of volumes: structural similarity of gradients, by kind of content.

Pinaya et al. 2022 report it together with MS-SSIM as a measure of diversity over pairs of
synthetic brains. They give no formula: they cite Rouse and Hemami (R), Chen et al. (G), and Li and
Bovik (4), and their code for it is not published. Those sources, and the name, define:

- G: similarity is taken of gradient magnitudes, |g_x| + |g_y| + ... of Sobel's operator;
- R: of SSIM's three terms only the structure is kept, r = s_xy / (s_x s_y) without a constant,
  0 where one of the standard deviations is zero and 1 where both are;
- 4: r is averaged separately over preserved edges (both gradients above T1), changed edges (one of
  them), smooth voxels (the reference's below T2, the other's at most T1) and texture (the rest),
  with T1 = 0.12 and T2 = 0.06 of the reference's largest gradient; each average has weight 1/4;
- an 11-voxel Gaussian window with a standard deviation of 1.5 voxels.

Renieblas et al. call this combination 4-G-r*. Synthbench adds these rules, for volumes and for
pairs without a reference:

- Sobel's operator uses the 26 neighbours: (-1, 0, 1) along the axis of the derivative, (1, 2, 1)
  along the two other axes;
- each volume of a pair is the reference once, and the two values are averaged;
- only windows centred in the mask count, and the largest gradient is the largest at their centres;
- a region without voxels is left out, and the others share its weight;
- a standard deviation counts as zero up to 0.3% of the gradients' local root mean square, because
  single precision cannot distinguish it from zero.

So the values order sets that synthbench scores. They are not comparable with published ones: the
public code of Pinaya's group for such metrics keeps the luminance and contrast terms and their
constants, and averages over the full frame, where the empty background has similarity one.

References
----------
Pinaya et al., "Brain imaging generation with latent diffusion models", DGM4MICCAI 2022.
Chen, Yang and Xie, "Gradient-based structural similarity for image quality assessment",
ICIP 2006.
Rouse and Hemami, "Analyzing the role of visual structure in the recognition of natural image
content with multi-scale SSIM", Proc. SPIE 6806 (2008).
Li and Bovik, "Content-partitioned structural similarity index for image quality assessment",
Signal Processing: Image Communication 25 (2010).
Renieblas et al., "Structural similarity index family for image quality assessment in
radiological images", Journal of Medical Imaging 4 (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import pair_design
from synthbench.metrics.metric import (
    BaseMetric,
    Direction,
    IntervalMethod,
    Needs,
    Part,
    Reuse,
    Role,
    Target,
    VolumeSource,
)
from synthbench.metrics.similarity.diversity import (
    DESIGN_SEED,
    PAIR_BUDGET,
    SimilarityGap,
    mean_similarity,
)
from synthbench.metrics.similarity.volumes import Tensors, TensorSource, completed, device_of
from synthbench.metrics.similarity.windows import banded, blur, gaussian_window
from synthbench.metrics.subjects import subject_index

WINDOW = 11
"""Side of the Gaussian window, voxels."""

SIGMA = 1.5
"""Its standard deviation, voxels."""

EDGE = 0.12
"""Share of the reference's largest gradient above which a voxel is an edge (T1)."""

SMOOTH = 0.06
"""Share of the reference's largest gradient below which a voxel is smooth (T2)."""

FLAT = 1e-5
"""Share of the local mean square up to which a variance counts as zero."""

MARGIN = (WINDOW - 1) // 2 + 1
"""Distance in voxels from a window's centre to the last voxel that its gradients use."""

PREPARED_BYTES = 2**30
"""Volumes are prepared in blocks of at most this many bytes; two blocks are in memory at a time."""


@dataclass(frozen=True)
class GradientSimilarityGap(SimilarityGap):
    """Mean 4-G-R-SSIM within the synthetic set minus that within the real one."""

    def parts(self) -> dict[str, Part]:
        """The means within the two sets, whose difference is the gap."""
        return {
            "synth": Part("4-G-R-SSIM synth", self.synth, tabled=True),
            "real": Part("4-G-R-SSIM real", self.real, tabled=True),
        }


class G4RSSIM(BaseMetric):
    """4-G-R-SSIM: the gap in diversity of edges and texture between the sets.

    All pairs of a set are computed up to `synthbench.metrics.similarity.diversity.PAIR_BUDGET`
    pairs. Larger sets have a seeded random design of about that many pairs.
    """

    name = "g4r_ssim"
    label = "4-G-R-SSIM gap"
    role: Role = "for_papers"
    of_variety = True
    formula = (
        "mean 4-G-R-SSIM over synthetic pairs less that over real pairs, inside the mask; r = "
        "s_xy/(s_x s_y) of 3-D Sobel |gx|+|gy|+|gz|, Gaussian window 11, sigma 1.5; mean over "
        "preserved edges, changed edges, smooth, texture (0.12 and 0.06 of the largest gradient); "
        "mean of both volumes as reference"
    )
    needs: Needs = "volumes"
    direction: Direction = "zero"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    pairs = True
    reuse: Reuse | None = "pair"
    sees = "how alike the edges and textures of a set's volumes are: lost or excess diversity"
    misses = "brightness and the overall contrast of a set, and whether the volumes are realistic"
    responds_to: tuple[str, ...] = ("blur", "noise", "duplicates")

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
        known: Float64[np.ndarray, "n n"] | None = None,
    ) -> Float64[np.ndarray, "n n"]:
        """Return the pair matrix within a set, on the GPU where there is one.

        Parameters
        ----------
        volumes
            Float32 arrays.
        mask
            The voxels to average over, the same for real and synthetic volumes.
        settings
            Not used: none are frozen.
        progress
            Called with the number of pairs done and their total.
        known
            Values of pairs that are not computed again; NaN for the others.

        Returns
        -------
        The matrix of `gradient_pair_matrix`, NaN for pairs that a design leaves out.

        Raises
        ------
        MetricError
            There are fewer than two volumes, or `gradient_pair_matrix` refuses them.
        """
        if len(volumes) < 2:
            raise MetricError(
                f"g4r_ssim: a set needs at least 2 volumes; found {len(volumes)}.",
                "too few images",
                needed=2,
                found=len(volumes),
            )
        n = len(volumes)
        affordable = n * (n - 1) // 2 <= PAIR_BUDGET
        design = (
            None
            if affordable
            else pair_design(np.arange(n), 2 * PAIR_BUDGET // n, seed=DESIGN_SEED)
        )

        def compute(design: Bool[np.ndarray, "n n"] | None) -> Float64[np.ndarray, "n n"]:
            total = n * (n - 1) // 2 if design is None else int(design.sum()) // 2
            done = 0

            def advance(pairs: int) -> None:
                nonlocal done
                done += pairs
                if progress is not None:
                    progress(done, total)

            return gradient_pair_matrix(
                Tensors(volumes, device_of()),
                mask=torch.from_numpy(np.array(mask, dtype=bool)),
                design=design,
                progress=advance,
            )

        return completed(compute, design, known, within=True)

    def prepare(
        self,
        real: Float64[np.ndarray, "n n"],
        synth: Float64[np.ndarray, "m m"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> GradientSimilarityGap:
        """Return the gap, from pair matrices within the two sets.

        Parameters
        ----------
        real, synth
            Symmetric matrices of `measure`; NaN stands for a pair that was not computed.
        subjects
            For each role, the subject of each image; None is one image per subject.
        settings
            Not used: none are frozen.

        Raises
        ------
        MetricError
            A matrix is not square, smaller than 2 x 2, asymmetric or infinite, or leaves an image
            with fewer than `MIN_PARTNERS` pairs.
        """
        index = subject_index(subjects, real=len(real), synth=len(synth))
        within = {
            role: mean_similarity(self.name, role, pairs, index[role])
            for role, pairs in (("real", real), ("synth", synth))
        }
        return GradientSimilarityGap(real=within["real"], synth=within["synth"])


def g4r_ssim(
    x: Float32[np.ndarray, "d h w"] | Float32[Tensor, "d h w"],
    y: Float32[np.ndarray, "d h w"] | Float32[Tensor, "d h w"],
    mask: Bool[np.ndarray, "d h w"] | Bool[Tensor, "d h w"] | None = None,
) -> float:
    """Return the 4-G-R-SSIM of two volumes, as this module defines it.

    Parameters
    ----------
    x, y
        Volumes, as arrays or tensors on one device, both in the same unit: a factor on both does
        not change the value.
    mask
        The voxels to average over. None: all voxels whose window lies inside the grid.

    Returns
    -------
    A value in [-1, 1]; 1 for equal volumes; the same for (y, x).

    Raises
    ------
    MetricError
        `gradient_pair_matrix` refuses the volumes or the mask.
    """
    first, second = torch.as_tensor(x)[None], torch.as_tensor(y)[None]
    inside = None if mask is None else torch.as_tensor(mask)
    return float(gradient_pair_matrix(first, second, mask=inside)[0, 0])


@torch.no_grad()
def gradient_pair_matrix(
    volumes: Float32[Tensor, "n d h w"] | TensorSource,
    others: Float32[Tensor, "m d h w"] | TensorSource | None = None,
    *,
    mask: Bool[Tensor, "d h w"] | None,
    design: Bool[np.ndarray, "n m"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Float64[np.ndarray, "n m"]:
    """Return the 4-G-R-SSIM of every pair of volumes.

    It runs on the volumes' device. Volumes of a `TensorSource` are read in blocks, so that memory
    stays bounded; where one block holds all volumes, each is read once.

    Parameters
    ----------
    volumes, others
        With `others`, all pairs of one volume and one other; without, all pairs within `volumes`.
    mask
        The voxels to average over, in the volumes' grid; None is all of it. Voxels nearer than
        `MARGIN` to the grid's border are left out.
    design
        The pairs to compute, symmetric within one set; None is all of them.
    progress
        Called with the number of pairs done since its last call.

    Returns
    -------
    Values in [-1, 1], NaN where the design leaves a pair out; within one set symmetric, with
    ones on the diagonal.

    Raises
    ------
    MetricError
        A set is empty, shapes differ, a volume holds NaN or infinity, the grid is smaller than a
        window, no window is centred in the mask, or the design does not fit the sets.
    """
    for role, source in (("volumes", volumes), ("others", others)):
        if source is not None and len(source) == 0:
            raise MetricError(f"g4r_ssim: {role} must hold at least 1 volume; found none.")
    first = volumes[0]
    place = _place(torch.ones(first.shape, dtype=torch.bool) if mask is None else mask, first)
    band = banded(gaussian_window(WINDOW, SIGMA)).to(first.device)
    columns = volumes if others is None else others
    wanted = _wanted(design, len(volumes), None if others is None else len(others))
    result = np.full(wanted.shape, np.nan)
    for rows in _blocks(len(volumes), place):
        row_volumes = _prepare_block(volumes, rows, place, band)
        for block in _blocks(len(columns), place):
            pairs = np.argwhere(wanted[rows.start : rows.stop, block.start : block.stop])
            if len(pairs) == 0:
                continue
            same = others is None and block == rows
            column_volumes = row_volumes if same else _prepare_block(columns, block, place, band)
            for i, j in pairs.tolist():
                value = _similarity(row_volumes[i], column_volumes[j], place, band)
                result[rows.start + i, block.start + j] = float(value)
                if progress is not None:
                    progress(1)
    if others is not None:
        return result
    below = np.tril_indices(len(result), k=-1)
    result[below] = result.T[below]
    np.fill_diagonal(result, 1.0)
    return result


# Gradients, structure and regions


def gradient_magnitude(volume: Float32[Tensor, "d h w"]) -> Float32[Tensor, "_ _ _"]:
    """Return |g_x| + |g_y| + |g_z| of Sobel's operator (Chen et al. 2006, section 3.1).

    Returns
    -------
    Intensity per voxel: a ramp that rises by 1 per voxel along one axis has magnitude 1. Each
    axis is shorter by two voxels.
    """
    return torch.stack([_sobel(volume, axis).abs() for axis in range(3)]).sum(dim=0)


def _sobel(volume: Float32[Tensor, "d h w"], along: int) -> Float32[Tensor, "_ _ _"]:
    derivative = volume
    for axis in range(3):
        n = derivative.shape[axis] - 2
        below, here, above = (derivative.narrow(axis, k, n) for k in range(3))
        derivative = (above - below) / 2 if axis == along else (below + 2 * here + above) / 4
    return derivative


def region_mean(
    similarity: Float32[Tensor, " k"],
    reference: Float32[Tensor, " k"],
    other: Float32[Tensor, " k"],
    largest: Float32[Tensor, ""],
) -> Float64[Tensor, ""]:
    """Return the mean over four kinds of content of the mean similarity (Li and Bovik 2010).

    Parameters
    ----------
    similarity
        The similarity at each voxel.
    reference, other
        The gradient magnitudes at each voxel.
    largest
        The largest gradient magnitude of the reference.

    Returns
    -------
    The mean over the kinds that have voxels.
    """
    reference_edge, other_edge = reference > EDGE * largest, other > EDGE * largest
    preserved = reference_edge & other_edge
    changed = reference_edge ^ other_edge
    smooth = (reference < SMOOTH * largest) & ~other_edge
    regions = torch.stack([preserved, changed, smooth, ~(preserved | changed | smooth)])
    counts = regions.sum(dim=1)
    sums = (regions * similarity).sum(dim=1).double()
    return (sums / counts.clamp(min=1)).sum() / (counts > 0).sum()


@dataclass(frozen=True)
class _Place:
    """The voxels at which pairs are compared.

    `box` is the part of the grid that the gradients of the masked windows use. `windows` holds the
    indices of the masked windows among the box's windows, with the axes in the order of `blur`;
    `centres` holds the indices of their centres among the box's gradients. Both are flat indices.
    """

    mask: Bool[Tensor, "d h w"]
    box: tuple[slice, slice, slice]
    windows: Int64[Tensor, " k"]
    centres: Int64[Tensor, " k"]


@dataclass(frozen=True)
class _Prepared:
    """The parts of a pair's similarity that depend on one volume only.

    `gradients` are the gradient magnitudes in the box. At the masked windows, `centres` are the
    gradients at the centre, `means` the local means, `scales` the inverse local standard
    deviations (0 where that counts as zero), and `flat` is True where it counts as zero.
    `largest` is the largest of `centres`.
    """

    gradients: Float32[Tensor, "d h w"]
    centres: Float32[Tensor, " k"]
    means: Float32[Tensor, " k"]
    scales: Float32[Tensor, " k"]
    flat: Bool[Tensor, " k"]
    largest: Float32[Tensor, ""]


def _place(mask: Bool[Tensor, "d h w"], volume: Tensor) -> _Place:
    if mask.ndim != 3 or min(mask.shape) <= 2 * MARGIN:
        raise MetricError(
            f"g4r_ssim: {WINDOW}-voxel windows of gradients need a (d, h, w) grid of at least "
            f"{2 * MARGIN + 1} voxels per side; found {tuple(mask.shape)}. Use a finer grid.",
            "small grid",
            needed=2 * MARGIN + 1,
            found=min(mask.shape),
        )
    mask = mask.to(device=volume.device, dtype=torch.bool)
    inner = mask[MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN]
    occupied = inner.nonzero()
    if len(occupied) == 0:
        raise MetricError(
            f"g4r_ssim: no voxel of the mask lies {MARGIN} or more voxels inside the grid; found "
            f"{int(mask.sum())} of {mask.numel()} voxels in it. Use a larger mask or grid.",
            "empty mask",
        )
    low, high = occupied.amin(dim=0).tolist(), (occupied.amax(dim=0) + 1).tolist()
    d, h, w = (slice(a, b + 2 * MARGIN) for a, b in zip(low, high, strict=True))
    inside = inner[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    i, j, k = inside.permute(1, 2, 0).nonzero().unbind(dim=1)
    _, planes_w, planes_d = inside.permute(1, 2, 0).shape
    reach = MARGIN - 1
    rows, columns = inside.shape[1] + 2 * reach, inside.shape[2] + 2 * reach
    return _Place(
        mask=mask,
        box=(d, h, w),
        windows=(i * planes_w + j) * planes_d + k,
        centres=((k + reach) * rows + i + reach) * columns + j + reach,
    )


def _prepare_block(
    source: TensorSource, block: range, place: _Place, band: Float32[Tensor, "r c"]
) -> list[_Prepared]:
    return [_prepare(_checked(source[i], i, place.mask), place, band) for i in block]


def _prepare(
    volume: Float32[Tensor, "d h w"], place: _Place, band: Float32[Tensor, "r c"]
) -> _Prepared:
    gradients = gradient_magnitude(volume[place.box])
    centres = gradients.flatten()[place.centres]
    means = _local_means(gradients, place, band)
    squares = _local_means(gradients * gradients, place, band)
    variances = squares - means * means
    flat = variances <= FLAT * squares
    scales = torch.where(flat, 0.0, variances.clamp(min=torch.finfo().tiny).rsqrt())
    return _Prepared(gradients, centres, means, scales, flat, centres.amax())


def _local_means(
    values: Float32[Tensor, "d h w"], place: _Place, band: Float32[Tensor, "r c"]
) -> Float32[Tensor, " k"]:
    """The windows' weighted means, at the masked positions."""
    return blur(values[:, None], band).flatten()[place.windows]


def _similarity(
    one: _Prepared, other: _Prepared, place: _Place, band: Float32[Tensor, "r c"]
) -> Float64[Tensor, ""]:
    """4-G-R-SSIM of two volumes."""
    structure = _local_means(one.gradients * other.gradients, place, band)
    structure.addcmul_(one.means, other.means, value=-1).mul_(one.scales).mul_(other.scales)
    # The Cauchy-Schwarz inequality bounds it; rounding may leave the bounds by a little.
    structure.clamp_(-1, 1).add_(one.flat & other.flat)
    forth = region_mean(structure, one.centres, other.centres, one.largest)
    back = region_mean(structure, other.centres, one.centres, other.largest)
    return (forth + back) / 2


# Sets of volumes


def _blocks(n: int, place: _Place) -> Iterator[range]:
    """Ranges of volumes that are in memory together, by the bytes of a `_Prepared`."""
    gradients = 4
    for axis in place.box:
        gradients *= axis.stop - axis.start - 2
    size = max(1, PREPARED_BYTES // (gradients + 13 * len(place.windows)))
    for start in range(0, n, size):
        yield range(start, min(start + size, n))


def _wanted(
    design: Bool[np.ndarray, "n m"] | None, n: int, m: int | None
) -> Bool[np.ndarray, "n m"]:
    """The pairs to compute: within one set (m is None) those above the diagonal."""
    shape = (n, n if m is None else m)
    wanted = np.ones(shape, dtype=np.bool_) if design is None else np.asarray(design)
    if wanted.shape != shape or (m is None and not np.array_equal(wanted, wanted.T)):
        raise MetricError(
            f"g4r_ssim: the design must be a boolean matrix of shape {shape}, symmetric within "
            f"one set; found shape {wanted.shape}. Use None for all pairs."
        )
    return np.triu(wanted, k=1) if m is None else wanted


def _checked(volume: Tensor, index: int, mask: Tensor) -> Float32[Tensor, "d h w"]:
    if volume.shape != mask.shape:
        raise MetricError(
            f"g4r_ssim: volumes and mask must share one grid; found volume {index} of shape "
            f"{tuple(volume.shape)} where the grid is {tuple(mask.shape)}. "
            "Bring all of them to one space.",
            "another grid",
        )
    if not bool(torch.isfinite(volume).all()):
        raise MetricError(
            f"g4r_ssim: volume {index} holds NaN or infinity. Remove or fix it.", "intensities"
        )
    return volume.to(torch.float32)
