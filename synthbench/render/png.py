"""Volumes as 8-bit pictures in a page: a still of three planes, and a mosaic of all slices.

The mosaic holds all axial slices side by side, so that a page can show any slice of any plane from
one picture.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from synthbench.render.montage import planes
from synthbench.volumes.grid import Space, resample

LONGEST_SIDES = (112, 96, 80, 64, 48, 36)
"""Voxels along the longest side of a picture, finest first; the first that fits a budget is used.
"""


@dataclass(frozen=True)
class Picture:
    """A volume in a page.

    Attributes
    ----------
    still
        Axial, coronal and sagittal slice side by side, as a `data:` URI.
    mosaic
        All axial slices from the lowest up, row by row, `columns` per row, as a `data:` URI.
    shape
        Voxels along x, y and z.
    size
        Width and height of the still, in pixels.
    columns
        Slices in a row of the mosaic.
    spacing
        Side of the voxels, which are cubes, in mm.
    """

    still: str
    mosaic: str
    shape: tuple[int, int, int]
    size: tuple[int, int]
    columns: int
    spacing: float

    @property
    def cost(self) -> int:
        """The number of characters that it takes in a page."""
        return len(self.still) + len(self.mosaic)


def within_budget(
    volumes: Sequence[Float32[np.ndarray, "d h w"]], space: Space, budget: int
) -> list[Picture]:
    """Return volumes as pictures that together fit a budget, on the finest grid that does.

    Parameters
    ----------
    volumes
        Intensities in [0, 1], on the grid of `space`.
    space
        The grid of the volumes. Pictures have isotropic voxels, no smaller than its smallest.
    budget
        Characters of all pictures together. Where no grid fits, the coarsest is used.
    """
    pictures: list[Picture] = []
    for longest in LONGEST_SIDES:
        shown = display_grid(space, longest)
        pictures = [picture(resample(volume, space, shown), shown) for volume in volumes]
        if sum(p.cost for p in pictures) <= budget:
            break
    return pictures


def display_grid(space: Space, longest: int) -> Space:
    """Return the isotropic grid over a space's field of view, at most `longest` voxels per side.

    Its voxels are no smaller than the smallest side of the space's voxels.
    """
    extent = max(n * mm for n, mm in zip(space.shape, space.spacing, strict=True))
    return space.regrid(spacing=max(min(space.spacing), extent / longest))


def picture(volume: Float32[np.ndarray, "d h w"], space: Space) -> Picture:
    """Return a volume with isotropic voxels as a picture."""
    still = three_planes(volume, space)
    mosaic, columns = _mosaic(_levels(volume))
    d, h, w = volume.shape
    return Picture(
        data_uri(png(still)), data_uri(png(mosaic)), (d, h, w), (still.shape[1], still.shape[0]),
        columns, float(space.spacing[0]),
    )  # fmt: skip


def three_planes(
    volume: Float32[np.ndarray, "d h w"], space: Space, beside: int = 0
) -> UInt8[np.ndarray, "a b"]:
    """Return an axial, a coronal and a sagittal slice side by side, 0 to 1 as 0 to 255.

    Slices that are less tall than the tallest are filled up with the level `beside`.
    """
    return _side_by_side([_levels(plane) for plane in planes(volume, space)], beside)


def _levels(intensities: Float32[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    levels: UInt8[np.ndarray, "*shape"] = np.round(np.clip(intensities, 0, 1) * 255).astype(
        np.uint8
    )
    return levels


def _side_by_side(
    slices: Sequence[UInt8[np.ndarray, "a b"]], beside: int = 0
) -> UInt8[np.ndarray, "a b"]:
    tall = max(len(s) for s in slices)
    padded = []
    for image in slices:
        above = (tall - len(image)) // 2
        edges = ((above, tall - len(image) - above), (0, 0))
        padded.append(np.pad(image, edges, constant_values=beside))
    return np.hstack(padded)


def _mosaic(levels: UInt8[np.ndarray, "d h w"]) -> tuple[UInt8[np.ndarray, "a b"], int]:
    d, h, w = levels.shape
    columns = math.ceil(math.sqrt(w))
    rows = math.ceil(w / columns)
    tiles = np.zeros((rows * columns, h, d), np.uint8)
    tiles[:w] = levels.transpose(2, 1, 0)[:, ::-1]
    grid = tiles.reshape(rows, columns, h, d).transpose(0, 2, 1, 3)
    return grid.reshape(rows * h, columns * d), columns


def png(image: UInt8[np.ndarray, "a b"]) -> bytes:
    """Return an 8-bit greyscale picture as PNG: the same bytes each time with one Pillow."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=9)
    return file.getvalue()


def data_uri(content: bytes) -> str:
    """Return a PNG as a `data:` URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
