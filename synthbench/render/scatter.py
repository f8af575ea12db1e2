"""A chart of points of two sets in a frame with axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from synthbench.render.axis import axis_over, tick_text
from synthbench.render.html import escaped
from synthbench.render.svg import element, text

WIDTH, HEIGHT = 560.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 20.0, 40.0
"""Width and height of the chart, and the margins around its frame, in pixels."""


@dataclass(frozen=True)
class Cloud:
    """Points of one style, "real" or "synth": their places, and a name for each."""

    style: str
    points: Float64[np.ndarray, "n 2"]
    names: Sequence[str]


def scatter(label: str, across: str, up: str, clouds: Sequence[Cloud]) -> str:
    """Return points as an SVG; each has its number, in the order of the clouds, and its name.

    Parameters
    ----------
    label
        Description for screen readers.
    across, up
        The names of the axes.
    clouds
        Drawn in this order; one point at least.
    """
    every = np.concatenate([cloud.points for cloud in clouds])
    x_axis, y_axis = axis_over(every[:, 0].tolist()), axis_over(every[:, 1].tolist())
    foot, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2

    def x_of(value: float) -> float:
        return LEFT + x_axis.share(value) * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return foot - y_axis.share(value) * (foot - TOP)

    frame = f"M{LEFT:.0f} {TOP:.0f}V{foot:.0f}H{WIDTH - RIGHT:.0f}"
    parts = [
        element("path", class_="axis", d=frame),
        text(up, 6, 12, class_="tick"),
        text(across, middle, HEIGHT - 6, class_="tick", text_anchor="middle"),
    ]
    for tick in x_axis.ticks():
        x = x_of(tick)
        parts.append(text(tick_text(tick), x, foot + 16, class_="tick", text_anchor="middle"))
    for tick in y_axis.ticks():
        y = y_of(tick) + 4
        parts.append(text(tick_text(tick), LEFT - 7, y, class_="tick", text_anchor="end"))
    number = 0
    for cloud in clouds:
        for (x, y), name in zip(cloud.points, cloud.names, strict=True):
            shape = f"translate({x_of(x):.1f} {y_of(y):.1f})"
            # A disc and a diamond: told apart without colour.
            d = (
                "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"
                if cloud.style == "real"
                else "M0-5 5 0 0 5-5 0z"
            )
            parts.append(
                element(
                    "path", f"<title>{escaped(name)}</title>", class_=f"dot {cloud.style}", d=d,
                    transform=shape, data_point=str(number),
                )
            )  # fmt: skip
            number += 1
    return element(
        "svg", "\n".join(parts), class_="scatter", role="img", tabindex="0",
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}", aria_label=label,
    )  # fmt: skip
