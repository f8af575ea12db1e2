"""Condition adherence and effect replication of a scoring, as sections of its scorecard.

Where it is known what was requested of each synthetic volume, each condition is measured on it and
compared with the request. The same measurement on real volumes with their true covariates is the
ceiling that it is compared with. Only aggregates leave this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.conditions import rows_of
from synthbench.errors import MetricError
from synthbench.metrics.conditional import adherence
from synthbench.metrics.inference.influence import Quantity
from synthbench.records.conditional import (
    AdherenceRecord,
    ConditionRecord,
    CurvePoint,
    LeakageRecord,
    ParityRecord,
    ReplicationRecord,
)
from synthbench.records.protocol import Protocol
from synthbench.records.reasons import public_words
from synthbench.scoring.condition_measures import Given, Measures, Reading
from synthbench.scoring.covariates import (
    Covariate,
    Sets,
    complete_real,
    covariate_of,
    measured_real,
    numbers_of,
    side,
    spread,
)
from synthbench.scoring.replication import replication
from synthbench.scoring.requested import Requested

AGE_BANDS = ((0.0, 40.0, "under 40"), (40.0, 60.0, "40 to 59"), (60.0, np.inf, "60 and over"))


def assess(
    requested: Requested, measures: Measures, protocol: Protocol, train: Cohort | None = None
) -> tuple[AdherenceRecord, ReplicationRecord | None]:
    """Return the records of condition adherence and of effect replication.

    Parameters
    ----------
    requested
        The conditions that were requested of each synthetic volume.
    measures
        What can be measured on both sets.
    protocol
        Gives resamples, level and seed of the intervals.
    train
        The generator's training cohort. Values beyond its ranges count as extrapolation where
        `requested` does not say which do.

    Returns
    -------
    Both records; the second is None where no region can be measured, or too few volumes have the
    covariates.

    Raises
    ------
    UsageError
        A table of measures does not fit the volumes.
    """
    real = measures.cohorts["real"]
    covariates = [covariate_of(name, requested.columns[name], real) for name in requested.columns]
    beyond, rule = _beyond(requested, covariates, train)
    sets = Sets(
        measures.samples["synth"].subjects, measures.samples["real"].subjects,
        protocol.resamples, protocol.level, protocol.seed,
    )  # fmt: skip
    inside = ~np.any(list(beyond.values()), axis=0)
    readings: dict[str, Reading] = {}
    conditions = []
    for covariate in covariates:
        try:
            reading = measures.read(
                covariate.name, covariate.requested, covariate.truth, covariate.levels
            )
        except MetricError as error:
            measures.context.log(f"{covariate.name}: {error}")
            conditions.append(_unmeasured(covariate, f"missing: {public_words(error)}"))
            continue
        readings[covariate.name] = reading
        conditions.append(_condition_record(covariate, reading, inside, sets))
    adherence = AdherenceRecord(
        source=requested.source, range=rule, conditions=tuple(conditions),
        leakage=tuple(_leakages(covariates, readings, inside, sets)),
        parity=tuple(_parities(covariates, readings, inside, sets)),
        level=protocol.level, resamples=protocol.resamples, seed=protocol.seed,
    )  # fmt: skip
    return adherence, replication({c.name: c for c in covariates}, measures, inside, sets)


def _beyond(
    requested: Requested, covariates: Sequence[Covariate], train: Cohort | None
) -> tuple[dict[str, Bool[np.ndarray, " m"]], str]:
    """Return for each condition which volumes are extrapolated, and the source of that."""
    none = np.zeros(len(next(iter(requested.columns.values()))), dtype=np.bool_)
    if requested.extrapolated is not None:
        stated = {
            c.name: np.array([c.name in names for names in requested.extrapolated])
            for c in covariates
        }
        return stated, f"beyond the training range, as the {requested.source} say"
    numbers = [c for c in covariates if train is not None and c.name in train.participants]
    if train is None or not numbers:
        return {c.name: none for c in covariates}, "not known: --train names the training cohort"
    found = {c.name: none for c in covariates}
    for covariate in numbers:
        if not covariate.levels:
            trained = numbers_of([row[covariate.name] for row in rows_of(train, [covariate.name])])
            values = numbers_of(covariate.requested)
            found[covariate.name] = (values < np.nanmin(trained)) | (values > np.nanmax(trained))
    return found, "beyond the range of the training cohort"


def _condition_record(
    covariate: Covariate, reading: Reading, inside: Bool[np.ndarray, " m"], sets: Sets
) -> ConditionRecord:
    within, outside = covariate.known & inside, covariate.known & ~inside
    real_rows = measured_real(covariate, reading)
    real = [] if real_rows is None else _quantities(covariate, reading, real_rows, "real")
    points = _curve(covariate, reading, within, "synth")
    return ConditionRecord(
        name=covariate.name,
        kind="categorical" if covariate.levels else "numeric",
        measure=reading.words,
        n=int(within.sum()),
        n_real=None if real_rows is None else int(real_rows.sum()),
        statistics=sets.compared(
            _quantities(covariate, reading, within, "synth"), within, real, real_rows
        ),
        n_extrapolated=int(outside.sum()),
        extrapolated=sets.compared(
            _quantities(covariate, reading, outside, "synth"), outside, real, real_rows
        ),
        curve=points,
        real_curve=() if real_rows is None else _curve(covariate, reading, real_rows, "real"),
    )


def _unmeasured(covariate: Covariate, why: str) -> ConditionRecord:
    return ConditionRecord(
        name=covariate.name, kind="categorical" if covariate.levels else "numeric",
        measure="not measured", n=int(covariate.known.sum()), missing=why,
    )  # fmt: skip


def _quantities(
    covariate: Covariate, reading: Reading, rows: Bool[np.ndarray, " n"], role: str
) -> list[Quantity]:
    if rows.sum() < adherence.FEWEST_IN_GROUP:
        return []
    given, measured, found = side(covariate, reading, role)
    if not covariate.levels:
        return adherence.numeric_adherence(
            numbers_of(given)[rows], measured[rows], same_unit=reading.same_unit
        )
    correct = np.array([a == b for a, b in zip(given, found, strict=True)])[rows]
    if len(covariate.levels) > 2:
        return [adherence.class_adherence(correct)]
    requested = numbers_of(given, covariate.levels)[rows] == 1
    return adherence.binary_adherence(requested, measured[rows], correct)


def _curve(
    covariate: Covariate, reading: Reading, rows: Bool[np.ndarray, " n"], role: str
) -> tuple[CurvePoint, ...]:
    if covariate.levels:
        return ()
    given, measured, _ = side(covariate, reading, role)
    points = adherence.curve(numbers_of(given)[rows], measured[rows])
    return tuple(CurvePoint(requested=a, measured=m, sd=sd, n=n) for a, m, sd, n in points)


def _leakages(
    covariates: Sequence[Covariate],
    readings: Mapping[str, Reading],
    inside: Bool[np.ndarray, " m"],
    sets: Sets,
) -> list[LeakageRecord]:
    """Return how requesting each condition changes the other measures, in standard deviations.

    Each measure is regressed on all conditions together. Conditions with more than two levels,
    and those that never vary, are left out of the regression.
    """
    given = [c for c in covariates if len(c.levels) in (0, 2)]
    rows = inside & np.all([c.known for c in given], axis=0) if given else inside
    given = [c for c in given if len(set(numbers_of(c.requested, c.levels)[rows].tolist())) > 1]
    if len(given) < 2 or rows.sum() < adherence.FEWEST_IN_GROUP * len(given):
        return []
    real_rows = complete_real(given)
    spreads = {c.name: spread(c, rows, real_rows) for c in given}
    requested = {c.name: (numbers_of(c.requested, c.levels) / spreads[c.name])[rows] for c in given}
    true = {} if real_rows is None else {
        c.name: (numbers_of(c.truth or (), c.levels) / spreads[c.name])[real_rows] for c in given
    }  # fmt: skip
    found = []
    for measured in given:
        reading = readings.get(measured.name)
        if reading is None:
            continue
        scale = spreads[measured.name]
        of_synth = adherence.leakage(requested, (reading.synth / scale)[rows])
        of_real = None
        if real_rows is not None and reading.real is not None:
            of_real = adherence.leakage(true, (reading.real / scale)[real_rows])
        for name, quantity in of_synth.items():
            if name == measured.name:
                continue
            beside = [] if of_real is None else [of_real[name]]
            found.append(
                LeakageRecord(
                    requested=name, measured=measured.name,
                    unit=_leakage_unit(next(c for c in given if c.name == name), measured),
                    effect=sets.compared([quantity], rows, beside, real_rows)[0],
                )
            )  # fmt: skip
    return found


def _leakage_unit(requested: Covariate, measured: Covariate) -> str:
    step = (
        f"from {requested.levels[0]} to {requested.levels[1]}"
        if requested.levels
        else "an SD asked"
    )
    what = f"probability of {measured.levels[1]}" if measured.levels else "SD"
    return f"{what}, {step}"


def _parities(
    covariates: Sequence[Covariate],
    readings: Mapping[str, Reading],
    inside: Bool[np.ndarray, " m"],
    sets: Sets,
) -> list[ParityRecord]:
    """Return the difference in errors between groups by sex, site and age, per condition."""
    found = []
    for covariate in covariates:
        reading = readings.get(covariate.name)
        if reading is None or not (reading.same_unit or covariate.levels):
            continue
        for grouping in covariates:
            for group in _groups(grouping):
                record = _parity(covariate, reading, grouping, group, inside, sets)
                if record is not None:
                    found.append(record)
    return found


def _groups(covariate: Covariate) -> list[str]:
    if covariate.levels:
        # With two groups, one difference says all.
        return list(covariate.levels[1:] if len(covariate.levels) == 2 else covariate.levels)
    return [name for *_, name in AGE_BANDS] if covariate.name == "age" else []


def _members(covariate: Covariate, group: str, given: Given) -> Bool[np.ndarray, " n"]:
    if covariate.levels:
        return np.array([value == group for value in given])
    low, high = next((low, high) for low, high, name in AGE_BANDS if name == group)
    values = numbers_of(given)
    return np.asarray((values >= low) & (values < high))


def _parity(
    covariate: Covariate,
    reading: Reading,
    grouping: Covariate,
    group: str,
    inside: Bool[np.ndarray, " m"],
    sets: Sets,
) -> ParityRecord | None:
    rows = inside & covariate.known & grouping.known
    members = _members(grouping, group, grouping.requested)[rows]
    if not _both_groups(members):
        return None
    signed = not covariate.levels
    synth = adherence.parity(_errors(covariate, reading, "synth")[rows], members, signed=signed)
    real: list[Quantity] = []
    real_rows = measured_real(covariate, reading)
    if real_rows is not None and grouping.truth is not None:
        assert grouping.known_real is not None
        real_rows = real_rows & grouping.known_real
        real_members = _members(grouping, group, grouping.truth)[real_rows]
        if _both_groups(real_members):
            errors = _errors(covariate, reading, "real")[real_rows]
            real = adherence.parity(errors, real_members, signed=signed)
    of = f"{group} less {grouping.levels[0]}" if len(grouping.levels) == 2 else f"{group} less rest"
    return ParityRecord(
        condition=covariate.name, covariate=grouping.name, group=of, n=int(members.sum()),
        statistics=sets.compared(synth, rows, real, real_rows),
    )  # fmt: skip


def _both_groups(members: Bool[np.ndarray, " n"]) -> bool:
    return bool(min(members.sum(), (~members).sum()) >= adherence.FEWEST_IN_GROUP)


def _errors(covariate: Covariate, reading: Reading, role: str) -> Float64[np.ndarray, " n"]:
    given, measured, levels = side(covariate, reading, role)
    if covariate.levels:
        return np.array([float(a != b) for a, b in zip(given, levels, strict=True)])
    return np.asarray(measured - numbers_of(given))
