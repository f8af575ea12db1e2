"""Measurements of files that were made elsewhere, and what can be told from their voxels.

Nothing here decides how a volume is brought in: it makes the proposal that a message prints, and
that a user checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Float64
from scipy import ndimage

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.foreign.rules import MARGIN, MAX_OUTSIDE, Statement
from synthbench.cohorts.inspection import correlation
from synthbench.cohorts.volume_file import finite, own_affine
from synthbench.errors import CohortError
from synthbench.volumes.image_file import read_stored

_CELLS = 16
_FOREGROUND = 0.2  # of the way from the background to the scale
_LEAST_LIKENESS = 0.5
_LEAST_GAIN = 0.02
_COMPARED = 8
_NEAR = 1.15
_USUAL_RANGES = ((-1.0, 1.0), (0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Head:
    """A brain without its place: the box around its foreground, in its array's axes.

    Attributes
    ----------
    sides
        Voxels of the box along each axis.
    cells
        Means over 16 cells along each side, 0 in the background and 1 at the scale.
    """

    sides: Float64[np.ndarray, " 3"]
    cells: Float32[np.ndarray, "16 16 16"]

    @classmethod
    def of(cls, values: Float32[np.ndarray, "a b c"], floor: float, scale: float) -> Head | None:
        """Return the brain in an array; None where nothing stands out of the background."""
        if scale <= floor:
            return None
        share = ((values - floor) / (scale - floor)).clip(0, 1)
        inside = share > _FOREGROUND
        box = []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            along = inside.sum(axis=others)
            places = np.flatnonzero(along > 0.02 * along.max())
            if len(places) < 2:
                return None
            box.append(slice(int(places[0]), int(places[-1]) + 1))
        cropped = share[tuple(box)]
        sides = np.array(cropped.shape, dtype=np.float64)
        # Antialiased: cells of a large array are means.
        smooth = ndimage.gaussian_filter(cropped, np.maximum(sides / _CELLS - 1, 0) / 2)
        cells = ndimage.zoom(smooth, _CELLS / sides, order=1, grid_mode=True, mode="nearest")
        return cls(sides, np.asarray(cells, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class ForeignFile:
    """A readable file that was made elsewhere.

    Attributes
    ----------
    path, name
        The file, and its path relative to the folder.
    shape
        Its shape, in its own axes.
    affine
        Its affine in mm; None where it states none that can be used.
    low, high
        The least and the greatest value.
    floor, scale
        The median value on the faces of the field of view, and the 99.9th percentile of what is
        brighter.
    clipped, outside
        The shares of voxels outside the stated range, and far outside it; 0 without one.
    head
        The brain in it, for the first files only.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"] | None
    low: float
    high: float
    floor: float
    scale: float
    clipped: float
    outside: float
    head: Head | None


def measured(file: Path, name: str, stated: Statement, *, head: bool) -> ForeignFile:
    """Read a file and measure it.

    Parameters
    ----------
    head
        True: the brain in it is looked for.

    Raises
    ------
    CohortError
        It cannot be read, or holds one value only. The message does not name the file.
    """
    stored = read_stored(file)
    values, _ = finite(stored.values)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise CohortError(f"every voxel is {low:g}. The volume is empty.")
    floor, scale = _levels(values)
    clipped = outside = 0.0
    if stated.value_range is not None:
        start, end = stated.value_range
        far = MARGIN * (end - start)
        clipped = float(((values < start) | (values > end)).mean())
        outside = float(((values < start - far) | (values > end + far)).mean())
    shape = (int(values.shape[0]), int(values.shape[1]), int(values.shape[2]))
    return ForeignFile(
        file, name, shape, own_affine(stored), low, high, floor, scale, clipped, outside,
        Head.of(values, floor, scale) if head else None,
    )  # fmt: skip


