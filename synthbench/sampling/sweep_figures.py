"""Pictures of a sweep: the row or grid of volumes, and the measured curve."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from synthbench.render.montage import planes
from synthbench.runtime.text import in_figure
from synthbench.sampling.source import CLEAN_ABOVE
from synthbench.sampling.sweep_record import Axis, Point, Sweep, short
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_BEYOND = "extrapolated"
_FRAME = "#ffb000"  # visible on black with every kind of colour vision; the frame is dashed too
_WIDE = 1.25  # inches of a column
_LINES = ("o", "s", "^", "D", "v", "P", "X", "*")

Voxels = Callable[[Point], Float32[np.ndarray, "d h w"]]


def montage(swept: Sweep, space: Space, voxels: Voxels) -> bytes:
    """Return a PNG of the volumes.

    With one axis there is one column per value, and an axial and a coronal row per seed. With two
    axes there is one column per value of the first and one row per value of the second, with axial
    slices of the first seed. Slices outside the training range have a dashed frame and a label.

    Parameters
    ----------
    swept
        The sweep.
    space
        Grid of the volumes, for the proportions of the pixels.
    voxels
        Returns the volume of a point, in [0, 1].
    """
    across = swept.axes[0]
    rows = _rows(swept)
    images = [
        [planes(voxels(point), space)[plane] for point in points] for _, plane, points in rows
    ]
    images = _cropped(images, [plane for _, plane, _ in rows])
    dx, dy, dz = space.spacing
    tall = [
        _WIDE * line[0].shape[0] * (dy, dz)[plane] / (line[0].shape[1] * dx)
        for line, (_, plane, _) in zip(images, rows, strict=True)
    ]
    width = max(_WIDE * len(across.values) + 0.9, 5.0)
    height = sum(tall) + 1.35
    figure = _figure((width, height), "black")
    grid = figure.subplots(
        len(rows), len(across.values), squeeze=False, height_ratios=tall,
        gridspec_kw={
            "left": 0.85 / width, "right": 0.995, "top": 1 - 0.95 / height,
            "bottom": 0.38 / height, "wspace": 0.04, "hspace": 0.04,
        },
    )  # fmt: skip
    for line, shown, (label, plane, points) in zip(grid, images, rows, strict=True):
        for axes, image, point in zip(line, shown, points, strict=True):
            axes.imshow(
                image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear",
                aspect=(dy, dz)[plane] / dx,
            )  # fmt: skip
            _frame(axes, bool(point.extrapolated))
        line[0].set_ylabel(in_figure(label), color="white", fontsize=8)
    for axes, value in zip(grid[0], across.values, strict=True):
        axes.set_title(in_figure(_column_title(across, value)), color="white", fontsize=8, pad=3)
    figure.suptitle(
        in_figure(_title(swept)), color="white", fontsize=9, y=1 - 0.08 / height, va="top"
    )
    figure.text(
        0.5,
        0.1 / height,
        in_figure(_legend(swept)),
        color="white",
        fontsize=7,
        ha="center",
        va="bottom",
    )
    return _png(figure)


def curve(swept: Sweep) -> bytes:
    """Return a PNG of the measured values against the requested ones.

    With one axis, each seed is a thin line and their mean a thick one. With two axes there is one
    line per value of the other axis, the mean over seeds. The line of equality is drawn where both
    are the same quantity in the same unit. Extrapolation is hatched, and its marks are hollow.
    """
    along, other = _along(swept)
    figure = _figure((6.4, 4.4), "white", layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(along.values), dtype=float)
    numeric = along.condition.kind == "numeric"
    x = np.array([float(v) for v in along.values]) if numeric else places
    series = _series(swept, along, other)
    for (label, values), mark in zip(series.items(), _marks(len(series)), strict=True):
        # Lines of single seeds are drawn only where there is one series of several seeds.
        shown = values if other is None and len(values) > 1 else values[:0]
        for i, of_a_seed in enumerate(shown):
            axes.plot(x, of_a_seed, color="0.6", lw=0.8, zorder=1, label=None if i else "each seed")
        mean = _mean(values)
        (line,) = axes.plot(x, mean, lw=1.8, zorder=3)
        inside = np.array([not along.beyond(value) for value in along.values])
        colour = line.get_color()
        axes.plot(
            x[inside], mean[inside], mark, color=colour, ms=5, zorder=4, label=in_figure(label)
        )
        axes.plot(x[~inside], mean[~inside], mark, color=colour, mfc="white", ms=5, zorder=4)
    assert swept.measure is not None
    if swept.measure.of == along.name:
        ends = [x.min(), x.max()]
        axes.plot(ends, ends, "--", color="black", lw=1, label="measured = requested", zorder=2)
    if numeric:
        axes.xaxis.set_major_formatter("{x:,g}")
        _shade(axes, along, x)
    else:
        axes.set_xticks(places, [in_figure(short(value)) for value in along.values])
    unit = f" ({swept.measure.unit})" if swept.measure.of == along.name else ""
    axes.set_xlabel(in_figure(f"requested: {along.name}{unit}"), fontsize=9)
    axes.set_ylabel(in_figure(f"measured: {swept.measure.label}"), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.spines[["right"] if numeric else ["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
    figure.suptitle(in_figure(_title(swept)), fontsize=9)
    return _png(figure)


# ---------------------------------------------------------------- rows, columns, series


def _cropped(rows: list[list[np.ndarray]], of_planes: list[int]) -> list[list[np.ndarray]]:
    """Return the images without the background around them: the same box for all of a plane."""
    boxes = {}
    for plane in set(of_planes):
        images = [image for line, p in zip(rows, of_planes, strict=True) for image in line
                  if p == plane]  # fmt: skip
        seen = np.max(images, axis=0) > CLEAN_ABOVE
        boxes[plane] = tuple(_span(seen.any(axis=axis)) for axis in (1, 0))
    return [[image[boxes[p]] for image in line] for line, p in zip(rows, of_planes, strict=True)]


def _span(seen: np.ndarray, margin: int = 2) -> slice:
    places = np.flatnonzero(seen)
    if places.size == 0:
        return slice(None)
    return slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1)


def _rows(swept: Sweep) -> list[tuple[str, int, list[Point]]]:
    """Return, for each row of the montage, its label, its plane and its points."""
    n = len(swept.axes[0].values)
    lines = [list(swept.points[i : i + n]) for i in range(0, len(swept.points), n)]
    if len(swept.axes) == 2:
        down = swept.axes[1]
        return [
            (_row_title(down, value), 0, line)
            # strict=False: a grid shows the first seed only, and `lines` has those of all seeds.
            for value, line in zip(down.values, lines, strict=False)
        ]
    several = len(swept.seeds) > 1
    return [
        (f"seed {seed}\n{name}" if several else name, plane, line)
        for seed, line in zip(swept.seeds, lines, strict=True)
        for plane, name in enumerate(("axial", "coronal"))
    ]


def _along(swept: Sweep) -> tuple[Axis, Axis | None]:
    """Return the x axis of the curve, and the other axis or None.

    The x axis is the measured quantity, where it is one of the axes.
    """
    if len(swept.axes) == 1:
        return swept.axes[0], None
    first, second = swept.axes
    assert swept.measure is not None
    return (second, first) if swept.measure.of == second.name else (first, second)


def _series(swept: Sweep, along: Axis, other: Axis | None) -> dict[str, np.ndarray]:
    """Return the values of each line by its label: one row per seed, NaN without a measurement."""
    measured = {
        (p.seed, *(p.row[axis.name] for axis in (along, other) if axis)): p.measured
        for p in swept.points
    }

    def values(*rest: float | str) -> np.ndarray:
        table = [[measured[(seed, v, *rest)] for v in along.values] for seed in swept.seeds]
        return np.array(table, dtype=np.float64)  # None becomes NaN

    if other is None:
        n = len(swept.seeds)
        return {f"mean of {n} seeds" if n > 1 else f"seed {swept.seeds[0]}": values()}
    return {
        f"{other.name} {short(value)}{f', {_BEYOND}' if other.beyond(value) else ''}": values(value)
        for value in other.values
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over seeds at each step, over those with a measurement; NaN without any."""
    counts = np.isfinite(values).sum(axis=0)
    total = np.nansum(values, axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _marks(n: int) -> list[str]:
    return [_LINES[i % len(_LINES)] for i in range(n)]


# ---------------------------------------------------------------- titles and marks


def _title(swept: Sweep) -> str:
    seeds = swept.seeds
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    fixed = ", ".join(f"{name} {short(value)}" for name, value in swept.fixed.items())
    varied = " and ".join(axis.name for axis in swept.axes)
    return f"{swept.generator}, synthetic, {seed}: {varied} varied" + (
        f"\nfixed: {fixed}" if fixed else ""
    )


def _legend(swept: Sweep) -> str:
    numeric = any(axis.condition.kind == "numeric" for axis in swept.axes)
    beyond = any(point.extrapolated for point in swept.points)
    parts = ["in brackets: 0 and 1 are the ends of the training range"] if numeric else []
    parts += [f"dashed frame: {_BEYOND}, beyond that range"] if beyond else []
    if len(swept.axes) == 2 and len(swept.seeds) > 1:
        parts.append(f"shown: seed {swept.seeds[0]}")
    return "; ".join(parts)


def _column_title(axis: Axis, value: float | str) -> str:
    scaled = axis.scaled(value)
    label = short(value) if scaled is None else f"{short(value)}\n[{scaled:.3g}]"
    return f"{label}\n{_BEYOND if axis.beyond(value) else ' '}"


def _row_title(axis: Axis, value: float | str) -> str:
    scaled = axis.scaled(value)
    label = f"{axis.name}\n{short(value)}" + ("" if scaled is None else f" [{scaled:.3g}]")
    return f"{label}\n{_BEYOND}" if axis.beyond(value) else label


def _frame(axes: Axes, beyond: bool) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for spine in axes.spines.values():
        spine.set_visible(beyond)
        spine.set_color(_FRAME)
        spine.set_linestyle((0, (4, 3)))
        spine.set_linewidth(1.4)


def _shade(axes: Axes, axis: Axis, x: np.ndarray) -> None:
    """Hatch the values beyond the training range, and draw its scale from 0 to 1 above."""
    low, high = axis.condition.natural(0.0), axis.condition.natural(1.0)
    room = 0.03 * np.ptp(x)
    left, right = float(x.min() - room), float(x.max() + room)
    labelled = False
    for start, stop in ((left, low), (high, right)):
        if any(axis.beyond(v) and start <= float(v) <= stop for v in axis.values):
            axes.axvspan(
                start, stop, facecolor="0.93", edgecolor="0.75", hatch="//", lw=0, zorder=0,
                label=None if labelled else f"{_BEYOND} (hollow marks)",
            )  # fmt: skip
            labelled = True
    axes.set_xlim(left, right)

    def scaled(value: Any) -> Any:
        return (np.asarray(value) - low) / (high - low)

    def natural(place: Any) -> Any:
        return low + np.asarray(place) * (high - low)

    above = axes.secondary_xaxis("top", functions=(scaled, natural))
    above.set_xlabel("0 and 1: the ends of the training range", fontsize=8)
    above.tick_params(labelsize=7)


def _figure(size: tuple[float, float], colour: str, **options: Any) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, facecolor=colour, dpi=110, **options)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(
        content, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return content.getvalue()
