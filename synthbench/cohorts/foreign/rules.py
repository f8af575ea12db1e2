"""The rules that give volumes made elsewhere a grid and an intensity scale.

What a file does not say, the user states (`Statement`). Every rule has words, which are recorded
beside the volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Float64

from synthbench.cohorts.volume_file import MAX_VOXEL_MM, MIN_VOXEL_MM, centred
from synthbench.errors import CohortError, UsageError
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import OVERSHOOT

SAME_VOXEL = 0.01
"""Relative difference up to which two voxel sizes are one."""

MARGIN = 0.05
"""How far values may lie outside the stated range, as a share of it: networks overshoot."""

MAX_OUTSIDE = 0.01
"""The share of a volume's voxels beyond that margin above which it is the wrong range."""


@dataclass(frozen=True)
class Statement:
    """What the user states about volumes that were made elsewhere.

    Attributes
    ----------
    value_range
        The two values that become 0 and 1; None: values stay as they are.
    orientation
        The directions of the arrays' axes, as nibabel's axis codes, such as "RAS": towards right,
        front and top. It replaces what headers say. None: headers say it.
    spacing
        Voxel size in mm of files that state none, or a wrong one; "real": that of the real
        volumes.
    """

    value_range: tuple[float, float] | None = None
    orientation: str | None = None
    spacing: float | Literal["real"] | None = None

    @classmethod
    def parse(
        cls, value_range: str | None, orientation: str | None, spacing: str | None
    ) -> Statement:
        """Return the statement of --range LO:HI, --orientation CODES and --spacing MM.

        Raises
        ------
        UsageError
            One of them cannot be read.

        >>> Statement.parse("-1:1", "ras", None)
        Statement(value_range=(-1.0, 1.0), orientation='RAS', spacing=None)
        """
        ends = None if value_range is None else _ends(value_range)
        codes = None if orientation is None else _codes(orientation)
        return cls(ends, codes, None if spacing is None else _size(spacing))

    @property
    def options(self) -> list[str]:
        """The options of `synthbench import` that state this."""
        options = []
        if self.value_range is not None:
            options += ["--range", "{:.6g}:{:.6g}".format(*self.value_range)]
        if self.orientation is not None:
            options += ["--orientation", self.orientation]
        if self.spacing is not None:
            size = self.spacing if self.spacing == "real" else f"{self.spacing:g}"
            options += ["--spacing", size]
        return options


def _ends(text: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in text.split(":"))
    except ValueError:
        low = high = float("nan")
    if not (np.isfinite([low, high]).all() and low < high):
        raise UsageError(
            f"--range {text}: write it as LO:HI, the values that become 0 and 1, for example -1:1."
        )
    return low, high


def _size(text: str) -> float | Literal["real"]:
    if text == "real":
        return "real"
    try:
        size = float(text)
    except ValueError:
        size = float("nan")
    if not MIN_VOXEL_MM <= size <= MAX_VOXEL_MM:
        raise UsageError(
            f"--spacing {text}: a voxel size in mm is needed, from {MIN_VOXEL_MM:g} to "
            f"{MAX_VOXEL_MM:g}, or 'real': that of the real volumes."
        )
    return size


def _codes(text: str) -> str:
    codes = text.upper()
    axes = [next((i for i, pair in enumerate(("RL", "AP", "SI")) if c in pair), -1) for c in codes]
    if sorted(axes) != [0, 1, 2]:
        raise UsageError(
            f"--orientation {text}: three letters are needed, one per axis of the array, for the "
            "side that it goes to: R or L, A or P, S or I. RAS: right, front (anterior), top "
            "(superior)."
        )
    return codes


# ---------------------------------------------------------------- geometry


@dataclass(frozen=True)
class Position:
    """The place of a stored array: its directions, its grid in RAS+, and the rule in words.

    Attributes
    ----------
    orientation
        For each axis of the array, the axis of space and the sign (nibabel's orientations).
    grid
        The grid of the volume that is written.
    words
        The rule that gave it.
    """

    orientation: Float64[np.ndarray, "3 2"]
    grid: Space
    words: str

    def __call__(self, stored: Float32[np.ndarray, "a b c"], outside: float) -> np.ndarray:
        """Return a stored array on the grid; voxels beyond the array get the value `outside`."""
        turned = nib.apply_orientation(stored, self.orientation)
        return padded_or_cropped(np.asarray(turned), self.grid.shape, outside)


