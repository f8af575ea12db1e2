"""Conditional fidelity and effect replication of a scoring, as sections of its scorecard.

Where it is known what was asked of each synthetic volume, each condition is measured on it and
compared with what was asked; beside it stands the ceiling, the same measurement on real volumes
with their true covariates. Only aggregates leave this module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.cohort import Cohort
from synthbench.conditions import rows_of
from synthbench.errors import MetricError, UsageError
from synthbench.measures import Measures, Reading, Told, as_level
from synthbench.metrics import conditional, effects
from synthbench.metrics.extractors.anatomy import MEASURES
from synthbench.metrics.influence import Estimate, Quantity, difference, estimated
from synthbench.scorecard import (
    AdherenceRecord,
    ComparedRecord,
    ConditionRecord,
    CurvePoint,
    EffectRecord,
    EstimateRecord,
    LeakageRecord,
    ParityRecord,
    Protocol,
    ReplicationRecord,
)
from synthbench.volume_table import VolumeTable, typed

TABLE = "conditions.tsv"
"""The table that `synthbench sample` writes beside its volumes."""

NOT_CONDITIONS = ("seed", "extrapolated")
"""Columns of such a table that are no conditions."""

AGE_BANDS = ((0.0, 40.0, "under 40"), (40.0, 60.0, "40 to 59"), (60.0, np.inf, "60 and over"))
MOST_CORRELATED = 6
"""Regions whose correlations are shown, all pairs of them."""


@dataclass(frozen=True)
class Asked:
    """What was asked of each synthetic volume.

    Attributes
    ----------
    source
        Where that is known from.
    columns
        By condition, one value a volume; None where nothing was asked.
    extrapolated
        For each volume, the conditions that lie beyond the training range; None where the source
        does not tell.
    """

    source: str
    columns: Mapping[str, list[float | str | None]]
    extrapolated: tuple[frozenset[str], ...] | None = None


def asked_of(
    synth: Cohort, sidecars: Sequence[Mapping[str, Any]], file: Path | None = None
) -> Asked | None:
    """Find what was asked of each synthetic volume.

    Parameters
    ----------
    synth
        The volumes.
    sidecars
        Of all volumes, in their order; empty where there are none.
    file
        A table of the user's, which takes precedence: a column a condition, and one that names
        the volume (see `synthbench.volume_table`).

    Returns
    -------
    From the table, else the sidecars, else a `conditions.tsv` beside the volumes; None where none
    of them tells.

    Raises
    ------
    UsageError
        The table does not name every volume, or only some sidecars hold conditions.
    """
    if file is not None:
        return _from_table(VolumeTable.read(Path(file), "--conditions"), synth, Path(file).name)
    told = [sidecar.get("conditions") for sidecar in sidecars]
    having = sum(bool(conditions) for conditions in told)
    if having:
        if having < len(told):
            raise UsageError(
                f"synth: {having} of {len(told)} sidecars hold the conditions that were asked "
                "for. Score volumes of one origin, or name the conditions: --conditions FILE"
            )
        return _from_sidecars(sidecars)
    tables = sorted({entry.path.parent / TABLE for entry in synth.entries})
    if len(tables) == 1 and tables[0].is_file():
        return _from_table(VolumeTable.read(tables[0], "conditions"), synth, TABLE)
    return None


def _from_sidecars(sidecars: Sequence[Mapping[str, Any]]) -> Asked:
    names = dict.fromkeys(name for sidecar in sidecars for name in sidecar["conditions"])
    columns: dict[str, list[float | str | None]] = {name: [] for name in names}
    for sidecar in sidecars:
        for name, column in columns.items():
            value = sidecar["conditions"].get(name)
            column.append(value if value is None or isinstance(value, str) else float(value))
    beyond = tuple(frozenset(sidecar.get("extrapolated") or ()) for sidecar in sidecars)
    return Asked("sidecars", columns, beyond)


def _from_table(table: VolumeTable, synth: Cohort, source: str) -> Asked:
    rows = table.rows(synth, "synth")
    if rows is None:
        raise UsageError(
            f"{table.file}: names none of the synthetic volumes (its first row is "
            f"'{table.keys[0]}', the first volume '{synth.entries[0].name}'). Name them by file "
            "or by participant_id."
        )
    columns = {
        name: typed([cells[row] for row in rows])
        for name, cells in table.columns.items()
        if name not in NOT_CONDITIONS
    }
    columns = {n: column for n, column in columns.items() if any(v is not None for v in column)}
    beyond = None
    if "extrapolated" in table.columns:
        cells = table.columns["extrapolated"]
        beyond = tuple(
            frozenset(word for word in cells[row].replace(";", ",").replace(",", " ").split()
                      if word in columns)
            for row in rows
        )  # fmt: skip
    return Asked(source, columns, beyond)


# ---------------------------------------------------------------- the sections


@dataclass(frozen=True)
class _Covariate:
    """One condition of both sets.

    Attributes
    ----------
    asked, truth
        Of each synthetic volume what was asked, and of each real one the true value; `truth` is
        None where real volumes carry no such covariate.
    levels
        Sorted words; empty for a number.
    """

    name: str
    asked: Told
    truth: Told | None
    levels: tuple[str, ...]

    @property
    def known(self) -> Bool[np.ndarray, " m"]:
        """Of which synthetic volumes something was asked."""
        return np.array([value is not None for value in self.asked])

    @property
    def known_real(self) -> Bool[np.ndarray, " n"] | None:
        """Which real volumes have a value."""
        return None if self.truth is None else np.array([v is not None for v in self.truth])


def _numbers(values: Told, levels: Sequence[str] = ()) -> Float64[np.ndarray, " n"]:
    """Values as numbers: a level as 0 or 1, of two levels the second; NaN where absent."""
    if levels:
        return np.array([np.nan if v is None else float(v == levels[-1]) for v in values])
    return np.array([np.nan if v is None else float(v) for v in values])


@dataclass(frozen=True)
class _Sets:
    """Both sets' subjects, and how intervals are made."""

    synth: Int64[np.ndarray, " m"]
    real: Int64[np.ndarray, " n"]
    resamples: int
    level: float
    seed: int

    def estimate(
        self, quantity: Quantity, role: str, rows: Bool[np.ndarray, " n"]
    ) -> Estimate | None:
        """Estimate a quantity of some of a set's rows."""
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
        """Estimate quantities of the synthetic set, beside those of the real one."""
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
        key=quantity.key, label=quantity.label, synth=_estimate_record(synth),
        real=_estimate_record(real), difference=_estimate_record(apart),
    )  # fmt: skip


