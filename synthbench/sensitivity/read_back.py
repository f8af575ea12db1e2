"""The record of a sensitivity study, and values read back on its curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from synthbench.errors import MetricError, UsageError, near_miss
from synthbench.records.base import RecordFile, Upgrade
from synthbench.records.cohort import CohortRecord
from synthbench.records.protocol import Protocol, SpaceRecord
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import EquivalentRecord, Value
from synthbench.render.notebook import BAND, Shown, new_axes
from synthbench.runtime.text import in_figure
from synthbench.sensitivity.curve import Equivalent, Row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_DRAWN_OF_1 = (
    "mmd2", "fid", "coverage", "ms_ssim", "spectrum", "spectrum.seam_z", "intensity",
    "memorization",
)  # fmt: skip


def _upgrade_1_to_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a study's fields of schema 1, which did not store what is drawn, as schema 2's."""
    for row in fields["rows"]:
        row["drawn"] = row["metric"] in _DRAWN_OF_1
    return fields


class Sensitivity(Shown, RecordFile):
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

    @property
    def title(self) -> str:
        """The study in one line."""
        damage = dict.fromkeys(row.corruption for row in self.rows)
        return (
            f"{self.real.n} real volumes, {self.n} per side, damaged by {', '.join(damage)}: "
            f"{len(self.rows)} curves, protocol {self.protocol.hash}"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per corruption, metric and dose.

        Returns
        -------
        Columns `corruption`, `metric`, `label`, `extractor`, `dose`, `unit`, `value`, `low`,
        `high`, `floor`, `floor_low`, `floor_high`, and `leaves_floor`: the dose from which on the
        metric sees the damage; NaN where it does not.
        """
        import pandas as pd

        rows = []
        for row in self.rows:
            curve = row.curve
            for i, dose in enumerate(curve.doses):
                low, high = (None, None) if curve.intervals is None else curve.intervals[i]
                rows.append({
                    "corruption": row.corruption, "metric": row.metric, "label": row.label,
                    "extractor": row.extractor, "dose": dose, "unit": curve.unit,
                    "value": curve.values[i], "low": low, "high": high,
                    "floor": curve.floor.mean, "floor_low": curve.floor.low,
                    "floor_high": curve.floor.high, "leaves_floor": row.leaves_floor,
                })  # fmt: skip
        return pd.DataFrame(rows)

    def plot(self, corruption: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw the curves of all metrics under one kind of damage; return the axes.

        Each curve is the distance from the floor's mean in the floor's half-widths: the band is
        the floor.

        Parameters
        ----------
        corruption
            The damage; None: the first of the study.

        Raises
        ------
        UsageError
            There is no such damage in the study.
        """
        names = list(dict.fromkeys(row.corruption for row in self.rows))
        chosen = corruption or (names or [""])[0]
        rows = [row for row in self.rows if row.corruption == chosen]
        if not rows:
            raise UsageError(f"plot: no damage '{chosen}': {near_miss(chosen, names)}")
        ax = new_axes(ax)
        ax.axhspan(-1, 1, color=BAND, lw=0)
        for row in rows:
            name = f"{row.label} | {row.extractor}" if row.extractor else row.label
            ax.plot(
                row.curve.doses, row.curve.in_half_widths(row.curve.values), "o-", ms=3,
                label=in_figure(name),
            )  # fmt: skip
        ax.set_yscale("symlog", linthresh=2)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(in_figure(f"{rows[0].corruption_label}, {rows[0].curve.unit}"))
        ax.set_ylabel("distance from real vs real, in half-widths of the floor")
        ax.legend(fontsize=7, frameon=False)
        return ax

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


ROUNDING = 1e-5
"""Relative difference that is rounding: files keep the affine with seven digits, records with 16.

A bandwidth that was measured on one grid twice differs by as much.
"""

_Found = tuple[EquivalentRecord, ...] | str
"""The damage that scores like a value, or the reason why there is none."""


def read_back(card: Scorecard, study: Sensitivity) -> Scorecard:
    """Return the scorecard with its values read back on the curves of their metrics.

    A value is read back as the damage to real volumes that scores the same: one record per
    corruption in `Value.equivalents`. A value has none where the study has another cohort, grid,
    mask, extractor, setting or n, or where the curve cannot be read backwards. Where no value has
    any, a note says which of these it was, for each value.
    """
    found = {value.key: _equivalents(card, value, study) for value in card.values}
    values = tuple(
        value.model_copy(update={"equivalents": () if isinstance(one, str) else one})
        for value in card.values
        for one in (found[value.key],)
    )
    notes = card.notes
    if not any(value.equivalents for value in values):
        labels: dict[str, list[str]] = {}
        for value in values:
            reason = found[value.key]
            if isinstance(reason, str):
                labels.setdefault(reason, []).append(value.label)
        causes = "; ".join(
            reason if len(labels) == 1 else f"{', '.join(dict.fromkeys(of))}: {reason}"
            for reason, of in labels.items()
        )
        notes += (f"no value can be read back on the sensitivity curves. {causes}",)
    return card.model_copy(update={"values": values, "notes": notes})


def _equivalents(card: Scorecard, value: Value, study: Sensitivity) -> _Found:
    """Return the damage that scores like a row, whose value at the curves' n is `synth_mean`."""
    floor = value.floor
    if floor is None or value.value is None:
        return "it has no value, or no floor"
    if study.real.fingerprint != card.real.fingerprint:
        return "the curves are of other real volumes: measure them on these, or score with those"
    different = _difference(study.protocol, card.protocol, value)
    if different is not None:
        return different
    rows = [
        row for row in study.rows if (row.metric, row.extractor) == (value.metric, value.extractor)
    ]
    if not rows:
        return "the study has no curve of it: add its --metric and --extractor there"
    of_this_n = [row for row in rows if row.curve.floor.n == floor.n]
    if not of_this_n:
        counts = ", ".join(str(n) for n in sorted({row.curve.floor.n for row in rows}))
        return f"the curves have {counts} volumes per side, and the value has {floor.n}"
    # The interval belongs to the value at the full n: it is shifted to the value at this n.
    ends = None
    if value.interval is not None:
        moved = floor.synth_mean - value.value
        ends = (value.interval.low + moved, value.interval.high + moved)
    found = []
    for row in of_this_n:
        equivalent = row.curve.equivalent(floor.synth_mean, ends)
        if equivalent is None:
            continue
        found.append(
            EquivalentRecord(
                corruption=row.corruption, sentence=row.sentence(equivalent), text=str(equivalent),
                relation=equivalent.relation, dose=equivalent.dose, low=equivalent.low,
                high=equivalent.high, unit=equivalent.unit,
            )
        )  # fmt: skip
    return tuple(found) or "its curves turn back, or never leave the floor"


def _difference(one: Protocol, other: Protocol, value: Value) -> str | None:
    """Return in what protocols differ that a value depends on, but numbers of volumes; or None."""
    if not one.space.grid.same_grid(other.space.grid):
        return (
            f"the curves are on another grid ({_grid(one)}) than the value ({_grid(other)}): score "
            "with --space or measure the curves with --like"
        )
    if _rules(one.space) != _rules(other.space):
        return "the curves have another rule of intensities or of resampling"
    if value.extractor is not None and one.background != other.background:
        return "the curves have another rule of the background"
    if not _same_mask(one, other):
        return "the curves have another mask"
    if value.extractor is not None:
        records = [{e.name: e for e in p.extractors}.get(value.extractor) for p in (one, other)]
        if records[0] is None:
            return f"the study has no curve by {value.extractor}"
        if records[0] != records[1]:
            return f"the curves are of other weights or another version of {value.extractor}"
    key = str(value.key.job)
    if key not in one.settings:
        return "the study has no curve of it: add its --metric and --extractor there"
    if not _close(one.settings[key], other.settings.get(key)):
        return "the metric's settings differ (bandwidth, k, window, scales or formula)"
    return None


def _grid(protocol: Protocol) -> str:
    grid = protocol.space.grid
    return f"{' x '.join(map(str, grid.shape))} at {max(grid.spacing):.4g} mm"


def _rules(space: SpaceRecord) -> dict[str, Any]:
    return space.model_dump(exclude={"shape", "affine"})


def _same_mask(one: Protocol, other: Protocol) -> bool:
    """Return True for one mask, or for the masks of grids that differ by the rounding of files.

    On such a grid a voxel at the mask's threshold may change sides.
    """
    if one.mask == other.mask:
        return True
    apart = abs(one.mask.voxels - other.mask.voxels)
    return (
        one.space.affine != other.space.affine
        and one.mask.rule == other.mask.rule
        and apart <= max(1, ROUNDING * one.mask.voxels)
    )


def _close(a: Any, b: Any) -> bool:
    """Return True where two JSON values agree, their numbers but for rounding."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_close(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(_close(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=ROUNDING)
    return bool(a == b)
