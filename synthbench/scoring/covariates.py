"""Covariates of real and synthetic volumes, requested and measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.conditions import rows_of
from synthbench.metrics.conditional import adherence
from synthbench.metrics.inference.influence import Estimate, Quantity, difference, estimated
from synthbench.records.conditional import ComparedRecord, EstimateRecord
from synthbench.scoring.condition_measures import Given, Reading, as_level


@dataclass(frozen=True)
class Covariate:
    """One condition of both sets.

    Attributes
    ----------
    name
        Of the condition.
    requested
        What was requested of each synthetic volume; None in it where nothing was.
    truth
        The true value of each real volume; None where the real cohort has no such covariate.
    levels
        The sorted words of a categorical condition; empty for a number.
    """

    name: str
    requested: Given
    truth: Given | None
    levels: tuple[str, ...]

    @property
    def known(self) -> Bool[np.ndarray, " m"]:
        """True for the synthetic volumes with a requested value."""
        return np.array([value is not None for value in self.requested])

    @property
    def known_real(self) -> Bool[np.ndarray, " n"] | None:
        """True for the real volumes with a value; None where the cohort has no such covariate."""
        return None if self.truth is None else np.array([v is not None for v in self.truth])


def numbers_of(values: Given, levels: Sequence[str] = ()) -> Float64[np.ndarray, " n"]:
    """Return values as numbers, NaN where absent; with levels, 1 for the last one and else 0."""
    if levels:
        return np.array([np.nan if v is None else float(v == levels[-1]) for v in values])
    return np.array([np.nan if v is None else float(v) for v in values])


@dataclass(frozen=True)
class Sets:
    """The subjects of both sets, and how intervals are computed."""

    synth: Int64[np.ndarray, " m"]
    real: Int64[np.ndarray, " n"]
    resamples: int
    level: float
    seed: int

    def estimate(
        self, quantity: Quantity, role: str, rows: Bool[np.ndarray, " n"]
    ) -> Estimate | None:
        """Return a quantity of some rows of a set with its interval; None where it has no value."""
        subjects = self.synth if role == "synth" else self.real
        return estimated(
            quantity, np.unique(subjects[rows], return_inverse=True)[1].astype(np.int64),
            resamples=self.resamples, level=self.level,
            seed=self.seed + (role == "synth"),  # the sets are independent
        )  # fmt: skip

    def compared(
        self,
        synth: Sequence[Quantity],
        rows: Bool[np.ndarray, " m"],
        real: Sequence[Quantity] = (),
        real_rows: Bool[np.ndarray, " n"] | None = None,
    ) -> tuple[ComparedRecord, ...]:
        """Return quantities of the synthetic set, each with the same of the real set."""
        of_real = {q.key: q for q in real}
        found = []
        for quantity in synth:
            first = self.estimate(quantity, "synth", rows)
            second = None
            if quantity.key in of_real and real_rows is not None:
                second = self.estimate(of_real[quantity.key], "real", real_rows)
            found.append(_compared_record(quantity, first, second))
        return tuple(found)


def _compared_record(
    quantity: Quantity, synth: Estimate | None, real: Estimate | None
) -> ComparedRecord:
    apart = None if synth is None or real is None else difference(synth, real)
    return ComparedRecord(
        key=quantity.key, label=quantity.label, synth=estimate_record(synth),
        real=estimate_record(real), difference=estimate_record(apart),
    )  # fmt: skip


def estimate_record(estimate: Estimate | None) -> EstimateRecord | None:
    """Return the record of an estimate; None where there is none."""
    if estimate is None:
        return None
    return EstimateRecord(value=estimate.value, low=estimate.low, high=estimate.high)


def covariate_of(name: str, requested: Given, real: Cohort) -> Covariate:
    """Return a condition of both sets: a number, or words.

    A column of two values that both occur more than once is taken for codes, as in 0 and 1.
    """
    truth: Given | None = None
    if name in real.participants:
        truth = [row[name] for row in rows_of(real, [name])]
        if all(value is None for value in truth):
            truth = None
    values = [value for value in (*requested, *(truth or ())) if value is not None]
    counts = Counter(values)
    coded = len(counts) == 2 and min(counts.values()) > 1
    if not coded and all(isinstance(value, float) for value in values):
        return Covariate(name, requested, truth, ())
    words = [
        [None if v is None else as_level(v) for v in side] for side in (requested, truth or ())
    ]
    levels = tuple(sorted({level for side in words for level in side if level is not None}))
    return Covariate(name, words[0], None if truth is None else words[1], levels)


def measured_real(covariate: Covariate, reading: Reading) -> Bool[np.ndarray, " n"] | None:
    """Return True for the real volumes of the ceiling; None where they are too few."""
    known = covariate.known_real
    if known is None or reading.real is None:
        return None
    rows = np.asarray(known & np.isfinite(reading.real))
    return rows if rows.sum() >= adherence.FEWEST_IN_GROUP else None


def side(covariate: Covariate, reading: Reading, role: str) -> tuple[Given, Any, tuple[str, ...]]:
    """Return one set's requested or true values, its measured numbers, and its measured levels."""
    if role == "synth":
        return covariate.requested, reading.synth, reading.synth_levels
    assert covariate.truth is not None
    return covariate.truth, reading.real, reading.real_levels


def complete_real(covariates: Sequence[Covariate]) -> Bool[np.ndarray, " n"] | None:
    """Return True for real volumes with all covariates; None: too few for a regression."""
    known = [c.known_real for c in covariates]
    if any(k is None for k in known):
        return None
    rows = np.all([k for k in known if k is not None], axis=0)
    enough = rows.sum() >= adherence.FEWEST_IN_GROUP * len(covariates)
    return rows if enough else None


def spread(
    covariate: Covariate, rows: Bool[np.ndarray, " m"], real_rows: Bool[np.ndarray, " n"] | None
) -> float:
    """Return a number's standard deviation in the real set, else as requested; 1 for levels."""
    if covariate.levels:
        return 1.0
    if real_rows is not None and covariate.truth is not None:
        return float(numbers_of(covariate.truth)[real_rows].std(ddof=1))
    return float(numbers_of(covariate.requested)[rows].std(ddof=1))
