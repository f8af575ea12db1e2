"""The findings of preflight's rules: the record, and functions that make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One finding of a rule.

    Attributes
    ----------
    rule
        A name in `synthbench.cohorts.preflight.check.RULES`.
    severity
        "error" stops a run, "warning" is kept in the scorecard, "note" is only printed.
    role
        The cohort; for a mismatch, the one that is compared with the real one.
    volumes
        Names of the volumes; empty where it is the whole set.
    message
        The finding, the volumes, and how to fix it.
    summary
        The finding and the number of volumes, without names: names of participants do not belong
        in a scorecard.
    """

    rule: str
    severity: Severity
    role: str
    volumes: tuple[str, ...]
    message: str
    summary: str


def if_any(
    rule: str,
    severity: Severity,
    role: str,
    volumes: Sequence[tuple[str, str]],
    what: str,
    fix: str,
) -> list[Finding]:
    """Return the finding of `of_volumes` as a list; empty where there are no volumes."""
    return [of_volumes(rule, severity, role, volumes, what, fix)] if volumes else []


def of_set(rule: str, severity: Severity, role: str, message: str) -> Finding:
    """Return a finding on a set as a whole."""
    return Finding(rule, severity, role, (), message, summary=message)


def of_volumes(
    rule: str,
    severity: Severity,
    role: str,
    volumes: Sequence[tuple[str, str]],
    what: str,
    fix: str,
) -> Finding:
    """Return a finding on volumes.

    Parameters
    ----------
    volumes
        Pairs of a name and a detail of this volume.
    what, fix
        The finding that they share, and how to fix it.
    """
    ordered = sorted(volumes)
    shown = [f"{name} ({detail})" if detail else name for name, detail in ordered[:_SHOWN]]
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return Finding(
        rule=rule,
        severity=severity,
        role=role,
        volumes=tuple(name for name, _ in ordered),
        message=f"{what}: {', '.join(shown)}{more}. {fix}",
        summary=f"{what}: {len(ordered)} volumes",
    )
