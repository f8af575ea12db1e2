"""Measurements of one volume, made when it is read, and its place relative to MNI152.

`inspect` costs a few milliseconds more than reading. It keeps some numbers and a coarse copy of
the volume, so that thousands of volumes can be compared without opening a file again. The copies
of a cohort go to a temporary file where they are many (`synthbench.runtime.spool`). `place`
compares that copy with the MNI152 T1 image (`synthbench.volumes.mni152`). The rules that judge
these numbers are in `synthbench.cohorts.preflight`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import nibabel as nib
import numpy as np
from jaxtyping import Float16, Float32, Float64
from scipy import ndimage

from synthbench.cohorts.label_maps import is_label_map
from synthbench.runtime.spool import Kept, Spool
from synthbench.volumes import mni152
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.intensity import BACKGROUND

COARSE_MM = 6.0
"""Cell size of the coarse copy: fine enough for the asymmetry of real brains (docs/preflight.md)"""

FOREGROUND = 0.15
"""Share of the scale above which a coarse cell is foreground: above noise, below tissue."""

RIM_MM = 12.0
"""The distance from the MNI152 brain that a registered brain may still reach."""

MIN_AGREEMENT = 0.6
"""The least correlation of a registered volume with MNI152, within `RIM_MM` of its brain."""

MIN_OVERLAP = 0.8
"""The least Dice overlap of a registered, stripped volume with the MNI152 brain.

Real brains of the template's size fall below both limits when they are moved by about 20 mm. Heads
of another size, but in the template's place, stay above.
"""

MAX_OUTSIDE = 0.1
"""With a larger mean 12 to 24 mm outside the MNI152 brain, over that inside, there is a head."""

MAX_BRAIN_ML = 2600.0
"""A larger foreground is a head, not a brain; adult brains reach 2100 mL here."""

_LEAST_ML = 100.0
_BINS = 50


@dataclass(frozen=True)
class Remark:
    """What was changed in a volume while it was read, or is odd about its file.

    Attributes
    ----------
    rule
        The rule of preflight that reports it (`synthbench.cohorts.preflight.file_rules`).
    detail
        The fact about this file.
    """

    rule: Literal["assumed-grid", "file-name", "nan-background", "scaling", "sform-qform", "units"]
    detail: str


@dataclass(frozen=True, eq=False)
class Cells:
    """The coarse copies of one volume, in memory; `Inspection` says what they are."""

    coarse: Float16[np.ndarray, "a b c"]
    occupied: Float16[np.ndarray, "a b c"]

    def kept(self, spool: Spool) -> KeptCells:
        """Return the same in a spool."""
        return KeptCells(spool.keep(self.coarse), spool.keep(self.occupied))


@dataclass(frozen=True, eq=False, slots=True)
class KeptCells:
    """The coarse copies of one volume in a spool: read at each use."""

    of_coarse: Kept
    of_occupied: Kept

    @property
    def coarse(self) -> Float16[np.ndarray, "a b c"]:
        """As `Cells.coarse`."""
        return self.of_coarse.array

    @property
    def occupied(self) -> Float16[np.ndarray, "a b c"]:
        """As `Cells.occupied`."""
        return self.of_occupied.array

    def kept(self, spool: Spool) -> KeptCells:
        """Return these: they are in a spool."""
        return self


@dataclass(frozen=True, eq=False)
class Inspection:
    """Measurements of one volume, in RAS+ where nothing else is said.

    Attributes
    ----------
    grid
        The volume's grid after reorientation to RAS+.
    stored
        Its grid as the file stores it.
    assumed
        True where the file has no geometry and the user gave the grid.
    dtype
        The stored data type, such as "uint8".
    slope, inter
        The file's scaling rule: value = slope * stored + inter.
    low, high
        The least and the greatest value.
    background
        Lower quartile, median and upper quartile of the values on the six faces of the field
        of view.
    scale
        The 99.9th percentile of the foreground. The foreground is what lies above the median
        background by more than 0.01 of the way to the scale.
    nonzero, negative
        Shares of all voxels.
    clipped
        Share of the foreground that has the greatest value.
    histogram
        Share of the foreground in 50 bins from the median background to the scale; larger
        values count in the last bin.
    cells
        The coarse copies of the volume.
    remarks
        What was changed while it was read, or is odd about its file.
    label_map
        True where its values are those of a mask or a label map.
    """

    grid: Space
    stored: Space
    assumed: bool
    dtype: str
    slope: float
    inter: float
    low: float
    high: float
    background: tuple[float, float, float]
    scale: float
    nonzero: float
    negative: float
    clipped: float
    histogram: Float64[np.ndarray, " bins"]
    cells: Cells | KeptCells
    label_map: bool = False
    remarks: tuple[Remark, ...] = ()

    @property
    def coarse(self) -> Float16[np.ndarray, "a b c"]:
        """Means over cells of 6 mm, 0 at the median background and 1 at the scale."""
        return self.cells.coarse

    @property
    def occupied(self) -> Float16[np.ndarray, "a b c"]:
        """Share of each cell's voxels that belong to the foreground."""
        return self.cells.occupied

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """The length of the field of view along each axis."""
        x, y, z = (n * size for n, size in zip(self.grid.shape, self.grid.spacing, strict=True))
        return x, y, z

    @property
    def orientation(self) -> str:
        """The directions of the stored axes, such as "RAS" (right, anterior, superior)."""
        return "".join(nib.aff2axcodes(self.stored.matrix))

    @property
    def coarse_grid(self) -> Space:
        """The grid of the coarse copy: the same field of view and axes, in cells of 6 mm."""
        return self.grid.regrid(spacing=COARSE_MM)

    @property
    def background_level(self) -> float:
        """Median background, as a share of the scale."""
        return self.background[1] / abs(self.scale) if self.scale else 0.0

    @property
    def background_noise(self) -> float:
        """Upper quartile of the background above its median, as a share of the foreground."""
        span = self.scale - self.background[1]
        return (self.background[2] - self.background[1]) / span if span > 0 else 0.0

    @cached_property
    def placement(self) -> Placement:
        """The volume's place relative to the MNI152 brain."""
        return place(self)


