"""Dose-response curves: a metric under known damage, and the curve read backwards.

A curve holds the values of one metric under growing doses of one corruption, and the floor, which
is what undamaged real volumes score against each other. It shows from which dose on the metric
sees the damage, and whether more damage always scores further away. Where it does, the curve can
be read backwards: a generator's value becomes the blur, the noise or the shift that would score
the same.

The record of a whole study holds aggregates only: values, floors, and the hash of the cohort.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from pydantic import Field, model_validator
from scipy.optimize import isotonic_regression

from synthbench.errors import MetricError
from synthbench.metrics.inference.contracts import Spread
from synthbench.metrics.metric import Direction, Target
from synthbench.records.base import Record
from synthbench.sensitivity.corruptions.base import Corruption, in_words

Relation = Literal["at", "at least", "beyond", "within the floor", "other side"]
Response = Literal["worse", "better", "none"]


class Floor(Record):
    """The values of real against real, over random disjoint halves of `n` subjects per side."""

    n: int
    mean: float
    low: float = Field(description="2.5th percentile")
    high: float = Field(description="97.5th percentile")

    @classmethod
    def of(cls, spread: Spread) -> Floor:
        """Return the record of what `synthbench.metrics.inference.floors.floor` gives."""
        return cls(n=spread.n, mean=spread.mean, low=spread.low, high=spread.high)

    @property
    def half_width(self) -> float:
        """Half the distance from low to high."""
        return (self.high - self.low) / 2


class Equivalent(Record):
    """The dose of a corruption that would score like a value.

    Attributes
    ----------
    relation
        "at": the curve has this value at `dose`. "at least": the curve is flat there, and has
        this value from `dose` on. "beyond": the value is beyond that of the largest dose, which
        is `dose`. "within the floor": real volumes have such values against each other; `dose`
        is 0. "other side": the value is outside the floor, on the side that no dose of this
        corruption reaches; `dose` is 0.
    dose, unit
        In the corruption's unit.
    low, high
        The doses at the ends of the value's own interval; `low` is None without one. `high` is
        None where the doses that were tried set no upper bound. Within the floor, `high` is the
        dose that would have been seen, or more where the value's interval reaches further.
    largest
        The largest dose that was tried.
    """

    relation: Relation
    dose: float
    low: float | None = None
    high: float | None = None
    largest: float
    unit: str = ""

    @property
    def amount(self) -> str:
        """The dose without its unit: "1.4", "at least 3", "more than 8", "less than 0.6"."""
        if self.relation == "within the floor":
            return (
                f"0 to more than {short(self.largest)}"
                if self.high is None
                else f"less than {short(self.high)}"
            )
        before = {"at least": "at least ", "beyond": "more than "}.get(self.relation, "")
        return f"{before}{short(self.dose)}"

    def __str__(self) -> str:
        """The text of a cell: "1.4 mm [0.9, 2.2]", "> 8 mm", "within the floor (< 0.6 mm)"."""
        unit = self.unit if self.unit.startswith("%") or not self.unit else f" {self.unit}"
        if self.relation == "other side":
            return "on the other side of the floor"
        if self.relation == "within the floor":
            seen = "" if self.high is None else f" (< {short(self.high)}{unit})"
            return f"within the floor{seen}"
        sign = {"at": "", "at least": "≥ ", "beyond": "> "}[self.relation]
        words = f"{sign}{short(self.dose)}{unit}"
        if self.low is None:
            return words
        high = f"> {short(self.largest)}" if self.high is None else short(self.high)
        return f"{words} [{short(self.low)}, {high}]"


class Curve(Record):
    """One metric under the doses of one corruption.

    Attributes
    ----------
    doses, values
        The doses, from 0 (the undamaged volumes) upwards, and the metric's value at each.
    intervals
        The confidence interval of each value; None where none were computed.
    floor
        Real against real at the same number of volumes.
    direction, target
        As the metric declares them (`synthbench.metrics.metric.Metric`).
    unit
        The unit of the doses.

    Raises
    ------
    MetricError
        There are fewer than two doses, they do not ascend from 0, the lengths differ, or a number
        is not finite.
    """

    doses: tuple[float, ...]
    values: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...] | None = None
    floor: Floor
    direction: Direction
    target: Target
    unit: str = ""

    @model_validator(mode="after")
    def _check(self) -> Curve:
        lengths = {len(self.doses), len(self.values), len(self.intervals or self.values)}
        if len(lengths) > 1 or len(self.doses) < 2:
            raise MetricError(
                "dose-response curve: two doses at least, and as many values and intervals, are "
                f"needed; found {len(self.doses)} doses, {len(self.values)} values and "
                f"{'no' if self.intervals is None else len(self.intervals)} intervals."
            )
        if self.doses[0] != 0 or any(np.diff(self.doses) <= 0):
            raise MetricError(
                f"dose-response curve: doses must ascend from 0; found {self.doses}. "
                "Score the undamaged volumes too."
            )
        numbers = [*self.doses, *self.values, self.floor.low, self.floor.high]
        if not np.isfinite(numbers).all() or not np.isfinite(self.intervals or ((0, 0),)).all():
            raise MetricError(
                f"dose-response curve: every number must be finite; found {self.values} with a "
                f"floor of {self.floor.low} to {self.floor.high}. Score more volumes."
            )
        return self

    @property
    def tolerances(self) -> Float64[np.ndarray, " k"]:
        """The amount by which a value at each dose may differ by chance.

        It is the floor's half-width, or that of the value's own interval where this is larger:
        the noise of some metrics grows with their value.
        """
        own = np.zeros(len(self.values))
        if self.intervals is not None:
            ends = np.array(self.intervals, dtype=np.float64)
            own = (ends[:, 1] - ends[:, 0]) / 2
        return np.maximum(own, self.floor.half_width)

    @property
    def sign(self) -> int:
        """1 where damage raises the value, -1 where it lowers it, by the largest change."""
        change = np.array(self.values) - self.values[0]
        return 1 if change[np.abs(change).argmax()] >= 0 else -1

    @property
    def monotone(self) -> bool:
        """True where more damage never scores nearer to the undamaged volumes, except by chance.

        No value may fall behind an earlier one by more than its tolerance (`tolerances`); values
        within the floor count as equal. All doses damage the same volumes with the same random
        draws, so chance between doses is smaller than the tolerance: a curve that fails here does
        turn back.
        """
        oriented = self.sign * np.array(self.values)
        near, far = self._turned_floor
        oriented[(oriented >= near) & (oriented <= far)] = far
        fallen = np.maximum.accumulate(oriented) - oriented
        return bool((fallen <= self.tolerances).all())

    @property
    def leaves_floor(self) -> float | None:
        """The smallest dose at which the value leaves [low, high] of the floor.

        Values are linear between doses; where the value before lies on the edge itself, it is the
        first dose outside. On a monotone curve it is the dose after which no value is inside
        again: an earlier value outside is chance. None: no dose that was tried is seen. 0: the
        undamaged volumes are outside already.
        """
        first = self._first_outside
        if not first:
            return None if first is None else 0.0
        edge = self.floor.high if self.values[first] > self.floor.high else self.floor.low
        before, after = self.values[first - 1], self.values[first]
        step = self.doses[first] - self.doses[first - 1]
        share = (edge - before) / (after - before)
        return self.doses[first - 1] + share * step if share > 0 else self.doses[first]

    @property
    def response(self) -> Response:
        """The metric calls the damage "worse" or "better"; "none" where it does not see it."""
        first = self._first_outside
        if first is None:
            return "none"
        value, mean = self.values[first], self.floor.mean
        if self.direction == "zero":
            aim = 0.0 if self.target == "zero" else mean
            return "worse" if abs(value - aim) > abs(mean - aim) else "better"
        return "worse" if (value > mean) == (self.direction == "lower") else "better"

    @property
    def dynamic_range(self) -> float:
        """The largest distance from the floor's mean, in the floor's half-widths."""
        furthest = float(np.abs(np.array(self.values) - self.floor.mean).max())
        if self.floor.half_width == 0:
            return math.inf if furthest else 0.0
        return furthest / self.floor.half_width

    @property
    def saturates_at(self) -> float | None:
        """The dose after which the value changes by no more than its tolerance.

        None where the last step is larger than that.
        """
        left = self._isotonic[-1] - self._isotonic
        first = int(np.argmax(left <= self.tolerances[-1]))
        return self.doses[first] if first < len(self.doses) - 1 else None

    def equivalent(
        self, value: float, interval: tuple[float, float] | None = None
    ) -> Equivalent | None:
        """Return the dose at which the curve has a value: the curve read backwards.

        It is linear between doses, on the curve's isotonic regression, which averages out falls
        within the tolerance. The ends of the interval are read in the same way; the sampling
        noise of the curve itself is not in them.

        Parameters
        ----------
        value, interval
            A value of the same metric at the same number of volumes, and its interval.

        Returns
        -------
        Equivalent
            None where the curve turns back or never leaves the floor.
        """
        leaves = self.leaves_floor
        if not self.monotone or leaves is None:
            return None
        ends = interval or (value, value)
        near, far = sorted(self.sign * end for end in ends)
        low = None if interval is None else self._first_dose(near)
        high = None if interval is None else self._last_dose(far)

        def found(relation: Relation, dose: float, up_to: float | None = high) -> Equivalent:
            return Equivalent(
                relation=relation, dose=dose, low=low, high=up_to,
                largest=self.doses[-1], unit=self.unit,
            )  # fmt: skip

        level = self.sign * value
        floor_near, floor_far = self._turned_floor
        if level < floor_near:
            return found("other side", 0.0)
        if level <= floor_far:
            unbounded = interval is not None and high is None
            return found("within the floor", 0.0, None if unbounded else max(leaves, high or 0.0))
        if level > self._isotonic[-1] + (0 if self.saturates_at is None else self.tolerances[-1]):
            return found("beyond", self.doses[-1])
        dose, last = self._first_dose(level), self._last_dose(level)
        return found("at" if last == dose else "at least", dose)

    @property
    def _turned_floor(self) -> tuple[float, float]:
        """The floor's edges, with the sign for which damage moves a value towards the second."""
        low, high = self.floor.low, self.floor.high
        return (low, high) if self.sign > 0 else (-high, -low)

    @property
    def _first_outside(self) -> int | None:
        inside = [self.floor.low <= value <= self.floor.high for value in self.values]
        if not self.monotone:
            return inside.index(False)
        first = 1 + max((i for i, within in enumerate(inside) if within), default=-1)
        return first if first < len(inside) else None

    @property
    def _isotonic(self) -> Float64[np.ndarray, " k"]:
        """The isotonic regression of the values, with the sign for which damage raises them."""
        rising: Float64[np.ndarray, " k"] = isotonic_regression(
            self.sign * np.array(self.values, dtype=np.float64)
        ).x
        return rising

    def _first_dose(self, level: float) -> float:
        """Return the smallest dose at which the rising curve reaches a level; 0 in the floor."""
        if level <= self._turned_floor[1]:
            return 0.0
        rising, end = self._isotonic, self.saturates_at
        index = int(np.searchsorted(rising, level, side="left"))
        dose = self.doses[-1] if index == len(rising) else self._between(rising, index, level)
        return dose if end is None else min(dose, end)

    def _last_dose(self, level: float) -> float | None:
        """Return the largest dose at which the rising curve is not above a level, or None."""
        rising, end = self._isotonic, self.saturates_at
        index = int(np.searchsorted(rising, level, side="right"))
        if index == len(rising) and level > rising[-1]:
            return None
        if index == len(rising):
            return self.doses[-1] if end is None else None
        dose = self._between(rising, index, level)
        return None if end is not None and dose >= end else dose

    def in_half_widths(self, values: ArrayLike) -> Float64[np.ndarray, ...]:
        """Return distances from the floor's mean, in the floor's half-widths."""
        scale = self.floor.half_width or float(np.ptp(self.values)) or 1.0
        return (np.asarray(values, dtype=np.float64) - self.floor.mean) / scale

    def _between(self, rising: Float64[np.ndarray, " k"], index: int, level: float) -> float:
        """Return the dose of a level that lies between the points `index` - 1 and `index`."""
        if index == 0:
            return self.doses[0]
        share = (level - rising[index - 1]) / (rising[index] - rising[index - 1])
        return float(self.doses[index - 1] + share * (self.doses[index] - self.doses[index - 1]))


