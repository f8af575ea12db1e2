"""Effect replication: findings on real volumes, compared with the same on synthetic ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.errors import MetricError
from synthbench.metrics.conditional import adherence, effects
from synthbench.metrics.extractors.anatomy import MEASURES
from synthbench.metrics.inference.influence import Quantity
from synthbench.records.conditional import ComparedRecord, EffectRecord, ReplicationRecord
from synthbench.scoring.condition_measures import Measures
from synthbench.scoring.covariates import Covariate, Sets, estimate_record, numbers_of

MOST_CORRELATED = 6
"""Regions whose correlations are shown, all pairs of them."""


def replication(
    covariates: Mapping[str, Covariate],
    measures: Measures,
    inside: Bool[np.ndarray, " m"],
    sets: Sets,
) -> ReplicationRecord | None:
    """Return the effects of age and sex on regions, and correlations of regions, on both sets.

    None where no region can be measured, or too few volumes have the covariates.

    Parameters
    ----------
    covariates
        By name; those that are regions too are marked as requested.
    measures
        Regional volumes of both sets.
    inside
        The synthetic volumes that are not extrapolated.
    sets
        The subjects of both sets, and how intervals are computed.
    """
    try:
        regions = measures.regions(without={name for name in covariates if name not in MEASURES})
    except MetricError:
        return None
    age, sex = covariates.get("age"), covariates.get("sex")
    if age is None or age.truth is None or age.levels:
        age = None
    if sex is None or sex.truth is None or len(sex.levels) != 2:
        sex = None
    rows, real_rows = inside, np.ones(len(sets.real), dtype=np.bool_)
    for known in (c for c in (age, sex) if c is not None):
        assert known.known_real is not None
        rows, real_rows = rows & known.known, real_rows & known.known_real
    if min(rows.sum(), real_rows.sum()) < 2 * adherence.FEWEST_IN_GROUP:
        return None
    both = _BothSets(age, sex, rows, real_rows, sets, frozenset(covariates))
    found: list[EffectRecord] = []
    for name, (of_synth, of_real, unit) in regions.items():
        if age is not None:
            quantities = both.age_slope(of_real, "real"), both.age_slope(of_synth, "synth")
            found.append(both.effect("age slope", name, f"{unit or 'unit'} a decade", *quantities))
        if sex is not None:
            quantities = (
                both.sex_difference(of_real, "real"), both.sex_difference(of_synth, "synth")
            )  # fmt: skip
            unit_words = f"SD, {sex.levels[1]} less {sex.levels[0]}"
            found.append(both.effect("sex difference", name, unit_words, *quantities))
    # The brain is grey plus white matter: its correlations with them are arithmetic.
    parts = [name for name in regions if name != "brain_volume"]
    for first, second in combinations(parts[:MOST_CORRELATED], 2):
        quantities = (
            effects.region_correlation(regions[first][1][real_rows], regions[second][1][real_rows]),
            effects.region_correlation(regions[first][0][rows], regions[second][0][rows]),
        )
        found.append(both.effect("correlation", f"{first}, {second}", "r", *quantities))
    notes = []
    if any(effect.requested for effect in found):
        notes.append(
            "* a region that was itself requested: its effects follow from the requested values, "
            "whatever the generator has learnt"
        )
    if len(parts) > MOST_CORRELATED:
        notes.append(f"correlations are of the first {MOST_CORRELATED} of {len(parts)} regions")
    return ReplicationRecord(
        margins=(
            f"replicated: 1/{effects.RATIO_MARGIN:g} to {effects.RATIO_MARGIN:g} times the real "
            f"effect, correlations within ±{effects.CORRELATION_MARGIN:g}, by two one-sided "
            "tests at 5%"
        ),
        effects=tuple(found), n=int(rows.sum()), n_real=int(real_rows.sum()), level=sets.level,
        resamples=sets.resamples, seed=sets.seed, notes=tuple(notes),
    )  # fmt: skip


@dataclass(frozen=True)
class _BothSets:
    """The rows of both sets whose age and sex are known, as far as these are covariates."""

    age: Covariate | None
    sex: Covariate | None
    rows: Bool[np.ndarray, " m"]
    real_rows: Bool[np.ndarray, " n"]
    sets: Sets
    conditions: frozenset[str]

    def age_slope(self, region: Float64[np.ndarray, " n"], role: str) -> Quantity:
        age, sex = self._of("age", role), self._of("sex", role)
        assert age is not None
        return effects.age_slope(region[self._chosen(role)], age, None if sex is None else sex == 1)

    def sex_difference(self, region: Float64[np.ndarray, " n"], role: str) -> Quantity:
        age, sex = self._of("age", role), self._of("sex", role)
        assert sex is not None
        return effects.sex_difference(region[self._chosen(role)], sex == 1, age)

    def effect(
        self, effect: Any, region: str, unit: str, real: Quantity, synth: Quantity
    ) -> EffectRecord:
        sets = self.sets
        found = effects.compare(
            real, synth,
            np.unique(sets.real[self.real_rows], return_inverse=True)[1].astype(np.int64),
            np.unique(sets.synth[self.rows], return_inverse=True)[1].astype(np.int64),
            resamples=sets.resamples, level=sets.level, seed=sets.seed,
        )  # fmt: skip
        compared = ComparedRecord(
            key=real.key, label=real.label, synth=estimate_record(found.synth),
            real=estimate_record(found.real), difference=estimate_record(found.difference),
        )  # fmt: skip
        return EffectRecord(
            effect=effect, region=region, unit=unit, compared=compared, word=found.word,
            requested=bool(self.conditions & set(region.split(", "))),
        )  # fmt: skip

    def _chosen(self, role: str) -> Bool[np.ndarray, " n"]:
        return self.rows if role == "synth" else self.real_rows

    def _of(self, name: str, role: str) -> Float64[np.ndarray, " n"] | None:
        covariate = self.age if name == "age" else self.sex
        if covariate is None:
            return None
        values = covariate.requested if role == "synth" else covariate.truth
        return np.asarray(numbers_of(values or (), covariate.levels)[self._chosen(role)])
