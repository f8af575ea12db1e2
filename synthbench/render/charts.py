"""Charts in a page or a picture: lines over bands in a frame, and rows of values on one axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from synthbench.render.axis import Axis, axis_over, tick_text
from synthbench.render.html import escaped
from synthbench.render.svg import EDGE, element, mark_row, picture, text

WIDTH, HEIGHT = 340.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 10.0, 18.0, 36.0
"""Width and height of a line chart, and the margins around its frame, in pixels."""


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: its place in percent, or in pixels, and its text."""

    at: float
    words: str


# ---------------------------------------------------------------- a metric's values


@dataclass(frozen=True)
class ValueMarks:
    """The places of one value's marks, in percent of the axis; `words` is its description."""

    name: str
    value: float
    interval: tuple[float, float] | None
    floor: tuple[float, float] | None
    floor_mean: float | None
    whole: float | None
    words: str


@dataclass(frozen=True)
class MetricChart:
    """One metric of several scorecards on one axis.

    Attributes
    ----------
    title
        The metric's label, with the extractor where it has one.
    ticks
        Of the axis.
    null
        The place of zero where real volumes are expected to score zero; None where they are
        expected to score the floor.
    stretched
        True where the axis is stretched near zero.
    rows
        The marks of each scorecard.
    """

    title: str
    ticks: tuple[Tick, ...]
    null: float | None
    stretched: bool
    rows: tuple[ValueMarks, ...]

    def svg(self, *, named: bool) -> str:
        """Return the chart as an SVG that takes the width of its place in a page.

        Parameters
        ----------
        named
            True where each row's name is written above it.
        """
        step = 46 if named else 30
        bottom = step * len(self.rows) + 4
        parts = []
        if self.null is not None:
            x = f"{self.null}%"
            parts.append(element("line", class_="null", x1=x, x2=x, y1=0.0, y2=bottom))
        for index, row in enumerate(self.rows):
            y = step * index + (30 if named else 16)
            parts += [text(row.name, 0, y - 14)] if named else []
            parts += _value_row(row, y)
        parts.append(element("line", class_="axis", x1="0%", x2="100%", y1=bottom, y2=bottom))
        for tick in self.ticks:
            x = f"{tick.at}%"
            anchor = "start" if tick.at < 8 else "end" if tick.at > 92 else "middle"
            parts += [
                element("line", class_="axis", x1=x, x2=x, y1=bottom, y2=bottom + 4),
                text(tick.words, x, bottom + 16, class_="tick", text_anchor=anchor),
            ]
        label = ". ".join([self.title, *(row.words for row in self.rows)])
        return element(
            "svg", "\n".join(parts), role="img", width="100%", height=bottom + 22, aria_label=label
        )


def _value_row(row: ValueMarks, y: float) -> list[str]:
    parts = []
    if row.floor:
        low, high = row.floor
        width = f"{max(high - low, 0.4):.2f}%"
        parts.append(
            element("rect", class_="band-floor", x=f"{low}%", width=width, y=y - 9, height=18)
        )
    if row.floor_mean is not None:
        x = f"{row.floor_mean}%"
        parts.append(element("line", class_="floor-mean", x1=x, x2=x, y1=y - 9, y2=y + 9))
    return parts + mark_row(lambda percent: f"{percent}%", y, row.value, row.interval, row.whole)


# ---------------------------------------------------------------- lines


@dataclass(frozen=True)
class Line:
    """A polyline or polygon: its name, its style and its points in pixels."""

    name: str
    style: str
    points: str


@dataclass(frozen=True)
class LineChart:
    """Lines over bands in a frame of `WIDTH` x `HEIGHT` pixels."""

    title: str
    across: str
    up: str
    words: str
    lines: tuple[Line, ...]
    bands: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    stretched: bool = False

    def svg(self) -> str:
        """Return the chart as an SVG that takes the width of its place in a page."""
        return element(
            "svg", "\n".join(self.parts()), class_="lines", role="img",
            viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
            aria_label=f"{self.title}: {self.up} by {self.across}. {self.words}",
        )  # fmt: skip

    def parts(self) -> list[str]:
        """Return the chart's elements, in a frame of `WIDTH` x `HEIGHT` pixels."""
        foot, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
        parts = [
            element("polygon", _named(band), class_="area", points=band.points)
            for band in self.bands
        ]
        frame = f"M{LEFT:.0f} {TOP:.0f}V{foot:.0f}H{WIDTH - RIGHT:.0f}"
        parts += [
            element("path", class_="axis", d=frame),
            text(self.up, 6, 10, class_="tick"),
        ]
        for tick in self.x_ticks:
            parts += [
                element("line", class_="axis", x1=tick.at, x2=tick.at, y1=foot, y2=foot + 4),
                text(tick.words, tick.at, foot + 16, class_="tick", text_anchor="middle"),
            ]
        for tick in self.y_ticks:
            parts += [
                element("line", class_="axis", x1=LEFT - 4, x2=LEFT, y1=tick.at, y2=tick.at),
                text(tick.words, LEFT - 7, tick.at + 4, class_="tick", text_anchor="end"),
            ]
        parts += [
            element("polyline", _named(line), class_=f"line {line.style}", points=line.points)
            for line in self.lines
        ]
        across = text(self.across, middle, HEIGHT - 4, class_="tick", text_anchor="middle")
        return [*parts, across]


