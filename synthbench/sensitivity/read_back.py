"""The record of a sensitivity study, and values read back on its curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from synthbench.errors import MetricError
from synthbench.records.base import RecordFile, Upgrade
from synthbench.records.cohort import CohortRecord
from synthbench.records.protocol import Protocol
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import EquivalentRecord, Value
from synthbench.sensitivity.curve import Equivalent, Row

_DRAWN_OF_1 = (
    "mmd2", "fid", "coverage", "ms_ssim", "spectrum", "spectrum.seam_z", "intensity",
    "memorization",
)  # fmt: skip


def _upgrade_1_to_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a study's fields of schema 1, which did not store what is drawn, as schema 2's."""
    for row in fields["rows"]:
        row["drawn"] = row["metric"] in _DRAWN_OF_1
    return fields


class Sensitivity(RecordFile):
    """The record of a study: the curves of metrics on one cohort by some extractors."""

    what: ClassVar[str] = "a sensitivity record"
    upgrades: ClassVar[Mapping[int, Upgrade]] = {1: _upgrade_1_to_2}

    schema_version: Literal[2] = 2
    created: str = Field(description="UTC, ISO 8601")
    real: CohortRecord
    n: int = Field(description="volumes per side: undamaged ones against damaged ones")
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
                "sensitivity: one row per corruption, metric and extractor is allowed; found more "
                f"of {twice}."
            )
        return self

    def row(self, corruption: str, metric: str, extractor: str | None = None) -> Row | None:
        """Return a row, by the first extractor where None is named; None where there is none."""
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
        """Return the equivalent dose of a value by corruption, where its curve can be read back."""
        found = {}
        for name in dict.fromkeys(row.corruption for row in self.rows):
            row = self.row(name, metric, extractor)
            equivalent = row and row.curve.equivalent(value, interval)
            if equivalent:
                found[name] = equivalent
        return found

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that names the command that writes one."""
        return "Write one with synthbench sensitivity --real DIR --out."


def read_back(card: Scorecard, study: Sensitivity) -> Scorecard:
    """Return the scorecard with its values read back on the curves of their metrics.

    A value is read back as the damage to real volumes that scores the same: one record per
    corruption in `Value.equivalents`. A value has none where the study has another cohort, grid,
    extractor, setting or n, or where the curve cannot be read backwards. Where no value has any,
    a note says so.
    """
    values = tuple(
        value.model_copy(update={"equivalents": _equivalents(card, value, study)})
        for value in card.values
    )
    notes = card.notes
    if not any(value.equivalents for value in values):
        notes += (
            "no value can be read back on the sensitivity curves: they have another cohort, grid, "
            "extractor or number of volumes, or they turn back",
        )
    return card.model_copy(update={"values": values, "notes": notes})


def _equivalents(card: Scorecard, value: Value, study: Sensitivity) -> tuple[EquivalentRecord, ...]:
    """Return the damage that scores like a row, whose value at the curves' n is `synth_mean`."""
    floor = value.floor
    if floor is None or value.value is None:
        return ()
    if study.real.fingerprint != card.real.fingerprint:
        return ()
    if not _alike(study.protocol, card.protocol, value):
        return ()
    # The interval belongs to the value at the full n: it is shifted to the value at this n.
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
    """Return True where protocols agree in all that a value depends on but numbers of volumes."""
    key = str(value.key.job)
    extractors = [
        next((e for e in p.extractors if e.name == value.extractor), None) for p in (one, other)
    ]
    return (
        one.space == other.space
        and one.mask == other.mask
        and (value.extractor is None or one.background == other.background)
        and extractors[0] == extractors[1]
        and key in one.settings
        and one.settings[key] == other.settings.get(key)
    )
