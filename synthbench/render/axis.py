"""The axis of every chart: where numbers lie, and its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from synthbench.render.numbers import number

STRETCHED_FROM = 25.0
"""An axis that spans more than this many floor widths is stretched near zero (asinh), because the
floor would be a line on a linear one."""
MARGIN = 0.05
"""Room at each end of an axis, as a share of its span."""


TINY = 1e-100
"""What is smaller is drawn as zero: below, the steps of an axis would vanish."""


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
    values = [0.0 if abs(x) < TINY else x for x in numbers]
    floor_width = 0.0 if floor_width < TINY else floor_width
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) / 2 or 1.0
        return Axis(low - room, high + room)
    if floor_width > 0 and high - low > STRETCHED_FROM * floor_width:
        stretch = floor_width
        ends = [math.asinh(x / stretch) for x in (low, high)]
        room = MARGIN * (ends[1] - ends[0])
        return Axis(
            stretch * math.sinh(ends[0] - room), stretch * math.sinh(ends[1] + room), stretch
        )
    room = MARGIN * (high - low)
    return Axis(low - room, high + room)


def tick_text(x: float) -> str:
    """Return a round number as text; from 1000 to a million in full, without powers of ten.

    >>> tick_text(20000.0), tick_text(0.5)
    ('20,000', '0.5')
    """
    return f"{x:,.0f}" if 1000 <= abs(x) < 1e6 else number(x)
