"""Measures of conditions on volumes: the measured age, sex or ventricle volume.

The `anatomy` extractor measures volumes of the brain and the ventricles. Any other number, such as
age, is predicted by ridge regression, and a word, such as sex, by a classifier; both are fitted on
real volumes by nested cross-validation (`synthbench.metrics.conditional.prediction`). A table that
another program wrote replaces either.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from synthbench import registry
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.volume_table import VolumeTable
from synthbench.errors import MetricError, UsageError
from synthbench.metrics.conditional.prediction import predict
from synthbench.metrics.extractors.anatomy import MEASURES, SPREAD_ML, TYPICAL_ML
from synthbench.runtime.callbacks import shown
from synthbench.scoring.features import extract
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample

Given = Sequence[float | str | None]
"""A condition's value for each volume: a number or a word; None where there is none."""

BLOCKS = ("anatomy", "voxels")
"""Extractors whose features a covariate is predicted from: neither needs weights."""

UNITS = {1.0: "", 1000.0: " × 1000", 0.001: " / 1000"}
"""Factors that may bring a measure to the condition's unit, such as 1000 from mL to mm³."""

VOLUME_UNITS = {1.0: "mL", 1000.0: "mm³"}
"""Units of volume in tables, by how many make a millilitre. Litres are not among them: the
ventricles' share of the head has the size of their volume in litres."""

SAME_UNIT_WITHIN = 2.0
"""Numbers of the same volumes have one unit where they differ by less than this factor."""

FOLDS_SEED = 0
"""Seed of the folds of cross-validation."""


def unit_factor(
    ratio: float, within: float, factors: Collection[float] = tuple(UNITS)
) -> float | None:
    """Return the factor between units that a ratio is near to; None where it is near to none.

    Parameters
    ----------
    ratio
        A typical true or requested value over a typical measured one.
    within
        How far the ratio may be from a factor, itself as a factor.
    factors
        Factors between units.

    Examples
    --------
    >>> unit_factor(1080.0, within=2), unit_factor(0.03, within=2)
    (1000.0, None)
    """
    return next((factor for factor in factors if 1 / within < ratio / factor < within), None)


@dataclass(frozen=True)
class Reading:
    """One condition as it was measured on both sets.

    Attributes
    ----------
    words
        How it was measured.
    synth, real
        One number per volume, NaN where it was not measured; with two levels the probability of
        the second. `real` is None where real volumes were not measured.
    synth_levels, real_levels
        The measured level of each volume; empty for a number.
    same_unit
        True where the number has the condition's unit.
    """

    words: str
    synth: Float64[np.ndarray, " m"]
    real: Float64[np.ndarray, " n"] | None
    synth_levels: tuple[str, ...] = ()
    real_levels: tuple[str, ...] = ()
    same_unit: bool = True