class Row(Record):
    """One curve of a study: a corruption, a metric, its extractor, and the verdicts.

    Raises
    ------
    MetricError
        The verdicts do not follow from the curve.
    """

    corruption: str
    corruption_label: str
    words: str = Field(description="a clause with a place for the dose")
    metric: str
    label: str
    extractor: str | None = None
    drawn: bool = Field(default=False, description="a figure shows it: one metric of a family")
    curve: Curve
    monotone: bool
    leaves_floor: float | None
    response: Response

    @classmethod
    def of(
        cls,
        corruption: Corruption,
        metric: str,
        label: str,
        curve: Curve,
        extractor: str | None = None,
        drawn: bool = False,
    ) -> Row:
        """Return the record of a curve, with the unit of the corruption."""
        curve = curve.model_copy(update={"unit": corruption.unit})
        return cls(
            corruption=corruption.name,
            corruption_label=corruption.label,
            words=corruption.words,
            metric=metric,
            label=label,
            extractor=extractor,
            drawn=drawn,
            curve=curve,
            monotone=curve.monotone,
            leaves_floor=curve.leaves_floor,
            response=curve.response,
        )

    @model_validator(mode="after")
    def _check(self) -> Row:
        curve = self.curve
        stated = (self.monotone, self.leaves_floor, self.response)
        if stated != (found := (curve.monotone, curve.leaves_floor, curve.response)):
            raise MetricError(
                f"{self.corruption}, {self.metric}: the verdicts (monotone, leaves the floor, "
                f"response) are {stated}, but the curve gives {found}."
            )
        return self

    def sentence(self, equivalent: Equivalent) -> str:
        """Return an equivalent as a clause: "blurred by more than 8 mm (FWHM)"."""
        if equivalent.relation == "other side":
            return f"unlike any dose of {self.corruption_label}"
        return in_words(self.words, equivalent.amount)


def short(number: float) -> str:
    """Return a number with two significant digits; from 100 on, the whole number.

    >>> short(1.4382), short(160.0), short(0.0)
    ('1.4', '160', '0')
    """
    return f"{number:.2g}" if abs(number) < 100 else f"{number:.0f}"
