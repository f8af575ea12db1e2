"""Dose-response curves: what a metric sees of known damage, and the curve read backwards.

A curve is one metric under the growing doses of one corruption, beside what undamaged real
volumes score among themselves (the floor). It says from which dose on the metric notices, and
whether more damage always scores further away. Where it does, the curve can be read backwards:
a generator's value becomes the blur, the noise or the shift that would score the same.

The record of a whole study holds aggregates only: values, floors, and the hash of the cohort.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field, model_validator
from scipy.optimize import isotonic_regression

from synthbench.corruptions import Corruption, in_words
from synthbench.errors import MetricError
from synthbench.files import write_atomic
from synthbench.metrics.inference import Spread
from synthbench.metrics.metric import Direction, Target
from synthbench.records.base import Record, RecordFile, Upgrade
from synthbench.scorecard import (
    CohortRecord,
    EquivalentRecord,
    Protocol,
    Scorecard,
    Value,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Group
    from rich.table import Table

Relation = Literal["at", "at least", "beyond", "within the floor", "other side"]
Response = Literal["worse", "better", "none"]


class Floor(Record):
    """What real against real gives, over random disjoint halves of `n` subjects a side."""

    n: int
    mean: float
    low: float = Field(description="2.5th percentile")
    high: float = Field(description="97.5th percentile")

    @classmethod
    def of(cls, spread: Spread) -> Floor:
        """Take over what `synthbench.metrics.inference.floor` gives."""
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
        this value from `dose` on. "beyond": no dose that was tried goes as far; `dose` is the
        largest. "within the floor": real volumes score so among themselves; `dose` is 0.
        "other side": the value is outside the floor, on the side that this corruption does not
        lead to, so no dose of it scores so; `dose` is 0.
    dose, unit
        In the corruption's unit.
    low, high
        The doses at the ends of the value's own interval; `low` is None without one. `high` is
        None where the doses that were tried set no upper bound. Within the floor, `high` is the
        dose that would have been noticed, or more where the value's interval reaches further.
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
                f"0 to more than {_short(self.largest)}"
                if self.high is None
                else f"less than {_short(self.high)}"
            )
        before = {"at least": "at least ", "beyond": "more than "}.get(self.relation, "")
        return f"{before}{_short(self.dose)}"

    def __str__(self) -> str:
        """In a cell: "1.4 mm [0.9, 2.2]", "> 8 mm", "within the floor (< 0.6 mm)"."""
        unit = self.unit if self.unit.startswith("%") or not self.unit else f" {self.unit}"
        if self.relation == "other side":
            return "on the other side of the floor"
        if self.relation == "within the floor":
            seen = "" if self.high is None else f" (< {_short(self.high)}{unit})"
            return f"within the floor{seen}"
        sign = {"at": "", "at least": "≥ ", "beyond": "> "}[self.relation]
        words = f"{sign}{_short(self.dose)}{unit}"
        if self.low is None:
            return words
        high = f"> {_short(self.largest)}" if self.high is None else _short(self.high)
        return f"{words} [{_short(self.low)}, {high}]"


class Curve(Record):
    """One metric under the doses of one corruption.

    Attributes
    ----------
    doses, values
        From dose 0 (the undamaged volumes) upwards, and the metric at each.
    intervals
        The confidence interval of each value; None where none were computed.
    floor
        What real against real gives at the same number of volumes.
    direction, target
        The metric's, see `synthbench.metrics.metric.Metric`.
    unit
        What the doses are measured in.

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
        """What a value at each dose may be off by chance.

        The floor's half-width, or that of the value's own interval where it is larger: the noise
        of some metrics grows with their value.
        """
        own = np.zeros(len(self.values))
        if self.intervals is not None:
            ends = np.array(self.intervals, dtype=np.float64)
            own = (ends[:, 1] - ends[:, 0]) / 2
        return np.maximum(own, self.floor.half_width)

    @property
    def sign(self) -> int:
        """1 where damage raises the value, -1 where it lowers it: the largest change decides."""
        change = np.array(self.values) - self.values[0]
        return 1 if change[np.abs(change).argmax()] >= 0 else -1

    @property
    def monotone(self) -> bool:
        """Whether more damage never scores nearer to the undamaged volumes, but by chance.

        No value may fall back behind an earlier one by more than its tolerance (`tolerances`);
        values within the floor count as equal. All doses damage the same volumes with the same
        draws, so their values differ by less chance than that: a curve that fails does turn round.
        """
        oriented = self.sign * np.array(self.values)
        near, far = self._turned_floor
        oriented[(oriented >= near) & (oriented <= far)] = far
        fallen = np.maximum.accumulate(oriented) - oriented
        return bool((fallen <= self.tolerances).all())

    @property
    def leaves_floor(self) -> float | None:
        """The smallest dose at which the value leaves [low, high] of the floor.

        Linear between doses; where the value leaves from the very edge, the first dose outside.
        A monotone curve leaves where it does not come back: it can only be there by chance. None:
        no dose that was tried is noticed. 0: the undamaged volumes are outside already, so that
        their halves differ by more than chance.
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
        """Whether the metric, where it leaves the floor, calls the damage worse or better."""
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
        """The dose from which on the value rises (or falls) by no more than its tolerance.

        None where the last step is larger than that.
        """
        left = self._isotonic[-1] - self._isotonic
        first = int(np.argmax(left <= self.tolerances[-1]))
        return self.doses[first] if first < len(self.doses) - 1 else None

    def equivalent(
        self, value: float, interval: tuple[float, float] | None = None
    ) -> Equivalent | None:
        """Read the curve backwards: the dose at which it has this value.

        Linear between doses, on the curve's isotonic regression (falls within the tolerance are
        averaged out). The interval's ends are read in the same way; the curve's own sampling
        noise is not in them.

        Parameters
        ----------
        value, interval
            A value of the same metric at the same number of volumes, and its interval.

        Returns
        -------
        Equivalent
            None where the curve cannot be read so: it turns round, or never leaves the floor.
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
        """The floor's edges, turned so that damage moves a value towards the second."""
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
        """The values, turned so that damage raises them, and made to rise."""
        rising: Float64[np.ndarray, " k"] = isotonic_regression(
            self.sign * np.array(self.values, dtype=np.float64)
        ).x
        return rising

    def _first_dose(self, level: float) -> float:
        """The smallest dose at which the turned curve reaches a level; 0 within the floor."""
        if level <= self._turned_floor[1]:
            return 0.0
        rising, end = self._isotonic, self.saturates_at
        index = int(np.searchsorted(rising, level, side="left"))
        dose = self.doses[-1] if index == len(rising) else self._between(rising, index, level)
        return dose if end is None else min(dose, end)

    def _last_dose(self, level: float) -> float | None:
        """The largest dose at which the turned curve is not above a level; None: no bound."""
        rising, end = self._isotonic, self.saturates_at
        index = int(np.searchsorted(rising, level, side="right"))
        if index == len(rising) and level > rising[-1]:
            return None
        if index == len(rising):
            return self.doses[-1] if end is None else None
        dose = self._between(rising, index, level)
        return None if end is not None and dose >= end else dose

    def _between(self, rising: Float64[np.ndarray, " k"], index: int, level: float) -> float:
        """The dose of a level that lies between the points `index` - 1 and `index`."""
        if index == 0:
            return self.doses[0]
        share = (level - rising[index - 1]) / (rising[index] - rising[index - 1])
        return float(self.doses[index - 1] + share * (self.doses[index] - self.doses[index - 1]))