def inspect(
    volume: Float32[np.ndarray, "d h w"],
    grid: Space,
    stored: Space,
    *,
    dtype: str,
    slope: float = 1.0,
    inter: float = 0.0,
    assumed: bool = False,
) -> Inspection:
    """Return the measurements of one volume.

    Parameters
    ----------
    volume
        Values after the file's scaling rule, in RAS+; finite, and not all equal.
    grid, stored
        Its grid in RAS+, and as stored.
    dtype, slope, inter, assumed
        As the attributes of `Inspection`.
    """
    faces = [volume[end, :, :].ravel() for end in (0, -1)]
    faces += [volume[:, end, :].ravel() for end in (0, -1)]
    faces += [volume[:, :, end].ravel() for end in (0, -1)]
    quartiles = np.percentile(np.concatenate(faces), (25, 50, 75))
    floor, high = float(quartiles[1]), float(volume.max())
    above = volume[volume > floor]
    # A volume that is nowhere above its faces has no foreground: its greatest value is the scale.
    scale, clipped, histogram = high, 0.0, np.zeros(_BINS)
    if above.size:
        rough = float(np.percentile(above, 99.9))
        foreground = above[above > floor + BACKGROUND * (rough - floor)]
        scale = float(np.percentile(foreground, 99.9))
        clipped = float(np.mean(foreground == high))
        # In float64, and cut before it is a whole number: one voxel may be far above the scale.
        share = (foreground.astype(np.float64) - floor) / (scale - floor)
        bins = np.minimum(share * _BINS, _BINS - 1).astype(np.intp)
        histogram = np.bincount(bins, minlength=_BINS) / bins.size
    span = scale - floor
    # Without a foreground, no voxel lies above the scale.
    foreground_voxels = (volume > floor + max(BACKGROUND * span, 0.0)).astype(np.float32)
    with np.errstate(over="ignore"):  # of one voxel far above the scale; it is cut below
        coarse = (cell_means(volume, grid.spacing, COARSE_MM) - floor) / (span if span > 0 else 1.0)
    return Inspection(
        grid=grid,
        stored=stored,
        assumed=assumed,
        dtype=dtype,
        slope=slope,
        inter=inter,
        low=float(volume.min()),
        high=high,
        background=(float(quartiles[0]), floor, float(quartiles[2])),
        scale=scale,
        nonzero=float(np.mean(volume != 0)),
        negative=float(np.mean(volume < 0)),
        clipped=clipped,
        histogram=histogram,
        cells=Cells(
            np.clip(coarse, -4, 4).astype(np.float16),
            cell_means(foreground_voxels, grid.spacing, COARSE_MM).astype(np.float16),
        ),
        label_map=is_label_map(volume),
    )


def cell_means(
    volume: Float32[np.ndarray, "d h w"], spacing: tuple[float, float, float], cell: float
) -> Float32[np.ndarray, "a b c"]:
    """Return the means over cubic cells, on the grid of `Space.regrid(spacing=cell)`.

    The weight of a voxel is the share of the cell that it fills; outside is 0. The sum over all
    space stays the same, and a mirrored volume has mirrored means.

    Parameters
    ----------
    spacing
        Voxel size in mm along each axis.
    cell
        Side of a cell in mm.
    """
    means = volume
    for size in spacing:
        side = means.shape[0]
        cells = max(1, int(np.ceil(side * size / cell - 1e-6)))
        ends = (np.arange(side + 1) - side / 2) * size
        walls = (np.arange(cells + 1) - cells / 2) * cell
        lower = np.maximum(ends[None, :-1], walls[:-1, None])
        upper = np.minimum(ends[None, 1:], walls[1:, None])
        share = (np.clip(upper - lower, 0, None) / cell).astype(np.float32)
        # Each pass takes the first axis and appends the new one.
        means = np.tensordot(means, share, (0, 1))
    return np.ascontiguousarray(means, dtype=np.float32)