def _named(line: Line) -> str:
    """Return a line's name as a title, which a browser shows under the pointer."""
    return f"<title>{escaped(line.name)}</title>"


@dataclass(frozen=True)
class Series:
    """A line in data units.

    Attributes
    ----------
    style
        A class of the style sheet.
    """

    name: str
    style: str
    x: Sequence[float] | Float64[np.ndarray, " k"]
    y: Sequence[float] | Float64[np.ndarray, " k"]


@dataclass(frozen=True)
class Band:
    """The area between two lines, in data units."""

    name: str
    x: Sequence[float] | Float64[np.ndarray, " k"]
    low: Sequence[float] | Float64[np.ndarray, " k"]
    high: Sequence[float] | Float64[np.ndarray, " k"]


def line_chart(
    title: str,
    across: str,
    up: str,
    words: str,
    series: Sequence[Series],
    bands: Sequence[Band] = (),
    floor_width: float = 0.0,
) -> LineChart:
    """Return lines and bands placed in a frame.

    Parameters
    ----------
    title, across, up
        The chart's title, and the names of the horizontal and the vertical axis.
    words
        A description for screen readers.
    series, bands
        At least one series of two points.
    floor_width
        Width of the widest floor on the vertical axis; 0 for a linear axis.
    """
    xs = [float(v) for s in series for v in s.x]
    ys = [float(v) for s in series for v in s.y]
    ys += [float(v) for b in bands for side in (b.low, b.high) for v in side]
    x_axis = Axis(min(xs), max(xs)) if min(xs) < max(xs) else axis_over(xs)
    y_axis = axis_over(ys, floor_width)

    def points(x: Iterable[float], y: Iterable[float]) -> str:
        return " ".join(
            f"{_across(x_axis, float(a))},{_up(y_axis, float(b))}"
            for a, b in zip(x, y, strict=True)
        )

    return LineChart(
        title=title,
        across=across,
        up=up,
        words=words,
        lines=tuple(Line(s.name, s.style, points(s.x, s.y)) for s in series),
        bands=tuple(
            Line(
                b.name, "area",
                points([*b.x, *reversed(list(b.x))], [*b.low, *reversed(list(b.high))]),
            )
            for b in bands
        ),
        x_ticks=tuple(Tick(_across(x_axis, t), tick_text(t)) for t in x_axis.ticks()),
        y_ticks=tuple(Tick(_up(y_axis, t), tick_text(t)) for t in y_axis.ticks()),
        stretched=y_axis.stretch is not None,
    )  # fmt: skip


def _across(axis: Axis, x: float) -> float:
    return round(LEFT + axis.share(x) * (WIDTH - LEFT - RIGHT), 1)


def _up(axis: Axis, y: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(y) * (HEIGHT - TOP - BOTTOM), 1)


# ---------------------------------------------------------------- line charts as one picture


def panels(label: str, rows: Mapping[str, Sequence[LineChart]], note: str) -> str:
    """Return line charts as one SVG: one row per title, one panel per chart.

    Parameters
    ----------
    label
        Description for screen readers.
    rows
        Charts by the title above their row; at least one.
    note
        Below all of them.
    """
    head, gap, heading = 28, 44, 18
    panel = HEIGHT + gap
    width = EDGE + (WIDTH + gap) * max(len(charts) for charts in rows.values())
    height = (head + panel) * len(rows) + head + EDGE
    parts = []
    for i, (title, charts) in enumerate(rows.items()):
        top = i * (head + panel)
        parts.append(text(title, EDGE, top + 20, class_="title"))
        for k, chart in enumerate(charts):
            x, y = EDGE + k * (WIDTH + gap), top + head + heading
            body = "\n".join([text(chart.words, 6, -6), *chart.parts()])
            parts.append(element("g", body, transform=f"translate({x:.0f} {y:.0f})"))
    parts.append(text(note, EDGE, height - EDGE, class_="tick"))
    return picture(label, width, height, parts)