class Row(Record):
    """One curve of a study: a corruption, a metric, its extractor, and the verdicts.

    Raises
    ------
    MetricError
        The verdicts are not those of the curve.
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
        """Make the record of a curve, whose unit becomes the corruption's."""
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
                f"response) {stated} are not those of the curve, {found}."
            )
        return self

    def sentence(self, equivalent: Equivalent) -> str:
        """Say an equivalent: "blurred by more than 8 mm (FWHM)"."""
        if equivalent.relation == "other side":
            return f"unlike any dose of {self.corruption_label}"
        return in_words(self.words, equivalent.amount)


_DRAWN_OF_1 = (
    "mmd2", "fid", "coverage", "ms_ssim", "spectrum", "spectrum.seam_z", "intensity",
    "memorization",
)  # fmt: skip


def _upgrade_1_to_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a study's fields of schema 1, which left to the code what is drawn, as schema 2's."""
    for row in fields["rows"]:
        row["drawn"] = row["metric"] in _DRAWN_OF_1
    return fields


class Sensitivity(RecordFile):
    """The record of a study: what these metrics see on this cohort by these extractors."""

    what: ClassVar[str] = "a sensitivity record"
    upgrades: ClassVar[Mapping[int, Upgrade]] = {1: _upgrade_1_to_2}

    schema_version: Literal[2] = 2
    created: str = Field(description="UTC, ISO 8601")
    real: CohortRecord
    n: int = Field(description="volumes a side: undamaged ones against damaged ones")
    protocol: Protocol
    seed: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    software: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Sensitivity:
        keys = [(row.corruption, row.metric, row.extractor) for row in self.rows]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise MetricError(
                f"sensitivity: one row a corruption, metric and extractor; found more of {twice}."
            )
        return self

    def row(self, corruption: str, metric: str, extractor: str | None = None) -> Row | None:
        """Return a row (the first extractor's, where None is named)."""
        for row in self.rows:
            if (row.corruption, row.metric) == (corruption, metric) and extractor in (
                None,
                row.extractor,
            ):
                return row
        return None

    def equivalents(
        self,
        metric: str,
        value: float,
        interval: tuple[float, float] | None = None,
        extractor: str | None = None,
    ) -> dict[str, Equivalent]:
        """Read a value back on the curve of each corruption that allows it (`Curve.equivalent`)."""
        found = {}
        for name in dict.fromkeys(row.corruption for row in self.rows):
            row = self.row(name, metric, extractor)
            equivalent = row and row.curve.equivalent(value, interval)
            if equivalent:
                found[name] = equivalent
        return found

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Name the command that writes one."""
        return "Write one with synthbench sensitivity --real DIR --out."


def read_back(card: Scorecard, study: Sensitivity) -> Scorecard:
    """Return the scorecard with its values read back on the curves of their metrics.

    A value is read back as the damage to real volumes that scores the same: one record per
    corruption in `Value.equivalents`. A value has none where the study is of another cohort,
    grid, extractor or setting, or stands at another n, or where a curve cannot be read backwards;
    where that is so of all values, a note says it.
    """
    values = tuple(
        value.model_copy(update={"equivalents": _equivalents(card, value, study)})
        for value in card.values
    )
    notes = card.notes
    if not any(value.equivalents for value in values):
        notes += (
            "no value can be read back on the sensitivity curves: they are of another "
            "cohort, grid, extractor or number of volumes, or turn round",
        )
    return card.model_copy(update={"values": values, "notes": notes})


def _equivalents(card: Scorecard, value: Value, study: Sensitivity) -> tuple[EquivalentRecord, ...]:
    """The damage that scores as a row does: its floor's `synth_mean`, at the curves' n."""
    floor = value.floor
    if floor is None or value.value is None:
        return ()
    if study.real.fingerprint != card.real.fingerprint:
        return ()
    if not _alike(study.protocol, card.protocol, value):
        return ()
    # The interval is that of the value at the full n, moved to where it stands at this n.
    ends = None
    if value.interval is not None:
        moved = floor.synth_mean - value.value
        ends = (value.interval.low + moved, value.interval.high + moved)
    found = []
    for row in study.rows:
        of_this = (row.metric, row.extractor) == (value.metric, value.extractor)
        equivalent = row.curve.equivalent(floor.synth_mean, ends) if of_this else None
        if equivalent is None or row.curve.floor.n != floor.n:
            continue
        found.append(
            EquivalentRecord(
                corruption=row.corruption, sentence=row.sentence(equivalent), text=str(equivalent),
                relation=equivalent.relation, dose=equivalent.dose, low=equivalent.low,
                high=equivalent.high, unit=equivalent.unit,
            )
        )  # fmt: skip
    return tuple(found)


def _alike(one: Protocol, other: Protocol, value: Value) -> bool:
    """Whether two protocols agree in what a value depends on, numbers of volumes left aside."""
    key = str(value.key.job)
    extractors = [
        next((e for e in p.extractors if e.name == value.extractor), None) for p in (one, other)
    ]
    return (
        one.space == other.space
        and one.mask == other.mask
        and extractors[0] == extractors[1]
        and key in one.settings
        and one.settings[key] == other.settings.get(key)
    )


def _short(number: float) -> str:
    """Two significant digits; from 100 on, the whole number.

    >>> _short(1.4382), _short(160.0), _short(0.0)
    ('1.4', '160', '0')
    """
    return f"{number:.2g}" if abs(number) < 100 else f"{number:.0f}"


# --- table and figure ---------------------------------------------------------------------------


Column = tuple[str, str | None]

_LEGEND = "the dose at which a metric leaves the real-vs-real floor; not seen: it does not"
_TURNS = "~ turns round: more damage can score less"
_REWARDS = "better: the metric rewards the damage"


def _columns(sensitivity: Sensitivity) -> dict[Column, str]:
    """The label of each metric and extractor, in order of first appearance."""
    return {(row.metric, row.extractor): row.label for row in sensitivity.rows}


def _corruptions(sensitivity: Sensitivity) -> dict[str, str]:
    """A heading with its unit for each corruption, in order of first appearance."""
    return {row.corruption: f"{row.corruption_label}, {row.curve.unit}" for row in sensitivity.rows}


def _by_key(sensitivity: Sensitivity) -> dict[tuple[str, str, str | None], Row]:
    return {(row.corruption, row.metric, row.extractor): row for row in sensitivity.rows}


def _verdict(row: Row) -> str:
    """The words of a cell: the dose that is noticed, and the marks."""
    if row.leaves_floor is None:
        return "not seen" if row.monotone else "not seen ~"
    marks = ("" if row.monotone else " ~") + (" better" if row.response == "better" else "")
    return _short(row.leaves_floor) + marks


def table(sensitivity: Sensitivity) -> Group:
    """Return the study as a Rich renderable: from which dose on each metric sees a corruption.

    Rows are corruptions, columns metrics; each extractor has a table of its own.
    """
    from rich.console import Group
    from rich.text import Text

    studied = sensitivity.rows
    parts = [f"real {sensitivity.real.n}", f"{sensitivity.n} a side"]
    header = " | ".join([*parts, f"protocol {sensitivity.protocol.hash}"])
    extractors = dict.fromkeys(extractor for _, extractor in _columns(sensitivity))
    legend = [_LEGEND]
    if any(not row.monotone for row in studied):
        legend.append(_TURNS)
    if any(row.response == "better" for row in studied):
        legend.append(_REWARDS)
    if any(row.leaves_floor == 0 for row in studied):
        legend.append("0: outside the floor with no damage at all")
    legend += [f"note: {note}" for note in sensitivity.notes]
    return Group(
        Text(header, style="bold"),
        *(_extractor_table(sensitivity, extractor) for extractor in extractors),
        *(Text(line, style="dim") for line in legend),
    )


def _extractor_table(sensitivity: Sensitivity, extractor: str | None) -> Table:
    from rich.table import Table

    rows = _by_key(sensitivity)
    columns = {m: label for (m, e), label in _columns(sensitivity).items() if e == extractor}
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column(extractor or "on volumes", no_wrap=True)
    for label in columns.values():
        drawn.add_column(label, justify="right", overflow="fold")
    for name, heading in _corruptions(sensitivity).items():
        found = [rows.get((name, metric, extractor)) for metric in columns]
        drawn.add_row(heading, *("" if row is None else _verdict(row) for row in found))
    return drawn


def figure(sensitivity: Sensitivity, file: Path, metrics: Sequence[str] | None = None) -> None:
    """Draw the study as a PNG: a map of what is seen from which dose, and curves below it.

    Parameters
    ----------
    sensitivity
        The study.
    file
        Where the PNG goes.
    metrics
        Names of the metrics whose curves are drawn; None is the first six columns.

    Raises
    ------
    MetricError
        A name is not among the study's metrics, or there are no rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, corruptions = _columns(sensitivity), _corruptions(sensitivity)
    if not columns:
        raise MetricError("figure: the study has no rows. Score at least one metric.")
    known = {metric for metric, _ in columns}
    if unknown := [name for name in metrics or () if name not in known]:
        raise MetricError(
            f"figure: no metric {unknown[0]!r} in this study; it has {', '.join(sorted(known))}."
        )
    drawn = {
        key: heading
        for i, (key, heading) in enumerate(columns.items())
        if (i < 6 if metrics is None else key[0] in metrics)
    }
    width = 2.4 + 1.25 * max(len(corruptions), 4)
    tall = (1.3 + 0.36 * len(columns), 0.7 + 1.05 * len(drawn))
    picture = Figure(figsize=(width, sum(tall)), dpi=100, layout="constrained")
    FigureCanvasAgg(picture)
    parts: Any = picture.subfigures(2, 1, height_ratios=tall)
    above, below = parts
    above.suptitle(
        f"{_LEGEND} (darker: an earlier step of the doses tried)\n{_TURNS}; {_REWARDS}", fontsize=9
    )
    _draw_map(above.subplots(), sensitivity)
    _draw_curves(below, sensitivity, drawn)
    content = io.BytesIO()
    picture.savefig(content, format="png", metadata={"Software": None})
    write_atomic(Path(file), content.getvalue())


def _heading(column: Column, label: str) -> str:
    extractor = column[1]
    return label if extractor is None else f"{label} | {extractor}"


def _rank(row: Row) -> float:
    """Where the noticed dose stands on the ladder of doses: 0 below the first, 1 at the last."""
    assert row.leaves_floor is not None
    steps = np.linspace(0, 1, len(row.curve.doses))
    return float(np.interp(row.leaves_floor, row.curve.doses, steps))


def _draw_map(axes: Axes, sensitivity: Sensitivity) -> None:
    """Metrics down, corruptions across; the darker, the smaller the dose that is noticed."""
    from matplotlib.patches import Rectangle

    columns, corruptions = _columns(sensitivity), _corruptions(sensitivity)
    rows = _by_key(sensitivity)
    for y, (metric, extractor) in enumerate(columns):
        for x, name in enumerate(corruptions):
            row = rows.get((name, metric, extractor))
            if row is None:
                continue
            seen = row.leaves_floor is not None
            shade = 0.25 + 0.67 * _rank(row) if seen else 1.0
            axes.add_patch(
                Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=str(shade), edgecolor="white")
            )
            ink = "white" if shade < 0.55 else "black" if seen else "0.5"
            axes.text(x, y, _verdict(row), ha="center", va="center", fontsize=8, color=ink)
    axes.set_xlim(-0.5, len(corruptions) - 0.5)
    axes.set_ylim(len(columns) - 0.5, -0.5)
    axes.set_xticks(
        range(len(corruptions)), [h.replace(", ", "\n") for h in corruptions.values()], fontsize=8
    )
    axes.xaxis.tick_top()
    axes.set_yticks(
        range(len(columns)), [_heading(*column) for column in columns.items()], fontsize=8
    )
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_curves(below: Any, sensitivity: Sensitivity, drawn: dict[Column, str]) -> None:
    """Small multiples on one scale: distances from the floor's mean, in its half-widths."""
    corruptions, rows = _corruptions(sensitivity), _by_key(sensitivity)
    panels = below.subplots(len(drawn), len(corruptions), sharey=True, sharex="col", squeeze=False)
    lowest: dict[str, tuple[Axes, Row]] = {}
    for y, (metric, extractor) in enumerate(drawn):
        heading = _heading((metric, extractor), drawn[metric, extractor]).replace(" | ", "\n")
        for x, name in enumerate(corruptions):
            axes, row = panels[y, x], rows.get((name, metric, extractor))
            if row is None:
                axes.set_axis_off()
                continue
            _draw_curve(axes, row.curve)
            # The first of a row has its name, wherever it stands.
            axes.set_ylabel(heading, fontsize=8)
            heading = ""
            lowest[name] = (axes, row)
    for x, name in enumerate(corruptions):
        axes, row = lowest[name]
        axes.set_xlabel(row.curve.unit, fontsize=7)
        axes.tick_params(labelbottom=True)
        panels[0, x].set_title(row.corruption_label, fontsize=8)
    below.suptitle(
        "distance from the floor's mean, in the floor's half-widths; grey: the floor; dotted: "
        "where the curve leaves it",
        fontsize=9,
    )


def _draw_curve(axes: Axes, curve: Curve) -> None:
    scale = curve.floor.half_width or float(np.ptp(curve.values)) or 1.0

    def distance(value: Any) -> Any:
        return (np.asarray(value) - curve.floor.mean) / scale

    axes.axhspan(distance(curve.floor.low), distance(curve.floor.high), color="0.85", lw=0)
    if curve.intervals is not None:
        axes.vlines(curve.doses, *distance(curve.intervals).T, color="0.4", lw=1)
    axes.plot(curve.doses, distance(curve.values), "o-", color="black", ms=2.5, lw=1)
    if curve.leaves_floor:
        axes.axvline(curve.leaves_floor, color="black", ls=":", lw=0.8)
    axes.set_yscale("symlog", linthresh=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=6, length=2)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
