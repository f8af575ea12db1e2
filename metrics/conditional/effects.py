"""Effect replication: does a finding on real volumes survive in the synthetic cohort?

An effect (an age slope, a sex difference, a correlation of two regions) is estimated in both sets
alike. "Replicated" is a claim of likeness, so it needs a test of likeness: two one-sided tests at
5% (Schuirmann 1987), here of the ratio of both effects against fixed margins, which takes the real
effect's own uncertainty into account. Without a difference and without proven likeness, the word
is "cannot tell".
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.metrics.inference.influence import (
    Estimate,
    Quantity,
    coefficient,
    difference,
    estimated,
    fisher_z,
)

Word: TypeAlias = Literal["replicated", "weaker", "stronger", "reversed", "cannot tell"]

RATIO_MARGIN = 2.0
"""A synthetic effect is like the real one between half its size and twice its size."""

CORRELATION_MARGIN = 0.2
"""Correlations are alike within this difference."""

EQUIVALENCE_LEVEL = 0.90
"""Level of the interval that must lie inside the margins: two one-sided tests at 5%."""


class Compared(NamedTuple):
    """One effect in both sets.

    Attributes
    ----------
    real, synth
        The effect; None where it is undefined.
    difference
        Synthetic less real; None where either is undefined.
    word
        What may be said of it.
    """

    real: Estimate | None
    synth: Estimate | None
    difference: Estimate | None
    word: Word


def age_slope(
    region: Float64[np.ndarray, " n"],
    age: Float64[np.ndarray, " n"],
    sex: Bool[np.ndarray, " n"] | None,
) -> Quantity:
    """What a region's volume gains in a decade, at equal sex where that is known."""
    columns = [age / 10] if sex is None else [age / 10, sex.astype(np.float64)]
    return Quantity("age_slope", "age slope", coefficient(np.column_stack(columns), region, 0))


def sex_difference(
    region: Float64[np.ndarray, " n"],
    sex: Bool[np.ndarray, " n"],
    age: Float64[np.ndarray, " n"] | None,
) -> Quantity:
    """The second sex's mean less the first's, in standard deviations within sex, at equal age.

    Cohen's d; with `age` the difference and the deviation are those of the regression on both.
    """
    group = sex.astype(np.float64)
    columns = [group] if age is None else [group, age]
    return Quantity(
        "sex_difference", "sex difference",
        coefficient(np.column_stack(columns), region, 0, standardised=True),
    )  # fmt: skip


def region_correlation(
    first: Float64[np.ndarray, " n"], second: Float64[np.ndarray, " n"]
) -> Quantity:
    """Pearson's correlation of two regions' volumes."""
    return Quantity("correlation", "correlation", fisher_z(first, second), math.tanh)


def compare(
    real: Quantity,
    synth: Quantity,
    real_subjects: Int64[np.ndarray, " n"],
    synth_subjects: Int64[np.ndarray, " m"],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Compared:
    """Estimate an effect in both sets, and say whether the synthetic one is like the real one.

    Parameters
    ----------
    real, synth
        The same quantity of both sets.
    real_subjects, synth_subjects
        The subject of each row, numbered from 0.
    resamples, level, seed
        Of the intervals.
    """
    sides = ((real, real_subjects, seed), (synth, synth_subjects, seed + 1))
    of_real, of_synth = (
        estimated(q, index, resamples=resamples, level=level, seed=s) for q, index, s in sides
    )
    if of_real is None or of_synth is None:
        return Compared(of_real, of_synth, None, "cannot tell")
    apart = difference(of_synth, of_real)
    narrow_real, narrow_synth = (
        estimated(q, index, resamples=resamples, level=EQUIVALENCE_LEVEL, seed=s)
        for q, index, s in sides
    )
    assert narrow_real is not None
    assert narrow_synth is not None
    alike = (
        _alike_correlations(narrow_real, narrow_synth)
        if real.key == "correlation"
        else _alike_in_size(narrow_real, narrow_synth)
    )
    word: Word = "replicated" if alike else _difference_word(of_real, of_synth, apart)
    return Compared(of_real, of_synth, apart, word)


def _alike_correlations(real: Estimate, synth: Estimate) -> bool:
    apart = difference(synth, real)
    return (
        apart.low is not None
        and apart.high is not None
        and apart.low > -CORRELATION_MARGIN
        and apart.high < CORRELATION_MARGIN
    )


def _alike_in_size(real: Estimate, synth: Estimate) -> bool:
    """Whether both effects are of one sign, and their ratio lies inside the margins.

    For a positive real effect that is: synth - real / margin > 0 and synth - real * margin < 0,
    each at 5% one-sided.
    """
    sign = _sign(real)
    if sign == 0:
        return False
    above, below = (
        difference(_turned(synth, sign), _turned(real, sign), factor)
        for factor in (1 / RATIO_MARGIN, RATIO_MARGIN)
    )
    return above.low is not None and above.low > 0 and below.high is not None and below.high < 0


def _difference_word(real: Estimate, synth: Estimate, apart: Estimate) -> Word:
    """What a difference that the interval shows is called; "cannot tell" where it shows none."""
    if apart.low is None or apart.high is None or apart.low <= 0 <= apart.high:
        return "cannot tell"
    sign = _sign(real)
    if sign == 0:
        # The real effect may be nothing: it cannot be reversed, and there is nothing to weaken.
        return "stronger" if _sign(synth) != 0 and abs(synth.value) > abs(real.value) else (
            "cannot tell"
        )  # fmt: skip
    if _sign(synth) == -sign:
        return "reversed"
    return "stronger" if sign * apart.value > 0 else "weaker"


def _sign(effect: Estimate) -> int:
    """The sign that the interval shows; 0 where it holds zero, or there is none."""
    if effect.low is None or effect.high is None or effect.low <= 0 <= effect.high:
        return 0
    return 1 if effect.low > 0 else -1


def _turned(effect: Estimate, sign: int) -> Estimate:
    if sign > 0 or effect.low is None or effect.high is None:
        return effect
    return Estimate(-effect.value, -effect.high, -effect.low)
