"""Pictures of a sweep: the row or grid of volumes, and the measured curve."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from synthbench.render.montage import planes
from synthbench.sampling.source import CLEAN_ABOVE
from synthbench.sampling.sweep_record import Axis, Point, Sweep, short
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_BEYOND = "extrapolated"
_FRAME = "#ffb000"  # seen by all kinds of colour vision on black; dashed besides
_WIDE = 1.25  # inches of a column
_LINES = ("o", "s", "^", "D", "v", "P", "X", "*")

Voxels = Callable[[Point], Float32[np.ndarray, "d h w"]]


def montage(found: Sweep, space: Space, voxels: Voxels) -> bytes:
    """Return a PNG of the volumes.

    Of one axis: a column a value, and an axial and a coronal slice of each seed. Of two axes: a
    column a value of the first, a row a value of the second, axial slices of the first seed.
    Values outside the training range have a dashed frame and say so.

    Parameters
    ----------
    found
        The sweep.
    space
        Gives the pixels their true proportions.
    voxels
        Returns the volume of a point, in [0, 1].
    """
    across = found.axes[0]
    rows = _rows(found)
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
        line[0].set_ylabel(label, color="white", fontsize=8)
    for axes, value in zip(grid[0], across.values, strict=True):
        axes.set_title(_column_title(across, value), color="white", fontsize=8, pad=3)
    figure.suptitle(_title(found), color="white", fontsize=9, y=1 - 0.08 / height, va="top")
    figure.text(
        0.5, 0.1 / height, _legend(found), color="white", fontsize=7, ha="center", va="bottom"
    )
    return _png(figure)


def curve(found: Sweep) -> bytes:
    """Return a PNG of what was measured against what was asked for.

    Each seed is a thin line and their mean a thick one; of two axes there is a line a value of
    the other axis, the mean over seeds. The identity is drawn where both are one quantity in one
    unit. Extrapolation is hatched, and its marks are hollow.
    """
    along, other = _along(found)
    figure = _figure((6.4, 4.4), "white", layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(along.values), dtype=float)
    numeric = along.condition.kind == "numeric"
    x = np.array([float(v) for v in along.values]) if numeric else places
    series = _series(found, along, other)
    for (label, values), mark in zip(series.items(), _marks(len(series)), strict=True):
        # With one series and several seeds the seeds are shown, and their mean over them.
        shown = values if other is None and len(values) > 1 else values[:0]
        for i, of_a_seed in enumerate(shown):
            axes.plot(x, of_a_seed, color="0.6", lw=0.8, zorder=1, label=None if i else "each seed")
        mean = _mean(values)
        (line,) = axes.plot(x, mean, lw=1.8, zorder=3)
        inside = np.array([not along.beyond(value) for value in along.values])
        colour = line.get_color()
        axes.plot(x[inside], mean[inside], mark, color=colour, ms=5, zorder=4, label=label)
        axes.plot(x[~inside], mean[~inside], mark, color=colour, mfc="white", ms=5, zorder=4)
    assert found.measure is not None
    if found.measure.of == along.name:
        ends = [x.min(), x.max()]
        axes.plot(ends, ends, "--", color="black", lw=1, label="measured = asked", zorder=2)
    if numeric:
        axes.xaxis.set_major_formatter("{x:,g}")
        _shade(axes, along, x)
    else:
        axes.set_xticks(places, [short(value) for value in along.values])
    unit = f" ({found.measure.unit})" if found.measure.of == along.name else ""
    axes.set_xlabel(f"asked: {along.name}{unit}", fontsize=9)
    axes.set_ylabel(f"measured: {found.measure.label}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.spines[["right"] if numeric else ["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
    figure.suptitle(_title(found), fontsize=9)
    return _png(figure)


# ---------------------------------------------------------------- what goes where


def _cropped(rows: list[list[np.ndarray]], of_planes: list[int]) -> list[list[np.ndarray]]:
    """Cut what is background in all images of a plane, but for a margin: one box a plane."""
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


def _rows(found: Sweep) -> list[tuple[str, int, list[Point]]]:
    """Return, for each row of the montage, its label, its plane and its points."""
    n = len(found.axes[0].values)
    lines = [list(found.points[i : i + n]) for i in range(0, len(found.points), n)]
    if len(found.axes) == 2:
        down = found.axes[1]
        return [
            (_row_title(down, value), 0, line)
            # A grid shows the first seed, and further seeds have lines too.
            for value, line in zip(down.values, lines, strict=False)
        ]
    several = len(found.seeds) > 1
    return [
        (f"seed {seed}\n{name}" if several else name, plane, line)
        for seed, line in zip(found.seeds, lines, strict=True)
        for plane, name in enumerate(("axial", "coronal"))
    ]


def _along(found: Sweep) -> tuple[Axis, Axis | None]:
    """Return the axis that the curve runs along, that of the measured quantity if there is one."""
    if len(found.axes) == 1:
        return found.axes[0], None
    first, second = found.axes
    assert found.measure is not None
    return (second, first) if found.measure.of == second.name else (first, second)


def _series(found: Sweep, along: Axis, other: Axis | None) -> dict[str, np.ndarray]:
    """Return each line's label and its measured values, a row a seed, NaN where there is none."""
    held = {
        (p.seed, *(p.row[axis.name] for axis in (along, other) if axis)): p.measured
        for p in found.points
    }

    def values(*rest: float | str) -> np.ndarray:
        table = [[held[(seed, v, *rest)] for v in along.values] for seed in found.seeds]
        return np.array(table, dtype=np.float64)  # None becomes NaN

    if other is None:
        n = len(found.seeds)
        return {f"mean of {n} seeds" if n > 1 else f"seed {found.seeds[0]}": values()}
    return {
        f"{other.name} {short(value)}{f', {_BEYOND}' if other.beyond(value) else ''}": values(value)
        for value in other.values
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over seeds of each step, over those that could be measured."""
    counts = np.isfinite(values).sum(axis=0)
    total = np.nansum(values, axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _marks(n: int) -> list[str]:
    return [_LINES[i % len(_LINES)] for i in range(n)]


# ---------------------------------------------------------------- words and marks


def _title(found: Sweep) -> str:
    seeds = found.seeds
    told = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    held = ", ".join(f"{name} {short(value)}" for name, value in found.fixed.items())
    varied = " and ".join(axis.name for axis in found.axes)
    return f"{found.generator}, synthetic, {told}: {varied} varied" + (
        f"\nheld: {held}" if held else ""
    )


def _legend(found: Sweep) -> str:
    numeric = any(axis.condition.kind == "numeric" for axis in found.axes)
    beyond = any(point.extrapolated for point in found.points)
    words = ["in brackets: 0 and 1 are the ends of the training range"] if numeric else []
    words += [f"dashed frame: {_BEYOND}, beyond that range"] if beyond else []
    if len(found.axes) == 2 and len(found.seeds) > 1:
        words.append(f"shown: seed {found.seeds[0]}")
    return "; ".join(words)


def _column_title(axis: Axis, value: float | str) -> str:
    scaled = axis.scaled(value)
    told = short(value) if scaled is None else f"{short(value)}\n[{scaled:.3g}]"
    return f"{told}\n{_BEYOND if axis.beyond(value) else ' '}"


def _row_title(axis: Axis, value: float | str) -> str:
    scaled = axis.scaled(value)
    told = f"{axis.name}\n{short(value)}" + ("" if scaled is None else f" [{scaled:.3g}]")
    return f"{told}\n{_BEYOND}" if axis.beyond(value) else told


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
    """Hatch what lies beyond the training range, and show the scale from 0 to 1 above."""
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
