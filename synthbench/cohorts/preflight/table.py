"""A preflight report for people and for scripts: the properties and faults of a cohort."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from synthbench.cohorts.inspection import Inspection
from synthbench.cohorts.preflight.check import Report
from synthbench.cohorts.preflight.survey import Power, inspection_of
from synthbench.cohorts.reading import grouped
from synthbench.volumes.image_file import without_suffix

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def properties(report: Report) -> dict[str, str]:
    """Return the properties of the volumes, as lines; empty where no volume could be read.

    Values that differ are given as median, least and greatest, or with their counts.
    """
    if not report.entries:
        return {}
    inspections = [inspection_of(entry) for entry in report.entries]
    placements = [inspection.placement for inspection in inspections]
    return {
        "volumes": f"{len(inspections)} of {len({e.subject for e in report.entries})} subjects",
        "files": _counts(
            entry.path.name[len(without_suffix(entry.path.name)) :].lower()
            for entry in report.entries
        ),
        "stored axes": _counts(inspection.orientation for inspection in inspections),
        "grid (as RAS)": _counts(str(inspection.grid) for inspection in inspections),
        "geometry": _counts("assumed" if i.assumed else "from the file" for i in inspections),
        "data type": _counts(inspection.dtype for inspection in inspections),
        "scaling rule": _scaling(inspections),
        "least value": _range(inspection.low for inspection in inspections),
        "greatest value": _range(inspection.high for inspection in inspections),
        "99.9th percentile": _range(inspection.scale for inspection in inspections),
        "background": _range(inspection.background[1] for inspection in inspections),
        "non-zero voxels": _range((100 * i.nonzero for i in inspections), " %"),
        "foreground clipped": _range((100 * i.clipped for i in inspections), " %"),
        "skull-stripped": _state([placement.stripped for placement in placements]),
        "registered to MNI152": _state([placement.registered for placement in placements]),
        "overlap with MNI152 brain": _range((p.overlap for p in placements), " (Dice)"),
        "correlation with MNI152": _range(placement.agreement for placement in placements),
        "foreground": _range((p.foreground_ml for p in placements), " mL"),
        "left and right": _left_right(report.power),
        "identical volumes": _identical([entry.digest for entry in report.entries]),
        "participants table": _participants(report),
    }


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON values: properties, findings, unusable files, every volume."""
    odd = report.odd()
    return {
        "listed": report.listed,
        "failed": report.failed,
        "properties": properties(report),
        "findings": [
            {
                "rule": f.rule,
                "severity": f.severity,
                "volumes": list(f.volumes),
                "message": f.message,
            }
            for f in report.findings
        ],
        "unusable": report.unusable,
        "notes": list(report.notes),
        "volumes": {
            entry.name: {**_numbers(inspection_of(entry)), "rules": odd.get(entry.name, [])}
            for entry in report.entries
        },
    }


def as_table(report: Report) -> Any:
    """Return a report as tables for a terminal: properties, findings, the volumes they name."""
    from rich.console import Group

    from synthbench.render.terminal import Table, Text

    parts: list[Any] = []
    known = properties(report)
    if known:
        table = Table(show_header=False)
        for name, text in known.items():
            table.add_row(Text(name, style="bold"), text)
        parts.append(table)
    parts += [Text(note, style="cyan") for note in report.notes]
    if report.unusable:
        parts += [Text(), Text(f"{len(report.unusable)} unusable files", style="bold red")]
        table = Table(show_header=False)
        for names, why in grouped(report.unusable):
            table.add_row(names, why)
        parts.append(table)
    if report.findings:
        table = Table("", "rule", "finding")
        for f in report.findings:
            table.add_row(Text(f.severity, style=_STYLES[f.severity]), f.rule, f.message)
        parts += [Text(), table]
    if report.odd():
        parts += [Text(), _odd_volumes(report)]
    if known and not report.findings and not report.unusable:
        parts += [Text(), Text("no findings", style="bold green")]
    return Group(*parts)


