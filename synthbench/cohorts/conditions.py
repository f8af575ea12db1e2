"""Conditions: covariates that a generator learns from, as the training split has them.

Only the training split counts: it gives the range of a number, and the levels of a word.
`Conditions.encode` turns covariates in natural units into numbers for a network. Values outside
the training range are allowed, and `Conditions.extrapolated` names them. What a user asks for is
in `synthbench.cohorts.requests`.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.disclosure import SMALL_CELL
from synthbench.errors import RunError, UsageError, near_miss

Row = Mapping[str, float | str | None]
"""Covariates of one volume by name, in the units of participants.tsv; None where missing."""

MISSING = "n/a"
"""A missing value in tables and on the command line, as in BIDS."""

MOST_LEVELS = 16
"""A column with more different words is an identifier or free text, and not a condition."""

QUANTILES = 20
"""The most intervals between the quantiles that are kept of a training marginal."""


class Encoded(NamedTuple):
    """Conditions as numbers for a network.

    Attributes
    ----------
    values
        In [0, 1] for values that the training split spans, beyond for others; 0 where missing.
    present
        True where there is a value.
    """

    values: Float32[np.ndarray, "n k"]
    present: Bool[np.ndarray, "n k"]


@dataclass(frozen=True)
class Condition:
    """One covariate as the training split has it.

    Attributes
    ----------
    name
        As in participants.tsv.
    kind
        A number, or one of several words. A column of two different numbers that both occur more
        than once is a code (sex as 1 and 2), so its levels are "1" and "2".
    low, high
        Range in the training split, in natural units; None for words.
    levels
        The words, sorted; empty for a number.
    missing
        Training rows without a value.
    quantiles
        The training marginal of a number: its quantiles at equal steps of probability from 0 to 1.
        Each interval has at least `SMALL_CELL` rows, and there are at most `QUANTILES` intervals.
    frequencies
        Share of each level; a count below `SMALL_CELL` is taken as `SMALL_CELL`.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    low: float | None
    high: float | None
    levels: tuple[str, ...]
    missing: int
    quantiles: tuple[float, ...] = ()
    frequencies: tuple[float, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its encoded columns: its own name, or its name and a level."""
        if self.kind == "numeric":
            return (self.name,)
        given = self.levels[1:] if len(self.levels) == 2 else self.levels
        return tuple(f"{self.name}={level}" for level in given)

    def scaled(self, value: float) -> float:
        """Return a number on a scale where 0 and 1 are the ends of the training range."""
        low, high = self._range()
        return (value - low) / (high - low)

    def natural(self, scaled: float) -> float:
        """Return the value in natural units: the inverse of `scaled`."""
        low, high = self._range()
        # In this form 0 and 1 give exactly the ends of the range, which are no extrapolation.
        return low * (1 - scaled) + high * scaled

    def value(self, given: object) -> float | str | None:
        """Return a value as a number or as a level; None where it is missing.

        Raises
        ------
        UsageError
            It is not a finite number, or not a level of the training split.
        """
        if _is_missing(given):
            return None
        if self.kind == "categorical":
            level = _level(given)
            if level not in self.levels:
                raise UsageError(
                    f"{self.name}: there is no level '{level}' in the training split. Its levels: "
                    f"{', '.join(self.levels)}; {MISSING} asks for none."
                )
            return level
        number = as_number(given)
        if number is None:
            raise UsageError(
                f"{self.name}: a finite number is needed (in training {self.low:g} to "
                f"{self.high:g}), or {MISSING}; found '{given}'."
            )
        return number

    def encode(self, given: object) -> tuple[float, ...]:
        """Return its encoded columns for one row, as `Conditions.encode` does for all."""
        value = self.value(given)
        if value is None:
            return (0.0,) * len(self.columns)
        if self.kind == "numeric":
            return (self.scaled(float(value)),)
        return tuple(float(column == f"{self.name}={value}") for column in self.columns)

    def quantile(self, place: float) -> float:
        """Return a number's training quantile, interpolated between those that are kept."""
        return float(np.interp(place, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

    def typical(self) -> float | str:
        """Return the training median, or the most frequent level."""
        if self.kind == "numeric":
            return within(self.quantile(0.5), *self._range())
        return self.levels[int(np.argmax(self.frequencies))]

    def draw(self, seed: int) -> float | str:
        """Return a value drawn from the training marginal; it depends on seed and name alone."""
        place = uniform(seed, self.name)
        if self.kind == "numeric":
            return within(self.quantile(place), *self._range())
        index = int(np.searchsorted(np.cumsum(self.frequencies), place, side="right"))
        return self.levels[min(index, len(self.levels) - 1)]

    def _range(self) -> tuple[float, float]:
        if self.low is None or self.high is None:
            raise UsageError(
                f"{self.name} has no scale: it is one of {', '.join(self.levels)}. Name a level."
            )
        return self.low, self.high


@dataclass(frozen=True)
class Conditions:
    """The conditions of a generator, in the order that it takes them.

    Attributes
    ----------
    conditions
        One per covariate.
    """

    conditions: tuple[Condition, ...]

    @classmethod
    def fit(cls, rows: Sequence[Row], names: Sequence[str]) -> Conditions:
        """Return the conditions with the ranges, levels and marginals of the training rows.

        Parameters
        ----------
        rows
            One per training volume.
        names
            The covariates to condition on, in this order.

        Raises
        ------
        UsageError
            A name is given twice or is not a column, or a column is constant, empty, or has more
            different words than a condition can have.
        """
        known = dict.fromkeys(key for row in rows for key in row)
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise UsageError(f"conditions: named twice: {', '.join(repeated)}.")
        for name in names:
            check_name(name, known, "the training cohort has no covariate")
        return cls(tuple(_fitted(name, [row.get(name) for row in rows]) for name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """The covariates' names."""
        return tuple(condition.name for condition in self.conditions)

    @property
    def columns(self) -> tuple[str, ...]:
        """The name of each encoded column, such as `age` or `sex=M`."""
        return tuple(column for c in self.conditions for column in c.columns)

    @property
    def width(self) -> int:
        """Number of encoded columns: one for a number or two levels, else one per level."""
        return len(self.columns)

    def __getitem__(self, name: str) -> Condition:
        """Return the condition of that name.

        Raises
        ------
        UsageError
            There is none; the nearest known name is suggested.
        """
        check_name(name, self.names, "the run has no condition")
        return next(c for c in self.conditions if c.name == name)

    def encode(self, rows: Sequence[Row]) -> Encoded:
        """Return rows in natural units as numbers; a covariate that a row does not name is missing.

        Raises
        ------
        UsageError
            A row has a covariate that is not a condition, a word that is not a level of the
            training split, or a value that is not a finite number.
        """
        for name in dict.fromkeys(key for row in rows for key in row):
            check_name(name, self.names, "the run has no condition")
        values = np.zeros((len(rows), self.width), np.float32)
        present = np.zeros((len(rows), self.width), bool)
        for i, row in enumerate(rows):
            given = [(c, row.get(c.name)) for c in self.conditions]
            values[i] = [x for c, value in given for x in c.encode(value)]
            present[i] = [c.value(value) is not None for c, value in given for _ in c.columns]
        return Encoded(values, present)

    def extrapolated(self, row: Row) -> tuple[str, ...]:
        """Return the names of the conditions whose value lies outside the training range."""
        beyond = []
        for condition in self.conditions:
            value = condition.value(row.get(condition.name))
            if isinstance(value, float) and not 0 <= condition.scaled(value) <= 1:
                beyond.append(condition.name)
        return tuple(beyond)

    def as_json(self) -> list[dict[str, Any]]:
        """Return JSON values for `from_json`: aggregates of the training split, no rows."""
        return [
            {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(c).items()}
            for c in self.conditions
        ]

    @classmethod
    def of_run(cls, record: Mapping[str, Any]) -> Conditions:
        """Return the conditions of a run from its record; no conditions where it has none."""
        return cls.from_json(record.get("conditions") or [])

    @classmethod
    def from_json(cls, stored: Iterable[Mapping[str, Any]]) -> Conditions:
        """Return the conditions that a run's record holds.

        Raises
        ------
        RunError
            The record has another form.
        """
        known = {field.name for field in fields(Condition)}
        try:
            return cls(tuple(_restored(one, known) for one in stored))
        except (TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"the run's record of its conditions cannot be read: {error}. Train the run again, "
                "or read it with the version of synthbench that wrote it."
            ) from error


def rows_of(cohort: Cohort, names: Sequence[str]) -> list[Row]:
    """Return the covariates of each volume of a cohort, from its participants table.

    Parameters
    ----------
    cohort
        Volumes of one subject share its row, unless a manifest has one for each; a subject that
        the table does not list has none.
    names
        Columns of the table.

    Raises
    ------
    UsageError
        The cohort has no participants table, or the table has no such column.
    """
    table = cohort.participants
    if names and table.empty:
        raise UsageError(
            f"conditions: {', '.join(names)}: the cohort has no participants table. Put a "
            "participants.tsv with a column participant_id beside the volumes, or the columns "
            "into the manifest."
        )
    for name in names:
        check_name(name, [str(c) for c in table.columns], "the participants table has no column")
    return _rows(cohort.covariates[list(names)])


def cell(value: float | str | None) -> str:
    """Return a value as text for a table: all digits of a number, `n/a` where it is missing.

    >>> cell(60.0), cell(None)
    ('60', 'n/a')
    """
    if value is None:
        return MISSING
    return value if isinstance(value, str) else repr(value).removesuffix(".0")


def _fitted(name: str, column: Sequence[float | str | None]) -> Condition:
    present = [value for value in column if value is not None and not _is_missing(value)]
    if not present:
        raise UsageError(
            f"conditions: {name}: no training volume has a value. Leave it out, or fill it in."
        )
    if len(set(present)) == 1:
        raise UsageError(
            f"conditions: {name}: every training volume has {present[0]}, so nothing can be learnt "
            "from it. Leave it out."
        )
    missing = len(column) - len(present)
    numbers = [as_number(value) for value in present]
    if None in numbers or _is_code(present):
        return _categorical(name, [_level(value) for value in present], missing)
    return _numeric(name, np.array(numbers, np.float64), missing)


def _numeric(name: str, values: np.ndarray, missing: int) -> Condition:
    intervals = int(np.clip(len(values) // SMALL_CELL, 1, QUANTILES))
    quantiles = np.quantile(values, np.linspace(0, 1, intervals + 1))
    return Condition(
        name, "numeric", float(values.min()), float(values.max()), (), missing,
        quantiles=tuple(float(q) for q in quantiles),
    )  # fmt: skip


def _categorical(name: str, values: Sequence[str], missing: int) -> Condition:
    counts = Counter(values)
    if len(counts) > MOST_LEVELS:
        words = [word for word in counts if as_number(word) is None]
        raise UsageError(
            f"conditions: {name}: {len(counts)} distinct words, such as '{words[0]}'; at most "
            f"{MOST_LEVELS} can be conditioned on. Where they should be numbers, write missing "
            f"ones as {MISSING}; otherwise join levels, or leave it out."
        )
    levels = tuple(sorted(counts))
    given = np.array([max(counts[level], SMALL_CELL) for level in levels], np.float64)
    return Condition(
        name, "categorical", None, None, levels, missing,
        frequencies=tuple(float(f) for f in given / given.sum()),
    )  # fmt: skip


def _is_code(values: Sequence[float | str]) -> bool:
    counts = Counter(values)
    return len(counts) == 2 and min(counts.values()) > 1


def _is_missing(given: object) -> bool:
    return given is None or given == MISSING or (isinstance(given, float) and math.isnan(given))


def as_number(given: object) -> float | None:
    """Return a value as a finite number; None where it is not one."""
    try:
        number = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _level(given: object) -> str:
    """Return a level as text: a code is "1" where the table has 1, 1.0 or "1"."""
    number = as_number(given)
    return str(given) if number is None else f"{number:.12g}"


def _restored(stored: Mapping[str, Any], known: set[str]) -> Condition:
    unknown = set(stored) - known
    if unknown:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return Condition(**values)


def _rows(table: pd.DataFrame) -> list[Row]:
    return [
        {str(name): _cell(value) for name, value in zip(table.columns, cells, strict=True)}
        for cells in table.itertuples(index=False)
    ]


def _cell(value: Any) -> float | str | None:
    if pd.isna(value):
        return None
    if isinstance(value, (bool, np.bool_, str)):
        return str(value)
    return float(value)


def within(number: float, low: float, high: float) -> float:
    """Return a number rounded to six digits, as in tables, but never outside its range."""
    return min(max(float(f"{number:.6g}"), low), high)


def check_name(name: str, known: Iterable[str], finding: str) -> None:
    """Check that a name is known; `finding` begins the message.

    Raises
    ------
    UsageError
        It is not known; the nearest known name is suggested.
    """
    known = list(known)
    if name not in known:
        hint = near_miss(name, known) if known else "there are none."
        raise UsageError(f"{finding} '{name}': {hint}")


def uniform(seed: int, name: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the name alone.

    The name's hash makes the draws of one seed independent of each other, and of the noise that a
    generator draws with the same seed.
    """
    return float(np.random.default_rng([zlib.crc32(name.encode()), seed]).uniform())