# ---------------------------------------------------------------- place relative to MNI152


@dataclass(frozen=True)
class Placement:
    """The place of a volume relative to the MNI152 brain, by the volume's affine.

    Attributes
    ----------
    overlap
        Dice overlap of the foreground with the MNI152 brain, in [0, 1].
    agreement
        Pearson correlation with the MNI152 T1 image within 12 mm of its brain.
    mirrored
        The same with the volume mirrored left-right, front-back and up-down within its field of
        view. The MNI152 image is symmetric: the first value cannot tell left from right.
    centre_mm
        Centre of the foreground in mm.
    foreground_ml
        Volume of the foreground.
    outside
        Mean 12 to 24 mm outside the MNI152 brain minus that beyond 36 mm, over the mean inside:
        scalp and neck, but not noise that is equal everywhere.
    registered
        True where the brain is in the place of MNI152's; None where nothing stands out from the
        background.
    stripped
        True where there is a brain without a head: for registered volumes by `outside`, for others
        by `foreground_ml`. None as for `registered`.
    """

    overlap: float
    agreement: float
    mirrored: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    foreground_ml: float
    outside: float
    registered: bool | None
    stripped: bool | None


def place(inspection: Inspection) -> Placement:
    """Return a volume's place: its coarse copy compared with the MNI152 T1 image."""
    grid = inspection.coarse_grid
    template, distance = template_on(grid)
    coarse = inspection.coarse.astype(np.float32)
    foreground, brain, near = coarse > FOREGROUND, distance == 0, distance <= RIM_MM
    foreground_ml = float(foreground.sum() * np.prod(grid.spacing) / 1000)
    if foreground_ml < _LEAST_ML or inspection.background_noise > FOREGROUND:
        nan = float("nan")
        return Placement(nan, nan, (nan,) * 3, (nan,) * 3, foreground_ml, nan, None, None)
    shared, total = int((foreground & brain).sum()), int(foreground.sum() + brain.sum())
    overlap = 2 * shared / total
    agreement = correlation(coarse[near], template[near])
    outside = _outside(coarse, distance)
    # The overlap is used for brains only: the outline of a head is larger than the brain's.
    by_outline = overlap >= MIN_OVERLAP and outside < MAX_OUTSIDE
    registered = agreement >= MIN_AGREEMENT or by_outline
    return Placement(
        overlap=overlap,
        agreement=agreement,
        mirrored=(
            correlation(coarse[::-1][near], template[near]),
            correlation(coarse[:, ::-1][near], template[near]),
            correlation(coarse[:, :, ::-1][near], template[near]),
        ),
        centre_mm=_centre(foreground, grid),
        foreground_ml=foreground_ml,
        outside=outside,
        registered=registered,
        stripped=outside < MAX_OUTSIDE if registered else foreground_ml < MAX_BRAIN_ML,
    )


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays of one shape; 0 where one is constant.

    >>> correlation(np.array([1.0, 2, 4]), np.array([-3.0, -6, -12]))
    -1.0
    """
    a = one.astype(np.float64).ravel()
    b = other.astype(np.float64).ravel()
    if not a.size:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(np.round(a @ b / size, 12)) if size > 0 else 0.0


def _outside(coarse: Float32[np.ndarray, "a b c"], distance: Float32[np.ndarray, "a b c"]) -> float:
    shell = coarse[(distance > RIM_MM) & (distance <= 2 * RIM_MM)]
    far, inside = coarse[distance > 3 * RIM_MM], coarse[distance == 0]
    if not shell.size or not inside.size or inside.mean() <= 0:
        return 0.0
    beyond = float(far.mean()) if far.size else 0.0
    return (float(shell.mean()) - beyond) / float(inside.mean())


def _centre(inside: np.ndarray, grid: Space) -> tuple[float, float, float]:
    x, y, z = grid.matrix[:3, :3] @ np.argwhere(inside).mean(axis=0) + grid.matrix[:3, 3]
    return float(x), float(y), float(z)


@lru_cache(maxsize=8)
def template_on(
    grid: Space,
) -> tuple[Float32[np.ndarray, "a b c"], Float32[np.ndarray, "a b c"]]:
    """Return MNI152's T1 image in [0, about 1] on a grid, and the distance from its brain in mm."""
    image, space = _template()
    template = resample(image, space, grid)
    brain = template > FOREGROUND
    if not brain.any():
        return template, np.full(grid.shape, np.inf, dtype=np.float32)
    distance = ndimage.distance_transform_edt(~brain, sampling=grid.spacing)
    return template, np.asarray(distance, dtype=np.float32)


@lru_cache(maxsize=1)
def _template() -> tuple[Float32[np.ndarray, "d h w"], Space]:
    image = mni152.t1()
    values = np.clip(image.values, 0, None)
    scale: Float64[np.ndarray, ""] = np.percentile(values[values > 0], 99.9)
    return values / np.float32(scale), image.space