def _odd_volumes(report: Report) -> Any:
    from synthbench.render.terminal import Table

    titles = ("volume", "rules", "99.9 %", "overlap", "corr.", "mL", "non-zero", "clipped")
    table = Table(*titles)
    inspections = {entry.name: inspection_of(entry) for entry in report.entries}
    for name, rules in report.odd().items():
        i = inspections[name]
        p = i.placement
        table.add_row(
            name, ", ".join(dict.fromkeys(rules)), f"{i.scale:.4g}", f"{p.overlap:.2f}",
            f"{p.agreement:.2f}", f"{p.foreground_ml:.0f}", f"{i.nonzero:.0%}", f"{i.clipped:.1%}",
        )  # fmt: skip
    return table


def _numbers(inspection: Inspection) -> dict[str, Any]:
    placement = inspection.placement
    numbers = {
        "orientation": inspection.orientation,
        "shape": inspection.stored.shape,
        "spacing": inspection.stored.spacing,
        "affine": inspection.stored.affine,
        "assumed": inspection.assumed,
        "dtype": inspection.dtype,
        "slope": inspection.slope,
        "inter": inspection.inter,
        "low": inspection.low,
        "high": inspection.high,
        "scale": inspection.scale,
        "background": inspection.background,
        "nonzero": inspection.nonzero,
        "negative": inspection.negative,
        "clipped": inspection.clipped,
        "stripped": placement.stripped,
        "registered": placement.registered,
        "overlap": placement.overlap,
        "agreement": placement.agreement,
        "centre_mm": placement.centre_mm,
        "foreground_ml": placement.foreground_ml,
    }
    return {name: _plain(value) for name, value in numbers.items()}


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has no NaN and no tuple."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _counts(labels: Iterable[str]) -> str:
    counts = Counter(labels).most_common()
    if len(counts) == 1:
        return counts[0][0]
    more = f", and {len(counts) - 4} others" if len(counts) > 4 else ""
    return ", ".join(f"{label} ({count})" for label, count in counts[:4]) + more


def _range(values: Iterable[float], unit: str = "") -> str:
    known = np.array([value for value in values if np.isfinite(value)])
    if not known.size:
        return "not known"
    low, middle, high = (f"{x:.4g}" for x in (known.min(), np.median(known), known.max()))
    if low == high:
        return f"{low}{unit}"
    return f"median {middle}, from {low} to {high}{unit}"


def _state(states: Sequence[bool | None]) -> str:
    counts = Counter(states)
    label = {True: "yes", False: "no", None: "not known"}
    if len(counts) == 1:
        return label[states[0]]
    listed = ", ".join(f"{label[state]} {count}" for state, count in counts.most_common())
    return f"mixed ({listed})"


def _scaling(inspections: Sequence[Inspection]) -> str:
    rules = {(i.slope, i.inter) for i in inspections}
    if rules == {(1.0, 0.0)}:
        return "none"
    if len(rules) <= 4:
        return _counts(f"value = {i.slope:.6g} x stored + {i.inter:.6g}" for i in inspections)
    return f"{len(rules)} different rules: stored values cannot be compared"


def _left_right(power: Power | None) -> str:
    if power is None:
        return "not known: too few volumes on one grid"
    distance = f"a mirrored volume lies {max(power.separation, 0):.1f} standard deviations away"
    if power.sees_flips:
        return f"a mirrored volume would be found ({distance})"
    return f"a mirrored volume may not be found ({distance})"


def _identical(digests: Sequence[str]) -> str:
    repeated = sum(count for count in Counter(digests).values() if count > 1)
    return str(repeated) if repeated else "none"


def _participants(report: Report) -> str:
    table = report.participants
    if table.empty:
        return "none"
    # A person with several volumes counts once.
    people = sorted({entry.subject for entry in report.entries})
    rows = table.reindex(people)
    listed = sum(person in table.index for person in people)
    parts = [f"{listed} of {len(people)} subjects"]
    for column in ("age", "sex"):
        if column in rows:
            parts.append(_covered(column, rows[column]))
        else:
            parts.append(f"no {column}")
    return "; ".join(parts)


def _covered(column: str, values: pd.Series[Any]) -> str:
    known = values.dropna()
    missing = f", n/a for {len(values) - len(known)}" if len(known) < len(values) else ""
    if known.empty:
        return f"{column} n/a"
    if pd.api.types.is_numeric_dtype(known):
        return f"{column} {known.min():.0f} to {known.max():.0f}{missing}"
    return f"{column} {_counts(str(value) for value in known)}{missing}"