def _estimate_record(estimate: Estimate | None) -> EstimateRecord | None:
    if estimate is None:
        return None
    return EstimateRecord(value=estimate.value, low=estimate.low, high=estimate.high)


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
    covariates = [_covariate(name, asked.columns[name], real) for name in asked.columns]
    beyond, rule = _beyond(asked, covariates, train)
    sets = _Sets(
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
    return fidelity, _replication({c.name: c for c in covariates}, measures, inside, sets)


def _covariate(name: str, asked: Told, real: Cohort) -> _Covariate:
    truth: Told | None = None
    if name in real.participants:
        truth = [row[name] for row in rows_of(real, [name])]
        if all(value is None for value in truth):
            truth = None
    held = [value for value in (*asked, *(truth or ())) if value is not None]
    counts = Counter(held)
    coded = len(counts) == 2 and min(counts.values()) > 1
    if not coded and all(isinstance(value, float) for value in held):
        return _Covariate(name, asked, truth, ())
    words = [[None if v is None else as_level(v) for v in side] for side in (asked, truth or ())]
    levels = tuple(sorted({level for side in words for level in side if level is not None}))
    return _Covariate(name, words[0], None if truth is None else words[1], levels)


def _beyond(
    asked: Asked, covariates: Sequence[_Covariate], train: Cohort | None
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
            held = _numbers([row[covariate.name] for row in rows_of(train, [covariate.name])])
            values = _numbers(covariate.asked)
            found[covariate.name] = (values < np.nanmin(held)) | (values > np.nanmax(held))
    return found, "beyond the range of the training cohort"


# ---------------------------------------------------------------- asked against measured


def _condition_record(
    covariate: _Covariate, reading: Reading, inside: Bool[np.ndarray, " m"], sets: _Sets
) -> ConditionRecord:
    within, outside = covariate.known & inside, covariate.known & ~inside
    real_rows = _measured_real(covariate, reading)
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


def _unmeasured(covariate: _Covariate, why: str) -> ConditionRecord:
    return ConditionRecord(
        name=covariate.name, kind="categorical" if covariate.levels else "numeric",
        measure="not measured", n=int(covariate.known.sum()), missing=why,
    )  # fmt: skip


def _measured_real(covariate: _Covariate, reading: Reading) -> Bool[np.ndarray, " n"] | None:
    """Which real volumes stand for the ceiling; None where they are too few."""
    known = covariate.known_real
    if known is None or reading.real is None:
        return None
    rows = np.asarray(known & np.isfinite(reading.real))
    return rows if rows.sum() >= conditional.FEWEST_IN_GROUP else None


def _side(covariate: _Covariate, reading: Reading, role: str) -> tuple[Told, Any, tuple[str, ...]]:
    if role == "synth":
        return covariate.asked, reading.synth, reading.synth_levels
    assert covariate.truth is not None
    return covariate.truth, reading.real, reading.real_levels


def _quantities(
    covariate: _Covariate, reading: Reading, rows: Bool[np.ndarray, " n"], role: str
) -> list[Quantity]:
    if rows.sum() < conditional.FEWEST_IN_GROUP:
        return []
    told, measured, found = _side(covariate, reading, role)
    if not covariate.levels:
        return conditional.numeric_fidelity(
            _numbers(told)[rows], measured[rows], same_unit=reading.same_unit
        )
    correct = np.array([a == b for a, b in zip(told, found, strict=True)])[rows]
    if len(covariate.levels) > 2:
        return [conditional.class_fidelity(correct)]
    asked = _numbers(told, covariate.levels)[rows] == 1
    return conditional.binary_fidelity(asked, measured[rows], correct)


def _curve(
    covariate: _Covariate, reading: Reading, rows: Bool[np.ndarray, " n"], role: str
) -> tuple[CurvePoint, ...]:
    if covariate.levels:
        return ()
    told, measured, _ = _side(covariate, reading, role)
    points = conditional.curve(_numbers(told)[rows], measured[rows])
    return tuple(CurvePoint(requested=a, measured=m, sd=sd, n=n) for a, m, sd, n in points)


# ---------------------------------------------------------------- leakage


def _leakages(
    covariates: Sequence[_Covariate],
    readings: Mapping[str, Reading],
    inside: Bool[np.ndarray, " m"],
    sets: _Sets,
) -> list[LeakageRecord]:
    """What asking for each condition does to each measure, in standard deviations.

    Conditions of more than two levels, and those that never vary, are no part of the regression.
    """
    told = [c for c in covariates if len(c.levels) in (0, 2)]
    rows = inside & np.all([c.known for c in told], axis=0) if told else inside
    told = [c for c in told if len(set(_numbers(c.asked, c.levels)[rows].tolist())) > 1]
    if len(told) < 2 or rows.sum() < conditional.FEWEST_IN_GROUP * len(told):
        return []
    real_rows = _complete_real(told)
    spreads = {c.name: _spread(c, rows, real_rows) for c in told}
    asked = {c.name: (_numbers(c.asked, c.levels) / spreads[c.name])[rows] for c in told}
    true = {} if real_rows is None else {
        c.name: (_numbers(c.truth or (), c.levels) / spreads[c.name])[real_rows] for c in told
    }  # fmt: skip
    found = []
    for measured in told:
        reading = readings.get(measured.name)
        if reading is None:
            continue
        scale = spreads[measured.name]
        of_synth = conditional.leakage(asked, (reading.synth / scale)[rows])
        of_real = None
        if real_rows is not None and reading.real is not None:
            of_real = conditional.leakage(true, (reading.real / scale)[real_rows])
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


def _complete_real(covariates: Sequence[_Covariate]) -> Bool[np.ndarray, " n"] | None:
    """Which real volumes carry all covariates; None where they are too few for a regression."""
    known = [c.known_real for c in covariates]
    if any(k is None for k in known):
        return None
    rows = np.all([k for k in known if k is not None], axis=0)
    enough = rows.sum() >= conditional.FEWEST_IN_GROUP * len(covariates)
    return rows if enough else None


def _spread(
    covariate: _Covariate, rows: Bool[np.ndarray, " m"], real_rows: Bool[np.ndarray, " n"] | None
) -> float:
    """A number's standard deviation in the real set, or among what was asked; 1 for levels."""
    if covariate.levels:
        return 1.0
    if real_rows is not None and covariate.truth is not None:
        return float(_numbers(covariate.truth)[real_rows].std(ddof=1))
    return float(_numbers(covariate.asked)[rows].std(ddof=1))


def _leakage_unit(asked: _Covariate, measured: _Covariate) -> str:
    step = f"from {asked.levels[0]} to {asked.levels[1]}" if asked.levels else "an SD asked"
    what = f"probability of {measured.levels[1]}" if measured.levels else "SD"
    return f"{what}, {step}"


# ---------------------------------------------------------------- parity


def _parities(
    covariates: Sequence[_Covariate],
    readings: Mapping[str, Reading],
    inside: Bool[np.ndarray, " m"],
    sets: _Sets,
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


def _groups(covariate: _Covariate) -> list[str]:
    if covariate.levels:
        # Of two groups, one difference says all.
        return list(covariate.levels[1:] if len(covariate.levels) == 2 else covariate.levels)
    return [name for *_, name in AGE_BANDS] if covariate.name == "age" else []


def _members(covariate: _Covariate, group: str, told: Told) -> Bool[np.ndarray, " n"]:
    if covariate.levels:
        return np.array([value == group for value in told])
    low, high = next((low, high) for low, high, name in AGE_BANDS if name == group)
    values = _numbers(told)
    return np.asarray((values >= low) & (values < high))


def _parity(
    covariate: _Covariate,
    reading: Reading,
    grouping: _Covariate,
    group: str,
    inside: Bool[np.ndarray, " m"],
    sets: _Sets,
) -> ParityRecord | None:
    rows = inside & covariate.known & grouping.known
    members = _members(grouping, group, grouping.asked)[rows]
    if not _told_apart(members):
        return None
    signed = not covariate.levels
    synth = conditional.parity(_errors(covariate, reading, "synth")[rows], members, signed=signed)
    real: list[Quantity] = []
    real_rows = _measured_real(covariate, reading)
    if real_rows is not None and grouping.truth is not None:
        assert grouping.known_real is not None
        real_rows = real_rows & grouping.known_real
        real_members = _members(grouping, group, grouping.truth)[real_rows]
        if _told_apart(real_members):
            errors = _errors(covariate, reading, "real")[real_rows]
            real = conditional.parity(errors, real_members, signed=signed)
    of = f"{group} less {grouping.levels[0]}" if len(grouping.levels) == 2 else f"{group} less rest"
    return ParityRecord(
        condition=covariate.name, covariate=grouping.name, group=of, n=int(members.sum()),
        statistics=sets.compared(synth, rows, real, real_rows),
    )  # fmt: skip


def _told_apart(members: Bool[np.ndarray, " n"]) -> bool:
    return bool(min(members.sum(), (~members).sum()) >= conditional.FEWEST_IN_GROUP)


def _errors(covariate: _Covariate, reading: Reading, role: str) -> Float64[np.ndarray, " n"]:
    told, measured, levels = _side(covariate, reading, role)
    if covariate.levels:
        return np.array([float(a != b) for a, b in zip(told, levels, strict=True)])
    return np.asarray(measured - _numbers(told))


# ---------------------------------------------------------------- effect replication


def _replication(
    covariates: Mapping[str, _Covariate],
    measures: Measures,
    inside: Bool[np.ndarray, " m"],
    sets: _Sets,
) -> ReplicationRecord | None:
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
    if min(rows.sum(), real_rows.sum()) < 2 * conditional.FEWEST_IN_GROUP:
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
            "* a region that was itself asked for: its effects are those of the values that were "
            "asked for together, whatever the generator has learnt"
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
    """The rows of both sets of which age and sex are known, as far as either is a covariate."""

    age: _Covariate | None
    sex: _Covariate | None
    rows: Bool[np.ndarray, " m"]
    real_rows: Bool[np.ndarray, " n"]
    sets: _Sets
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
            key=real.key, label=real.label, synth=_estimate_record(found.synth),
            real=_estimate_record(found.real), difference=_estimate_record(found.difference),
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
        told = covariate.asked if role == "synth" else covariate.truth
        return np.asarray(_numbers(told or (), covariate.levels)[self._chosen(role)])
