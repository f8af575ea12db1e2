"""A picture by which a person checks a prepared scan."""

from __future__ import annotations

import io

import numpy as np

from synthbench.cohorts.preparation.pipeline import PreparedScan
from synthbench.cohorts.preparation.template import template_on
from synthbench.render.montage import planes
from synthbench.runtime.text import in_figure


def quality_picture(prepared: PreparedScan, title: str) -> bytes:
    """Return a PNG: the head with the mask's outline, the prepared volume, and the template.

    Each row has three planes (axial, coronal, sagittal), so that the same place on the same grid
    can be compared by eye. The same scan gives the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    space = prepared.space
    template = template_on(space)
    rows = {
        f"{title}: head and mask": prepared.head / np.percentile(prepared.head, 99),
        "prepared": prepared.volume,
        "MNI152": template / template.max(),
    }
    x, y, z = space.spacing
    pixels = [y / x, z / x, z / y]  # height over width in each plane
    figure = Figure(figsize=(7.2, 7.4), facecolor="black", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 3)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.96, wspace=0.02, hspace=0.08)
    outlines = planes(prepared.mask.astype(np.float32), space)
    for number, (name, volume) in enumerate(rows.items()):
        row = axes[number]
        row[0].set_title(in_figure(name), color="white", fontsize=8, loc="left")
        for axis, image, outline, aspect in zip(
            row, planes(volume, space), outlines, pixels, strict=True
        ):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, aspect=aspect)
            if number == 0 and 0 < outline.mean() < 1:
                axis.contour(outline, [0.5], colors="#ff5a36", linewidths=0.8)
            axis.set_axis_off()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", facecolor="black", metadata={"Software": None})
    return picture.getvalue()
