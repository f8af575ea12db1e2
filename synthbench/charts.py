"""Charts as coordinates: axes, marks and polylines that a template writes as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from synthbench.render.numbers import number
from synthbench.scorecard import Value

STRETCHED_FROM = 25.0
"""From a span of this many floor widths on an axis is stretched near zero (asinh), or the floor
would be a line."""

WIDTH, HEIGHT = 340.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 10.0, 18.0, 36.0
"""Of a line chart in pixels, and the margins around its frame."""


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: its place in percent, or in pixels, and its words."""

    at: float
    words: str


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`.

    Attributes
    ----------
    low, high
        The ends, in data units; `low` < `high`.
    stretch
        None for a linear axis; c for one that is linear in asinh(x / c): about linear within
        +-c, logarithmic beyond.
    """

    low: float
    high: float
    stretch: float | None = None

    def share(self, x: float) -> float:
        """Return where x lies, from 0 at `low` to 1 at `high`.

        >>> Axis(0.0, 4.0).share(1.0)
        0.25
        """
        low, high = self._moved(self.low), self._moved(self.high)
        return (self._moved(x) - low) / (high - low)

    def percent(self, x: float) -> float:
        """Return where x lies in percent, to a hundredth."""
        return round(100 * self.share(x), 2)

    def ticks(self) -> list[float]:
        """Return three to seven round numbers within the axis, ascending.

        >>> Axis(-0.1, 1.05).ticks()
        [0.0, 0.5, 1.0]
        """
        return _round_steps(self.low, self.high) if self.stretch is None else self._decades()

    def _decades(self) -> list[float]:
        assert self.stretch is not None
        largest = max(abs(self.low), abs(self.high))
        first, last = math.ceil(math.log10(self.stretch)), math.floor(math.log10(largest))
        step = max(1, math.ceil((last - first + 1) / 4))
        powers = [10.0**k for k in range(last, first - 1, -step)]
        signed = [0.0, *powers, *(-p for p in powers)]
        return sorted(t for t in signed if self.low <= t <= self.high)

    def _moved(self, x: float) -> float:
        return x if self.stretch is None else math.asinh(x / self.stretch)


def _round_steps(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def axis_over(numbers: Iterable[float], floor_width: float = 0.0) -> Axis:
    """Return an axis that holds all numbers with a margin, stretched where the floor needs it.

    Parameters
    ----------
    numbers
        At least one; where all agree the axis is given a width.
    floor_width
        Width of the widest floor; 0 for a linear axis.
    """
    held = list(numbers)
    low, high = min(held), max(held)
    if low == high:
        room = abs(low) / 2 or 1.0
        return Axis(low - room, high + room)
    if floor_width > 0 and high - low > STRETCHED_FROM * floor_width:
        stretch = floor_width
        ends = [math.asinh(x / stretch) for x in (low, high)]
        room = 0.05 * (ends[1] - ends[0])
        return Axis(
            stretch * math.sinh(ends[0] - room), stretch * math.sinh(ends[1] + room), stretch
        )
    room = 0.05 * (high - low)
    return Axis(low - room, high + room)


# ---------------------------------------------------------------- a metric's values


@dataclass(frozen=True)
class ValueMarks:
    """The places, in percent of the axis, of what is known of one value."""

    name: str
    value: float
    interval: tuple[float, float] | None
    floor: tuple[float, float] | None
    floor_mean: float | None
    matched: float | None
    words: str


@dataclass(frozen=True)
class MetricChart:
    """One metric of several scorecards on one axis.

    Attributes
    ----------
    title
        The metric's words, with the extractor where it has one.
    null
        Where samples of the real distribution would lie: zero, or None where that is the floor.
    stretched
        Whether the axis is stretched near zero.
    """

    title: str
    ticks: tuple[Tick, ...]
    null: float | None
    stretched: bool
    rows: tuple[ValueMarks, ...]


def metric_chart(title: str, values: Sequence[tuple[str, Value]]) -> MetricChart:
    """Place a metric's values, intervals, floors and null on one axis.

    Parameters
    ----------
    title
        Of the chart.
    values
        The name of the volumes and their row; rows without a value are left out, one has one.
    """
    known = [(name, v) for name, v in values if v.value is not None]
    to_zero = any(_null_is_zero(v) for _, v in known)
    widths = [v.floor.high - v.floor.low for _, v in known if v.floor]
    held = [x for _, v in known for x in _numbers(v)] + ([0.0] if to_zero else [])
    axis = axis_over(held, max(widths, default=0.0))
    return MetricChart(
        title=title,
        ticks=tuple(Tick(axis.percent(t), _tick_words(t)) for t in axis.ticks()),
        null=axis.percent(0.0) if to_zero else None,
        stretched=axis.stretch is not None,
        rows=tuple(_marks(name, v, axis) for name, v in known),
    )


def _null_is_zero(value: Value) -> bool:
    """A part has the target of its whole: zero is its null only where its floor holds zero."""
    if "." in value.metric and (
        value.floor is None or not value.floor.low <= 0 <= value.floor.high
    ):
        return False
    return value.target == "zero"


def _tick_words(x: float) -> str:
    """Format a round number: whole below a million, where powers of ten are hard to read."""
    return f"{x:,.0f}" if 1000 <= abs(x) < 1e6 else number(x)


def _numbers(value: Value) -> list[float]:
    assert value.value is not None
    found = [value.value]
    if value.interval is not None:
        found += [value.interval.low, value.interval.high]
    if value.floor is not None:
        found += [value.floor.low, value.floor.high, value.floor.synth_mean]
    return found


def _marks(name: str, value: Value, axis: Axis) -> ValueMarks:
    assert value.value is not None
    words = [f"{name}: {number(value.value)}"]
    interval = floor = floor_mean = matched = None
    if value.interval is not None and value.interval.low < value.interval.high:
        ends = value.interval.low, value.interval.high
        interval = axis.percent(ends[0]), axis.percent(ends[1])
        words.append(f"{value.interval.level:.0%} interval {number(ends[0])} to {number(ends[1])}")
    if value.floor is not None:
        f = value.floor
        floor = axis.percent(f.low), axis.percent(f.high)
        floor_mean, matched = axis.percent(f.mean), axis.percent(f.synth_mean)
        words.append(
            f"at n = {f.n} a side {number(f.synth_mean)}; floor {number(f.mean)} "
            f"({number(f.low)} to {number(f.high)})"
        )
    return ValueMarks(
        name, axis.percent(value.value), interval, floor, floor_mean, matched, "; ".join(words)
    )


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
    style: str
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
    """Place lines and bands in a frame.

    Parameters
    ----------
    title, across, up
        Words above, below and beside the frame.
    words
        What the chart shows, for readers who do not see it.
    series, bands
        At least one series of two points.
    floor_width
        See `axis_over`, for the vertical axis.
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
                b.name, b.style,
                points([*b.x, *reversed(list(b.x))], [*b.low, *reversed(list(b.high))]),
            )
            for b in bands
        ),
        x_ticks=tuple(Tick(_across(x_axis, t), _tick_words(t)) for t in x_axis.ticks()),
        y_ticks=tuple(Tick(_up(y_axis, t), _tick_words(t)) for t in y_axis.ticks()),
        stretched=y_axis.stretch is not None,
    )  # fmt: skip


def _across(axis: Axis, x: float) -> float:
    return round(LEFT + axis.share(x) * (WIDTH - LEFT - RIGHT), 1)


def _up(axis: Axis, y: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(y) * (HEIGHT - TOP - BOTTOM), 1)