@dataclass
class Measures:
    """The measures of a real and a synthetic set of volumes, computed when first needed.

    Attributes
    ----------
    samples
        "real" and "synth".
    cohorts
        The same, with names to match tables by.
    tables
        Measures that other programs wrote.
    context
        Workers, cache and progress of the extraction of features.
    """

    samples: Mapping[str, Sample]
    cohorts: Mapping[str, Cohort]
    tables: Sequence[VolumeTable] = ()
    context: Context = field(default_factory=Context)
    _features: dict[str, dict[str, np.ndarray]] = field(default_factory=dict, repr=False)

    def read(
        self, name: str, requested: Given, truth: Given | None, levels: Sequence[str]
    ) -> Reading:
        """Return a condition as it is measured on every volume.

        Parameters
        ----------
        name
            Of the condition.
        requested
            The requested value of each synthetic volume.
        truth
            The true value of each real volume; None where the cohort has no such covariate.
        levels
            Sorted words; empty for a number.

        Raises
        ------
        MetricError
            It cannot be measured; the message says what is missing.
        """
        columns = self._from_tables(name)
        if columns is not None:
            return _in_unit(_of_table(name, *columns, levels), requested, truth)
        if name in MEASURES and not levels:
            place = MEASURES.index(name)
            of_synth, of_real = (self._millilitres(role)[:, place] for role in ("synth", "real"))
            measured = Reading("anatomy, mL", of_synth, of_real)
            return _in_unit(measured, requested, truth, tuple(VOLUME_UNITS))
        if truth is None or all(value is None for value in truth):
            raise MetricError(
                f"{name} is measured by a model that is fitted on real volumes with that "
                f"covariate, which the real cohort does not have. Add a participants.tsv with a "
                f"column '{name}' to it, or name your own measures: --measures FILE.csv",
                "no covariate",
            )
        return self._predicted(truth, levels)

    def regions(
        self, without: Collection[str] = ()
    ) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
        """Return regional volumes by name: of synthetic and of real volumes, and their unit.

        Where tables hold numbers of both sets, these are their columns, except those in `without`,
        which are no regions (a predicted age). Otherwise the `anatomy` extractor measures them.

        Raises
        ------
        MetricError
            A volume cannot be measured.
        """
        columns = {name: (*both, "") for name, both in self.table_columns(without).items()}
        if columns:
            return columns
        synth, real = self._millilitres("synth"), self._millilitres("real")
        return {
            name: (synth[:, place], real[:, place], "mL")
            for place, name in enumerate(MEASURES)
            if name != "ventricle_asymmetry"
        }

    def table_columns(
        self, without: Collection[str] = ()
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return the numbers that tables hold of both sets, by column: synthetic, then real."""
        columns: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for table in self.tables:
            for name in table.columns:
                found = None if name in without else self._from_tables(name)
                if found is None or name in columns:
                    continue
                of_synth, of_real = found
                if of_real is None:
                    continue
                if _all_numbers(of_synth) and _all_numbers(of_real):
                    columns[name] = np.array(of_synth), np.array(of_real)
        return columns

    @cached_property
    def _matched(self) -> list[tuple[VolumeTable, dict[str, list[int]]]]:
        found = []
        for table in self.tables:
            rows = {role: table.rows(cohort, role) for role, cohort in self.cohorts.items()}
            known = {role: places for role, places in rows.items() if places is not None}
            if not known:
                raise UsageError(
                    f"{table.file}: names none of the volumes (its first row is "
                    f"'{table.keys[0]}', the first synthetic volume "
                    f"'{self.cohorts['synth'].entries[0].name}'). Name them by file or by "
                    "participant_id in the first column."
                )
            found.append((table, known))
        return found

    def _from_tables(self, name: str) -> tuple[Given, Given | None] | None:
        """Return a column for both sets; None where no table has it for synthetic volumes."""
        sides: dict[str, Given] = {}
        for table, rows in self._matched:
            for role, places in rows.items():
                if name in table.columns and role not in sides:
                    values = table.values(name, places)
                    if None in values:
                        first = self.cohorts[role].entries[values.index(None)].name
                        raise UsageError(
                            f"{table.file}: {name} is absent for {values.count(None)} of the "
                            f"{len(values)} {role} volumes (first: {first}). Measure them, or "
                            "leave the column out."
                        )
                    sides[role] = values
        return (sides["synth"], sides.get("real")) if "synth" in sides else None

    def _predicted(self, truth: Given, levels: Sequence[str]) -> Reading:
        real = {block: self._block(block, "real") for block in BLOCKS}
        synth = {block: self._block(block, "synth") for block in BLOCKS}
        found = predict(real, synth, truth, self.samples["real"].subjects, seed=FOLDS_SEED)
        chosen = max(found.chosen, key=lambda name: found.chosen[name])
        model = "logistic regression" if levels else "ridge regression"
        words = f"{model} on {chosen} features, nested cross-validation on real volumes"
        if not levels:
            return Reading(words, found.others, found.real)
        names = np.array(found.levels)
        # With more than two levels only the levels are used, not the number.
        return Reading(
            words, found.others[:, -1], found.real[:, -1],
            tuple(names[found.others.argmax(axis=1)].tolist()),
            tuple(names[np.nan_to_num(found.real).argmax(axis=1)].tolist()),
        )  # fmt: skip

    def _millilitres(self, role: str) -> Float64[np.ndarray, "n 6"]:
        return np.asarray(self._block("anatomy", role) * SPREAD_ML + TYPICAL_ML)

    def _block(self, name: str, role: str) -> Float64[np.ndarray, "n d"]:
        by_role = self._features.setdefault(name, {})
        if role not in by_role:
            sample = self.samples[role]
            known = sample.features.get(name)
            try:
                rows = known if known is not None else extract(
                    registry.load("extractors", name)(), sample.inputs, self.context.batch_size,
                    shown(f"{name}, {role}", self.context.progress), cache=self.context.cache,
                    workers=self.context.workers,
                )  # fmt: skip
            except MetricError as error:
                raise error.at(role) from error
            by_role[role] = np.asarray(rows, dtype=np.float64)
        return by_role[role]


def _of_table(name: str, synth: Given, real: Given | None, levels: Sequence[str]) -> Reading:
    """Return the reading of a table's column: numbers, levels, or the second level's probability.

    Raises
    ------
    MetricError
        The column does not fit the condition.
    """
    words = "the table of measures"
    numbers = _all_numbers(synth) and (real is None or _all_numbers(real))
    if not levels:
        if not numbers:
            raise MetricError(
                f"{name}: the table of measures holds words, but numbers were requested. Write "
                "numbers into this column.",
                "table of measures",
            )
        return Reading(words, np.array(synth, float), None if real is None else np.array(real))
    if numbers and len(levels) == 2:
        sides = [None if side is None else np.array(side, float) for side in (synth, real)]
        if all(s is None or (s.min() >= 0 and s.max() <= 1) for s in sides):
            likely = [() if s is None else tuple(levels[int(p > 0.5)] for p in s) for s in sides]
            assert sides[0] is not None
            with_level = f"{words}, probability of {levels[1]}"
            return Reading(with_level, sides[0], sides[1], likely[0], likely[1])
    stated = [tuple(map(as_level, side or ())) for side in (synth, real)]
    unknown = sorted({level for side in stated for level in side} - set(levels))
    if unknown:
        raise MetricError(
            f"{name}: the table of measures holds '{unknown[0]}', but the requested levels are "
            f"{', '.join(levels)}. Write it with these words, or as the probability of the last.",
            "table of measures",
        )
    scores = [np.array([float(level == levels[-1]) for level in side]) for side in stated]
    return Reading(words, scores[0], None if real is None else scores[1], stated[0], stated[1])


def _all_numbers(values: Given) -> bool:
    return all(isinstance(value, float) for value in values)


def _in_unit(
    reading: Reading,
    requested: Given,
    truth: Given | None,
    factors: Collection[float] = tuple(UNITS),
) -> Reading:
    """Return a reading in the condition's unit, by the factor at which real volumes agree with it.

    Where no factor fits (a volume as a share of the head's), only the correlation can be compared.
    """
    if reading.synth_levels:
        return reading
    pairs = (truth, reading.real) if truth is not None and reading.real is not None else (
        requested, reading.synth
    )  # fmt: skip
    ratios = [
        float(value) / measured
        for value, measured in zip(*pairs, strict=True)
        if isinstance(value, float) and measured != 0
    ]
    typical = float(np.median(ratios)) if ratios else np.nan
    factor = unit_factor(typical, SAME_UNIT_WITHIN, factors)
    if factor is None:
        return replace(reading, words=f"{reading.words} (another unit or meaning)", same_unit=False)
    real = None if reading.real is None else reading.real * factor
    return Reading(f"{reading.words}{UNITS[factor]}", reading.synth * factor, real)


def as_level(value: float | str | None) -> str:
    """Return a level as text: a code is "1" where a table holds 1, 1.0 or "1"."""
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else value


def read_tables(files: Sequence[Path]) -> tuple[VolumeTable, ...]:
    """Return the tables that `--measures` names.

    Raises
    ------
    UsageError
        A table cannot be read.
    """
    return tuple(VolumeTable.read(Path(file), "--measures") for file in files)