def _levels(values: Float32[np.ndarray, "a b c"]) -> tuple[float, float]:
    faces = [np.take(values, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    floor = float(np.median(np.concatenate(faces)))
    above = values[values > floor]
    return floor, float(np.percentile(above, 99.9)) if above.size else floor


# ---------------------------------------------------------------- proposals


def likely_range(files: Sequence[ForeignFile], stated: Statement) -> tuple[float, float] | None:
    """Return the range to propose; None where values can stay, or the stated range fits."""
    low = float(np.median([file.low for file in files]))
    high = float(np.median([file.high for file in files]))
    if stated.value_range is not None and not out_of_range(files, stated):
        return stated.value_range
    for start, end in _USUAL_RANGES:
        margin = 0.15 * (end - start)
        if abs(low - start) <= margin and 0.5 * (start + end) < high <= end + margin:
            return start, end
    floor = float(np.median([file.floor for file in files]))
    span = float(np.median([file.scale for file in files])) - floor
    if low >= 0:
        return None
    # The background becomes 0 where nothing but noise is darker.
    start = floor if low > floor - 0.25 * span else min(file.low for file in files)
    return float(f"{start:.3g}"), float(f"{max(file.high for file in files):.3g}")


def out_of_range(files: Sequence[ForeignFile], stated: Statement) -> list[ForeignFile]:
    """Return the files that show that the stated range is wrong; none where it may be right.

    It is wrong where in half of the files more than one voxel in a hundred lies far outside, or
    where no typical volume comes near one of its ends. Single volumes may fail: that is a result.
    """
    if stated.value_range is None:
        return []
    low, high = stated.value_range
    far = [file for file in files if file.outside > MAX_OUTSIDE]
    if 2 * len(far) >= len(files):
        return far
    darkest = float(np.median([file.low for file in files]))
    brightest = float(np.median([file.high for file in files]))
    unused = 0.25 * (high - low)
    return list(files) if darkest > low + unused or brightest < low + unused else []


def likely_orientation(files: Sequence[ForeignFile], real: Cohort) -> tuple[str, bool]:
    """Return axis codes for arrays, and whether their voxels showed them.

    The codes under which the arrays look most like the real volumes. Left and right look alike:
    that axis has the direction of the real volumes' files. Where no codes stand out, the axes are
    those of the real volumes' files.
    """
    usual = "".join(nib.aff2axcodes(real.stored_grid.matrix))
    mean, other = _mean([file.head for file in files]), _mean(_real_heads(real))
    if mean is None or other is None:
        return usual, False
    likeness = {
        codes: _likeness(mean, other, codes)
        for codes in _codes(next(c for c in usual if c in "LR"))
    }
    best = max(likeness, key=likeness.__getitem__)
    if likeness[best] < _LEAST_LIKENESS:
        return usual, False
    return (best, True) if likeness[best] > likeness[usual] + _LEAST_GAIN else (usual, True)


def likely_spacing(
    files: Sequence[ForeignFile], codes: str, real: Cohort
) -> float | Literal["real"] | None:
    """Return the voxel size that gives the arrays' brains the size of the real ones; None: unknown.

    It is the real volumes' own where that is near, else the one that gives the arrays the real
    volumes' field of view where that is near, else the one that fits the brains, to two digits.
    """
    own = [file.head for file in files if file.head is not None]
    others = [head for head in _real_heads(real) if head is not None]
    if not own or not others:
        return None
    turn = nib.orientations.axcodes2ornt(codes)[:, 0].astype(int)
    sides = np.zeros(3)
    sides[turn] = np.median([head.sides for head in own], axis=0)
    shape = np.zeros(3)
    shape[turn] = files[0].shape
    wanted = np.median([head.sides for head in others], axis=0) * np.array(real.grid.spacing)
    fitting = float(np.median(wanted / sides))
    extent = np.array(real.grid.shape) * np.array(real.grid.spacing)
    own_size, of_view = float(np.mean(real.grid.spacing)), float(np.median(extent / shape))
    if max(own_size / fitting, fitting / own_size) < _NEAR:
        return "real"
    if max(of_view / fitting, fitting / of_view) < _NEAR:
        return float(f"{of_view:.4g}")
    return float(f"{fitting:.2g}")


def _codes(sideways: str) -> list[str]:
    """Return all axis codes with that direction of the axis from side to side."""
    return [
        "".join(order)
        for front, up in product("PA", "SI")
        for order in permutations((sideways, front, up))
    ]


def _likeness(
    mean: Float32[np.ndarray, "16 16 16"], other: Float32[np.ndarray, "16 16 16"], codes: str
) -> float:
    turned = nib.apply_orientation(mean, nib.orientations.axcodes2ornt(codes))
    return float(correlation(np.asarray(turned), other))


def _mean(heads: Sequence[Head | None]) -> Float32[np.ndarray, "16 16 16"] | None:
    found = [head.cells for head in heads if head is not None]
    return np.mean(found, axis=0) if found else None


def _real_heads(real: Cohort) -> list[Head | None]:
    heads = []
    for index in range(min(len(real), _COMPARED)):
        values = real.load(index)
        heads.append(Head.of(values, *_levels(values)))
    return heads


def compared(index: int) -> bool:
    """Return True for the first files, whose brains are compared with the real ones."""
    return index < _COMPARED
