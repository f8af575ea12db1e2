"""Effect replication: an effect in real volumes compared with that in synthetic volumes.

An effect (an age slope, a sex difference, a correlation of two regions) is estimated in both sets
in the same way. "Replicated" is a claim of equivalence, so it needs a test of equivalence: two
one-sided tests at 5% (Schuirmann 1987). The ratio of both effects is tested against fixed margins,
with the uncertainty of the real effect taken into account. Where neither a difference nor
equivalence shows, the result is "cannot tell".
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
"""A synthetic effect is equivalent between half and twice the size of the real one."""

CORRELATION_MARGIN = 0.2
"""Correlations are equivalent within this difference."""

EQUIVALENCE_LEVEL = 0.90
"""Level of the interval that must lie inside the margins: two one-sided tests at 5%."""


class Compared(NamedTuple):
    """One effect in both sets.

    Attributes
    ----------
    real, synth
        The effect; None where it is undefined.
    difference
        Synthetic minus real; None where either is undefined.
    word
        The result of the comparison.
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
    """Return the change of a region's volume per decade of age, at equal sex where known."""
    columns = [age / 10] if sex is None else [age / 10, sex.astype(np.float64)]
    return Quantity("age_slope", "age slope", coefficient(np.column_stack(columns), region, 0))


def sex_difference(
    region: Float64[np.ndarray, " n"],
    sex: Bool[np.ndarray, " n"],
    age: Float64[np.ndarray, " n"] | None,
) -> Quantity:
    """Return Cohen's d: the second sex's mean minus the first's, over the deviation within sex.

    With `age`, the difference and the standard deviation are those of the regression on sex and
    age: the difference at equal age.
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
    """Return Pearson's correlation of two regions' volumes."""
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
    """Estimate an effect in both sets, and compare the synthetic effect with the real one.

    Parameters
    ----------
    real, synth
        The same quantity of both sets.
    real_subjects, synth_subjects
        The subject of each row, numbered from 0.
    resamples, level, seed
        Number of resamples, nominal coverage and seed of the intervals.
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
    equivalent = (
        _equivalent_correlations(narrow_real, narrow_synth)
        if real.key == "correlation"
        else _equivalent_sizes(narrow_real, narrow_synth)
    )
    word: Word = "replicated" if equivalent else _difference_word(of_real, of_synth, apart)
    return Compared(of_real, of_synth, apart, word)


def _equivalent_correlations(real: Estimate, synth: Estimate) -> bool:
    apart = difference(synth, real)
    return (
        apart.low is not None
        and apart.high is not None
        and apart.low > -CORRELATION_MARGIN
        and apart.high < CORRELATION_MARGIN
    )


def _equivalent_sizes(real: Estimate, synth: Estimate) -> bool:
    """True where both effects have one sign and their ratio lies inside the margins.

    For a positive real effect: synth - real / margin > 0 and synth - real * margin < 0, each in a
    one-sided test at 5%.
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
    """The name of a difference that the interval shows; "cannot tell" where it shows none."""
    if apart.low is None or apart.high is None or apart.low <= 0 <= apart.high:
        return "cannot tell"
    sign = _sign(real)
    if sign == 0:
        # The real effect may be zero: a zero effect cannot be reversed or weaker.
        return "stronger" if _sign(synth) != 0 and abs(synth.value) > abs(real.value) else (
            "cannot tell"
        )  # fmt: skip
    if _sign(synth) == -sign:
        return "reversed"
    return "stronger" if sign * apart.value > 0 else "weaker"


def _sign(effect: Estimate) -> int:
    """The sign of the effect; 0 where the interval contains zero, or there is no interval."""
    if effect.low is None or effect.high is None or effect.low <= 0 <= effect.high:
        return 0
    return 1 if effect.low > 0 else -1


def _turned(effect: Estimate, sign: int) -> Estimate:
    if sign > 0 or effect.low is None or effect.high is None:
        return effect
    return Estimate(-effect.value, -effect.high, -effect.low)
