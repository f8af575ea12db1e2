"""Forest plots: each row's value with its interval on one axis, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthbench.render.axis import Axis, axis_over
from synthbench.render.numbers import number
from synthbench.render.svg import EDGE, ROW, element, mark_row, picture, text

LABEL, AXIS, WORDS = 250, 330, 180
"""Widths in pixels: the rows' names, the axis, the values as text."""
WIDE, NARROW = 8.0, 4.5
"""Width in pixels of a character of the values as text, and of punctuation and spaces: more than
their mean in the widest of the usual fonts (DejaVu Sans: 7.0 of a digit, 9.2 of "+")."""
LONGEST = 38
"""Characters of a name that fit beside the axis."""


@dataclass(frozen=True)
class Row:
    """A row of a forest plot.

    Attributes
    ----------
    name
        Shown at its left.
    value, low, high
        The value at the floor's n, shown as a filled mark, and its interval, a line; None where
        there is none.
    whole
        The value of all volumes, shown as a hollow mark where the metric depends on their number.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    whole: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval; None where there is none."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Floor:
    """The real-vs-real floor at n volumes per side, shown as a shaded band over all rows."""

    low: float
    high: float
    n: int


def axis_of(rows: Sequence[Row], floor: Floor | None) -> Axis:
    """Return an axis that holds all marks of the rows and the floor."""
    marks = [x for row in rows for x in (row.value, row.low, row.high, row.whole) if x is not None]
    marks += [floor.low, floor.high] if floor else []
    return axis_over(marks or [0.0, 1.0], floor.high - floor.low if floor else 0.0)


def forest_plot(title: str, rows: Sequence[Row], floor: Floor | None, *, note: str = "") -> str:
    """Return an SVG of rows in the given order.

    Parameters
    ----------
    title
        Above the rows.
    rows
        From the top.
    floor
        The real-vs-real floor, where there is one.
    note
        Below the axis.
    """
    axis = axis_of(rows, floor)
    top, bottom = 34, 34 + ROW * len(rows)
    parts = [text(title, EDGE, 20, class_="title")]
    if floor:
        left, right = _x(axis, floor.low), _x(axis, floor.high)
        parts.append(
            element("rect", class_="band-floor", x=left, y=top, width=max(right - left, 1),
                    height=bottom - top)
        )  # fmt: skip
    for tick in axis.ticks():
        x = _x(axis, tick)
        parts += [
            element("line", class_="axis", x1=x, x2=x, y1=bottom, y2=bottom + 4),
            text(number(tick), x, bottom + 17, class_="tick", text_anchor="middle"),
        ]
    parts.append(element("line", class_="axis", x1=LABEL, x2=LABEL + AXIS, y1=bottom, y2=bottom))
    for i, row in enumerate(rows):
        parts += _row(row, axis, top + ROW * i + ROW / 2)
    words = [note] if note else []
    if floor:
        words.append(f"shaded: real vs real, filled: synth, both at n = {floor.n} per side")
        if any(row.whole is not None for row in rows):
            words.append("hollow: all volumes")
    if axis.stretch is not None:
        words.append("axis stretched near zero (asinh)")
    parts.append(text("; ".join(words), EDGE, bottom + 38, class_="tick"))
    room = max([WORDS, *(12 + _width(_words(row)) + EDGE for row in rows)])
    return picture(title, LABEL + AXIS + room, bottom + 46 + EDGE, parts)


def _words(row: Row) -> str:
    """Return the value and its interval as text."""
    if row.value is None:
        return "-"
    ends = "" if row.interval is None else " [{}, {}]".format(*map(number, row.interval))
    return number(row.value) + ends


def _width(words: str) -> float:
    """Return the room for the values' text in pixels: the reader's font is not known."""
    return sum(NARROW if char in " .,[]" else WIDE for char in words)


def _row(row: Row, axis: Axis, y: float) -> list[str]:
    name = row.name if len(row.name) <= LONGEST else f"{row.name[: LONGEST - 2]}…"
    return [
        text(name, EDGE, y + 4),
        *mark_row(lambda value: _x(axis, value), y, row.value, row.interval, row.whole),
        text(_words(row), LABEL + AXIS + 12, y + 4, class_="tick"),
    ]


def _x(axis: Axis, value: float) -> float:
    return LABEL + AXIS * axis.share(value)
