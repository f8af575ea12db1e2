"""Conditional fidelity and effect replication of a scoring, as sections of its scorecard.

Where it is known what was asked of each synthetic volume, each condition is measured on it and
compared with what was asked; beside it stands the ceiling, the same measurement on real volumes
with their true covariates. Only aggregates leave this module.
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
from synthbench.scoring.condition_measures import Measures, Reading, Told
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
from synthbench.scoring.requested import Asked

AGE_BANDS = ((0.0, 40.0, "under 40"), (40.0, 60.0, "40 to 59"), (60.0, np.inf, "60 and over"))


def assess(
    asked: Asked, measures: Measures, protocol: Protocol, train: Cohort | None = None
) -> tuple[AdherenceRecord, ReplicationRecord | None]:
    """Assess conditional fidelity and effect replication.

    Parameters
    ----------
    asked
        Of each synthetic volume.
    measures
        Of both sets.
    protocol
        Whose resamples, level and seed the intervals have.
    train
        The generator's training cohort, whose ranges say what is extrapolation where `asked` does
        not.

    Returns
    -------
    The sections; no replication where neither age nor sex is known of both sets, and no region
    can be measured.

    Raises
    ------
    UsageError
        A table of measures does not fit the volumes.
    """
    real = measures.cohorts["real"]
    covariates = [covariate_of(name, asked.columns[name], real) for name in asked.columns]
    beyond, rule = _beyond(asked, covariates, train)
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
                covariate.name, covariate.asked, covariate.truth, covariate.levels
            )
        except MetricError as error:
            conditions.append(_unmeasured(covariate, f"missing: {error}"))
            continue
        readings[covariate.name] = reading
        conditions.append(_condition_record(covariate, reading, inside, sets))
    fidelity = AdherenceRecord(
        source=asked.source, range=rule, conditions=tuple(conditions),
        leakage=tuple(_leakages(covariates, readings, inside, sets)),
        parity=tuple(_parities(covariates, readings, inside, sets)),
        level=protocol.level, resamples=protocol.resamples, seed=protocol.seed,
    )  # fmt: skip
    return fidelity, replication({c.name: c for c in covariates}, measures, inside, sets)


def _beyond(
    asked: Asked, covariates: Sequence[Covariate], train: Cohort | None
) -> tuple[dict[str, Bool[np.ndarray, " m"]], str]:
    """For each condition, which volumes ask for more than training held; and who says so."""
    none = np.zeros(len(next(iter(asked.columns.values()))), dtype=np.bool_)
    if asked.extrapolated is not None:
        told = {
            c.name: np.array([c.name in names for names in asked.extrapolated]) for c in covariates
        }
        return told, f"beyond the training range, as the {asked.source} say"
    numbers = [c for c in covariates if train is not None and c.name in train.participants]
    if train is None or not numbers:
        return {c.name: none for c in covariates}, "not known: --train names the training cohort"
    found = {c.name: none for c in covariates}
    for covariate in numbers:
        if not covariate.levels:
            held = numbers_of([row[covariate.name] for row in rows_of(train, [covariate.name])])
            values = numbers_of(covariate.asked)
            found[covariate.name] = (values < np.nanmin(held)) | (values > np.nanmax(held))
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
    told, measured, found = side(covariate, reading, role)
    if not covariate.levels:
        return adherence.numeric_fidelity(
            numbers_of(told)[rows], measured[rows], same_unit=reading.same_unit
        )
    correct = np.array([a == b for a, b in zip(told, found, strict=True)])[rows]
    if len(covariate.levels) > 2:
        return [adherence.class_fidelity(correct)]
    asked = numbers_of(told, covariate.levels)[rows] == 1
    return adherence.binary_fidelity(asked, measured[rows], correct)


def _curve(
    covariate: Covariate, reading: Reading, rows: Bool[np.ndarray, " n"], role: str
) -> tuple[CurvePoint, ...]:
    if covariate.levels:
        return ()
    told, measured, _ = side(covariate, reading, role)
    points = adherence.curve(numbers_of(told)[rows], measured[rows])
    return tuple(CurvePoint(requested=a, measured=m, sd=sd, n=n) for a, m, sd, n in points)


def _leakages(
    covariates: Sequence[Covariate],
    readings: Mapping[str, Reading],
    inside: Bool[np.ndarray, " m"],
    sets: Sets,
) -> list[LeakageRecord]:
    """What asking for each condition does to each measure, in standard deviations.

    Conditions of more than two levels, and those that never vary, are no part of the regression.
    """
    told = [c for c in covariates if len(c.levels) in (0, 2)]
    rows = inside & np.all([c.known for c in told], axis=0) if told else inside
    told = [c for c in told if len(set(numbers_of(c.asked, c.levels)[rows].tolist())) > 1]
    if len(told) < 2 or rows.sum() < adherence.FEWEST_IN_GROUP * len(told):
        return []
    real_rows = complete_real(told)
    spreads = {c.name: spread(c, rows, real_rows) for c in told}
    asked = {c.name: (numbers_of(c.asked, c.levels) / spreads[c.name])[rows] for c in told}
    true = {} if real_rows is None else {
        c.name: (numbers_of(c.truth or (), c.levels) / spreads[c.name])[real_rows] for c in told
    }  # fmt: skip
    found = []
    for measured in told:
        reading = readings.get(measured.name)
        if reading is None:
            continue
        scale = spreads[measured.name]
        of_synth = adherence.leakage(asked, (reading.synth / scale)[rows])
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
                    unit=_leakage_unit(next(c for c in told if c.name == name), measured),
                    effect=sets.compared([quantity], rows, beside, real_rows)[0],
                )
            )  # fmt: skip
    return found


def _leakage_unit(asked: Covariate, measured: Covariate) -> str:
    step = f"from {asked.levels[0]} to {asked.levels[1]}" if asked.levels else "an SD asked"
    what = f"probability of {measured.levels[1]}" if measured.levels else "SD"
    return f"{what}, {step}"


def _parities(
    covariates: Sequence[Covariate],
    readings: Mapping[str, Reading],
    inside: Bool[np.ndarray, " m"],
    sets: Sets,
) -> list[ParityRecord]:
    """For each condition, the errors of each group of each sex, site and age band."""
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
        # Of two groups, one difference says all.
        return list(covariate.levels[1:] if len(covariate.levels) == 2 else covariate.levels)
    return [name for *_, name in AGE_BANDS] if covariate.name == "age" else []


def _members(covariate: Covariate, group: str, told: Told) -> Bool[np.ndarray, " n"]:
    if covariate.levels:
        return np.array([value == group for value in told])
    low, high = next((low, high) for low, high, name in AGE_BANDS if name == group)
    values = numbers_of(told)
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
    members = _members(grouping, group, grouping.asked)[rows]
    if not _told_apart(members):
        return None
    signed = not covariate.levels
    synth = adherence.parity(_errors(covariate, reading, "synth")[rows], members, signed=signed)
    real: list[Quantity] = []
    real_rows = measured_real(covariate, reading)
    if real_rows is not None and grouping.truth is not None:
        assert grouping.known_real is not None
        real_rows = real_rows & grouping.known_real
        real_members = _members(grouping, group, grouping.truth)[real_rows]
        if _told_apart(real_members):
            errors = _errors(covariate, reading, "real")[real_rows]
            real = adherence.parity(errors, real_members, signed=signed)
    of = f"{group} less {grouping.levels[0]}" if len(grouping.levels) == 2 else f"{group} less rest"
    return ParityRecord(
        condition=covariate.name, covariate=grouping.name, group=of, n=int(members.sum()),
        statistics=sets.compared(synth, rows, real, real_rows),
    )  # fmt: skip


def _told_apart(members: Bool[np.ndarray, " n"]) -> bool:
    return bool(min(members.sum(), (~members).sum()) >= adherence.FEWEST_IN_GROUP)


def _errors(covariate: Covariate, reading: Reading, role: str) -> Float64[np.ndarray, " n"]:
    told, measured, levels = side(covariate, reading, role)
    if covariate.levels:
        return np.array([float(a != b) for a, b in zip(told, levels, strict=True)])
    return np.asarray(measured - numbers_of(told))
