"""Forest plots: each row's value with its interval on one axis, as SVG, the same bytes anywhere.

The SVG is written here rather than by a plotting library, whose next version would move a byte
of every committed picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from synthbench.render.numbers import number

LABEL, AXIS, WORDS = 250, 330, 180
"""Widths in pixels: the rows' names, the axis, the values in words."""
ROW, MARGIN = 22, 12
LINEAR_UP_TO = 30.0
"""Extent of the rows, in widths of the floor, from which the axis is logarithmic."""

_STYLE = (
    "text{font:12px sans-serif;fill:#1f2328}.title{font-weight:bold}"
    ".quiet{fill:#59636e}.rule{stroke:#8c959f}"
    ".mark{fill:#0550ae;stroke:#0550ae}.hollow{fill:none;stroke:#0550ae}"
    ".floor{fill:#8c959f;opacity:.25}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}"
    ".mark{fill:#79c0ff;stroke:#79c0ff}.hollow{stroke:#79c0ff}}"
)


@dataclass(frozen=True)
class Row:
    """A row of a forest plot.

    Attributes
    ----------
    name
        At its left.
    value, low, high
        A filled mark, with a line for its interval; None where there is none.
    matched
        A hollow mark: the value at the floor's n.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    matched: float | None = None


@dataclass(frozen=True)
class Band:
    """What real against real gives: a shaded band over all rows."""

    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Axis:
    """A map of values to [0, 1]: linear, or logarithmic on both sides of a linear middle.

    Attributes
    ----------
    low, high
        Its ends.
    middle
        Half-width of the linear middle; None: linear throughout.
    """

    low: float
    high: float
    middle: float | None = None

    def place(self, x: float) -> float:
        """Where a value lies, from 0 to 1."""
        low, high = self._spread(self.low), self._spread(self.high)
        return (self._spread(x) - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values within the axis: at most seven."""
        if self.middle is None:
            return _round_values(self.low, self.high)
        power = math.ceil(math.log10(self.middle))
        last = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        step = max(1, math.ceil((last - power + 1) / 4))
        sizes = [10.0**k for k in range(power, last + 1, step)]
        found = [-x for x in reversed(sizes)] + [0.0] + sizes
        return [x for x in found if self.low <= x <= self.high]

    def _spread(self, x: float) -> float:
        if self.middle is None:
            return x
        return math.copysign(math.log10(1 + abs(x) / self.middle), x)


def axis_of(rows: Sequence[Row], band: Band | None) -> Axis:
    """Return an axis that holds all marks, with a margin.

    It is logarithmic where the rows reach far beyond the floor: on a linear one the good rows
    would be one dot.
    """
    marks = [
        x for row in rows for x in (row.value, row.low, row.high, row.matched) if x is not None
    ]
    marks += [band.low, band.high] if band else []
    low, high = min(marks, default=0.0), max(marks, default=1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    width = band.high - band.low if band else 0.0
    if width > 0 and max(abs(low), abs(high)) > LINEAR_UP_TO * width:
        ends = Axis(low, high, middle=width)
        grown = 0.04 * (ends._spread(high) - ends._spread(low))
        return Axis(
            _unspread(ends._spread(low) - grown, width),
            _unspread(ends._spread(high) + grown, width),
            middle=width,
        )
    grown = 0.04 * (high - low)
    return Axis(low - grown, high + grown)


def forest_plot(title: str, rows: Sequence[Row], band: Band | None, *, note: str = "") -> str:
    """Return an SVG of rows in the given order.

    Parameters
    ----------
    title
        Above the rows.
    rows
        From the top.
    band
        The real-vs-real floor, where there is one.
    note
        Below the axis.
    """
    axis = axis_of(rows, band)
    top, bottom = 34, 34 + ROW * len(rows)
    width, height = LABEL + AXIS + WORDS, bottom + 46 + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text x="{MARGIN}" y="20" class="title">{escape(title)}</text>',
    ]
    if band:
        left, right = _x(axis, band.low), _x(axis, band.high)
        parts.append(
            f'<rect class="floor" x="{left:.1f}" y="{top}" width="{max(right - left, 1):.1f}" '
            f'height="{bottom - top}"/>'
        )
    for tick in axis.ticks():
        x = _x(axis, tick)
        parts += [
            f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>',
            f'<text class="quiet" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">'
            f"{number(tick)}</text>",
        ]
    parts.append(
        f'<line class="rule" x1="{LABEL}" x2="{LABEL + AXIS}" y1="{bottom}" y2="{bottom}"/>'
    )
    for i, row in enumerate(rows):
        parts += _row(row, axis, top + ROW * i + ROW / 2)
    words = [note] if note else []
    if band:
        words.append(f"shaded: real vs real, hollow: synth, both at n = {band.n} a side")
    if axis.middle is not None:
        words.append(f"axis logarithmic beyond ±{number(axis.middle)}")
    parts.append(
        f'<text class="quiet" x="{MARGIN}" y="{bottom + 38}">{escape("; ".join(words))}</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(row: Row, axis: Axis, y: float) -> list[str]:
    parts = [f'<text x="{MARGIN}" y="{y + 4:.1f}">{escape(_shortened(row.name))}</text>']
    words = "-" if row.value is None else number(row.value)
    if row.low is not None and row.high is not None:
        parts.append(
            f'<line class="mark" stroke-width="2" x1="{_x(axis, row.low):.1f}" '
            f'x2="{_x(axis, row.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        words += f" [{number(row.low)}, {number(row.high)}]"
    if row.matched is not None:
        parts.append(
            f'<circle class="hollow" cx="{_x(axis, row.matched):.1f}" cy="{y:.1f}" r="5"/>'
        )
    if row.value is not None:
        parts.append(f'<circle class="mark" cx="{_x(axis, row.value):.1f}" cy="{y:.1f}" r="3"/>')
    parts.append(f'<text class="quiet" x="{LABEL + AXIS + 12}" y="{y + 4:.1f}">{words}</text>')
    return parts


def _x(axis: Axis, value: float) -> float:
    return LABEL + AXIS * axis.place(value)


def _shortened(name: str) -> str:
    return name if len(name) <= 38 else f"{name[:36]}…"


def _unspread(y: float, middle: float) -> float:
    return math.copysign(middle * (10 ** abs(y) - 1), y)


def _round_values(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten: at most seven of them."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / 6))
    step = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= 6)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(k * step, 12) for k in range(first, last + 1)]