def position(
    shape: tuple[int, int, int],
    affine: Float64[np.ndarray, "4 4"] | None,
    stated: Statement,
    like: Space | None,
) -> Position:
    """Return the place of a stored array.

    Without a stated orientation it is the file's own. Otherwise the voxels have the stated
    directions and:

    - an array of the real volumes' shape has their grid, unless a voxel size is stated;
    - any other has the stated voxel size, else its file's own. Where that is the real volumes'
      size, zeros are cut off or added at both ends of each axis, up to their grid. Otherwise, the
      middle of the array is placed in the middle of their grid (without them, at 0 mm).

    Parameters
    ----------
    affine
        The usable affine of the file, in mm; None: it has none.
    like
        The grid of the real volumes in RAS+; None: they were not named.

    Raises
    ------
    CohortError
        There is not enough to tell. The message does not name the file.
    """
    if stated.orientation is None:
        if affine is None:
            raise CohortError("no geometry: an array, or a header without a usable affine")
        orientation = nib.io_orientation(affine)
        to_ras = affine @ nib.orientations.inv_ornt_aff(orientation, shape)
        turned = _turned(shape, orientation)
        return Position(orientation, Space.of(turned, to_ras), "the file's own affine")
    orientation = nib.orientations.axcodes2ornt(stated.orientation)
    axes = f"axes as stated ({stated.orientation})"
    turned = _turned(shape, orientation)
    if like is not None and stated.spacing is None and turned == like.shape:
        return Position(orientation, like, f"{axes}, on the real volumes' grid")
    size, source = _voxel_size(orientation, affine, stated, like)
    if size is None:
        raise CohortError(
            f"no voxel size: in the stated orientation the shape is {_by(turned)}"
            + ("" if like is None else f", and that of the real volumes {_by(like.shape)}")
        )
    if like is not None and np.allclose(size, like.spacing, rtol=SAME_VOXEL):
        return Position(
            orientation, like,
            f"{axes}, {source} voxel size, cropped or padded at both ends to the real volumes' "
            "grid",
        )  # fmt: skip
    if like is None:
        grid = Space.of(turned, centred(turned, _triple(size), nib.io_orientation(np.eye(4))))
        return Position(orientation, grid, f"{axes}, {source} voxel size, its middle at 0 mm")
    directions = like.matrix[:3, :3] / np.array(like.spacing)
    middle = like.matrix[:3, :3] @ ((np.array(like.shape) - 1) / 2) + like.matrix[:3, 3]
    placed = np.eye(4)
    placed[:3, :3] = directions * size
    placed[:3, 3] = middle - placed[:3, :3] @ ((np.array(turned) - 1) / 2)
    words = f"{axes}, {source} voxel size, its middle in the middle of the real volumes' grid"
    return Position(orientation, Space.of(turned, placed), words)


def _voxel_size(
    orientation: Float64[np.ndarray, "3 2"],
    affine: Float64[np.ndarray, "4 4"] | None,
    stated: Statement,
    like: Space | None,
) -> tuple[Float64[np.ndarray, " 3"] | None, str]:
    """Return the voxel size along right, front and top, and whose it is."""
    if stated.spacing == "real":
        if like is None:
            raise CohortError("no real volumes: --spacing real needs --like")
        return np.array(like.spacing), "the real volumes'"
    if stated.spacing is not None:
        return np.full(3, stated.spacing), "the stated"
    if affine is None:
        return None, ""
    size = np.zeros(3)
    size[orientation[:, 0].astype(int)] = np.linalg.norm(affine[:3, :3], axis=0)
    return size, "the header's"


def _triple(values: Float64[np.ndarray, " 3"]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _turned(
    shape: tuple[int, int, int], orientation: Float64[np.ndarray, "3 2"]
) -> tuple[int, int, int]:
    """Return the shape of an array after reorientation."""
    sides = np.zeros(3, dtype=int)
    sides[orientation[:, 0].astype(int)] = shape
    return int(sides[0]), int(sides[1]), int(sides[2])


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def padded_or_cropped(
    volume: np.ndarray, shape: tuple[int, int, int], outside: float
) -> np.ndarray:
    """Return a volume with voxels cut off or added at both ends of each axis.

    Of an odd number, one more is cut off or added at the end.

    >>> padded_or_cropped(np.ones((2, 1, 5)), (5, 1, 2), 0).ravel().astype(int).tolist()
    [0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    """
    if volume.shape == shape:
        return volume
    result = np.full(shape, outside, dtype=volume.dtype)
    source, target = [], []
    for there, wanted in zip(volume.shape, shape, strict=True):
        cut, added = max(there - wanted, 0) // 2, max(wanted - there, 0) // 2
        length = min(there, wanted)
        source.append(slice(cut, cut + length))
        target.append(slice(added, added + length))
    result[tuple(target)] = volume[tuple(source)]
    return result


# ---------------------------------------------------------------- intensity


@dataclass(frozen=True)
class Scaling:
    """The rule that brings values to [0, 1].

    Attributes
    ----------
    low, high
        The values that become 0 and 1.
    scale
        The value that the written file gives for 1.
    words
        The rule.
    """

    low: float
    high: float
    scale: float
    words: str

    @classmethod
    def of(cls, stated: Statement, highest: float) -> Scaling:
        """Return the stated rule, else the one that keeps values as they are.

        Parameters
        ----------
        highest
            The greatest value of all volumes.
        """
        if stated.value_range is None:
            return cls(0.0, highest, highest, "as they are, and 0 below 0")
        low, high = stated.value_range
        return cls(low, high, 1.0, f"{low:g} becomes 0 and {high:g} becomes 1, clipped")

    def __call__(self, values: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
        """Return values in [0, 1]."""
        return np.asarray(
            ((values - self.low) / (self.high - self.low)).clip(0, 1), dtype=np.float32
        )


def below_zero(low: float, scale: float) -> bool:
    """Return True where values below zero are more than the overshoot of an interpolation."""
    return low < -OVERSHOOT * abs(scale)
