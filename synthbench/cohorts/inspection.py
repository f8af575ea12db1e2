"""What is measured of one volume as it is read, and where it lies against MNI152.

`inspect` costs a few milliseconds beyond reading and keeps, beside plain numbers, a coarse copy
of the volume: enough to compare thousands of volumes with each other without opening a file
again. `place` compares that copy with the MNI152 T1 image (`synthbench.volumes.mni152`).
The rules that judge these numbers are in `synthbench.cohorts.preflight.check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import nibabel as nib
import numpy as np
from jaxtyping import Float16, Float32, Float64
from scipy import ndimage

from synthbench.volumes import mni152
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.intensity import BACKGROUND

COARSE_MM = 6.0
"""Cell size of the coarse copy: fine enough for the asymmetry of real brains, see the docs."""

FOREGROUND = 0.15
"""Share of the scale above which a coarse cell is foreground: above noise, below tissue."""

RIM_MM = 12.0
"""How far from the MNI152 brain a registered brain still reaches."""

MIN_AGREEMENT = 0.6
"""Correlation with MNI152 within `RIM_MM` of its brain, from which a volume is registered."""

MIN_OVERLAP = 0.8
"""Dice overlap with the MNI152 brain, from which a stripped volume is registered.

Real brains of the template's size cross either limit when they are moved by about 20 mm; heads
that keep their own size, but lie where the template's does, stay above.
"""

MAX_OUTSIDE = 0.1
"""Mean 12 to 24 mm outside the MNI152 brain, over that inside, from which there is a head."""

MAX_BRAIN_ML = 2600.0
"""Foreground from which it is a head rather than a brain; adult brains reach 2100 mL here."""

_LEAST_ML = 100.0
_BINS = 50


@dataclass(frozen=True, eq=False)
class Inspection:
    """Measurements of one volume, in RAS+ unless said.

    Attributes
    ----------
    grid
        The volume's grid after reorientation to RAS+.
    stored
        Its grid as the file stores it.
    assumed
        Whether the file has no geometry and the grid was given by the user.
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
        The 99.9th percentile of the foreground: of what exceeds the median background by more
        than 0.01 of the way to the scale.
    nonzero, negative
        Shares of all voxels.
    clipped
        Share of the foreground that is at the greatest value.
    histogram
        Share of the foreground in 50 bins from the median background to the scale; what is
        above it counts in the last bin.
    coarse
        Means over cells of 6 mm, 0 at the median background and 1 at the scale.
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
    histogram: tuple[float, ...]
    coarse: Float16[np.ndarray, "a b c"]

    @property
    def orientation(self) -> str:
        """Where the stored axes run to, such as "RAS" (right, anterior, superior)."""
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
        """See `place`."""
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
    """Measure one volume.

    Parameters
    ----------
    volume
        Values as the file means them, in RAS+; finite, and not all equal.
    grid, stored
        Its grid in RAS+, and as stored.
    dtype, slope, inter, assumed
        As in `Inspection`.
    """
    faces = [volume[end, :, :].ravel() for end in (0, -1)]
    faces += [volume[:, end, :].ravel() for end in (0, -1)]
    faces += [volume[:, :, end].ravel() for end in (0, -1)]
    quartiles = np.percentile(np.concatenate(faces), (25, 50, 75))
    floor, high = float(quartiles[1]), float(volume.max())
    above = volume[volume > floor]
    # A volume that is nowhere above its faces has no foreground: its greatest value stands in.
    scale, clipped, histogram = high, 0.0, np.zeros(_BINS)
    if above.size:
        rough = float(np.percentile(above, 99.9))
        foreground = above[above > floor + BACKGROUND * (rough - floor)]
        scale = float(np.percentile(foreground, 99.9))
        clipped = float(np.mean(foreground == high))
        bins = ((foreground - floor) * (_BINS / (scale - floor))).astype(np.intp)
        histogram = np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS) / bins.size
    span = scale - floor
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
        histogram=tuple(float(share) for share in histogram),
        coarse=np.clip(coarse, -4, 4).astype(np.float16),
    )


def cell_means(
    volume: Float32[np.ndarray, "d h w"], spacing: tuple[float, float, float], cell: float
) -> Float32[np.ndarray, "a b c"]:
    """Mean values over cubic cells, on the grid of `Space.regrid(spacing=cell)`.

    A voxel counts in a cell by the share of the cell that it fills; outside is 0. The sum is
    kept, and a mirrored volume has mirrored means.

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


# ---------------------------------------------------------------- against MNI152


@dataclass(frozen=True)
class Placement:
    """Where a volume lies against the MNI152 brain, as its affine places it.

    Attributes
    ----------
    overlap
        Dice overlap of the foreground with the MNI152 brain, in [0, 1].
    agreement
        Pearson correlation with the MNI152 T1 image within 12 mm of its brain.
    mirrored
        The same with the volume mirrored left-right, front-back and up-down within its field of
        view. The MNI152 image is symmetric: the first says nothing of left and right.
    centre_mm
        Centre of the foreground in mm.
    foreground_ml
        Volume of the foreground.
    outside
        Mean 12 to 24 mm outside the MNI152 brain less that beyond 36 mm, over the mean inside:
        scalp and neck, but not noise that is everywhere alike.
    registered
        Whether the brain lies where MNI152's does; None where nothing stands out of the
        background.
    stripped
        Whether there is a brain and no head: for registered volumes from `outside`, for others
        from `foreground_ml`; None as above.
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
    """Compare a volume's coarse copy with the MNI152 T1 image."""
    grid = inspection.coarse_grid
    template, distance = _template_on(grid)
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
    # Only a brain has the outline of a brain: the overlap of a head says nothing.
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
    """Pearson's correlation of two arrays of one shape; 0 where either is constant.

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
def _template_on(
    grid: Space,
) -> tuple[Float32[np.ndarray, "a b c"], Float32[np.ndarray, "a b c"]]:
    """Return MNI152's T1 image in [0, about 1] on a grid, and mm from its brain."""
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
