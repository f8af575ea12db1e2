"""Pictures of volumes: three planes, rows with a label."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from synthbench.runtime.files import write_atomic
from synthbench.runtime.text import in_figure
from synthbench.volumes.grid import Space


def planes(volume: Float32[np.ndarray, "d h w"], space: Space) -> list[Float32[np.ndarray, "a b"]]:
    """Return an axial, a coronal and a sagittal slice, upright, the front or the left first.

    The axial slice lies at 55% of the height (through the ventricles of a brain that fills its
    grid), the others at the middle of the front-back axis and just off the midline.
    """
    d, h, w = volume.shape
    axial = volume[:, :, int(w * 0.55)]
    coronal = volume[:, h // 2, :]
    sagittal = volume[min(d // 2 + 1, d - 1), :, :]
    return [np.flipud(slice_.T) for slice_ in (axial, coronal, sagittal)]


def montage(
    rows: Mapping[str, Sequence[Float32[np.ndarray, "d h w"]]], space: Space, file: Path
) -> None:
    """Write a PNG: one row of volumes per label, three planes of each side by side.

    Parameters
    ----------
    rows
        Volumes in [0, 1] by their row's label, all on the grid of `space`.
    space
        Gives the pixels their true proportions.
    file
        The file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import BboxImage
    from matplotlib.transforms import Bbox, TransformedBbox

    x, y, z = np.array(space.shape) * np.array(space.spacing)
    sizes = [(x, y), (x, z), (y, z)]  # width and height in mm of each plane
    height = max(tall for _, tall in sizes)
    width = sum(wide for wide, _ in sizes)
    columns = max(len(volumes) for volumes in rows.values())
    inch = 1.3 / height  # 1.3 inches per row
    label = 0.16
    figure = Figure(
        figsize=(columns * width * inch * 1.02, len(rows) * 1.3 * (1 + label)),
        facecolor="black",
        dpi=110,
    )
    FigureCanvasAgg(figure)
    total_x, total_y = columns * width * 1.02, len(rows) * height * (1 + label)
    for r, (name, volumes) in enumerate(rows.items()):
        top = total_y - r * height * (1 + label)
        figure.text(
            0.004, (top - height * label / 2) / total_y, in_figure(name),
            color="white", fontsize=8, va="center",
        )  # fmt: skip
        for c, volume in enumerate(volumes):
            left = c * width * 1.02
            for image, (wide, tall) in zip(planes(volume, space), sizes, strict=True):
                bottom = top - height * label - (height + tall) / 2
                # Without axes, of which each would make its ticks, and take most of the time.
                place = Bbox.from_bounds(
                    left / total_x, bottom / total_y, wide / total_x, tall / total_y
                )
                drawn = BboxImage(
                    TransformedBbox(place, figure.transFigure),
                    cmap="gray", norm=Normalize(0, 1), interpolation="bilinear", data=image,
                )  # fmt: skip
                figure.add_artist(drawn)
                left += wide
    picture = io.BytesIO()
    figure.savefig(picture, format="png", facecolor="black", metadata={"Software": None})
    write_atomic(file, picture.getvalue())
