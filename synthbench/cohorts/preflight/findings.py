"""What the rules of preflight find: the record, and how one is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes
    ----------
    rule
        A name in `synthbench.cohorts.preflight.check.RULES`.
    severity
        "error" stops a run, "warning" is kept in the scorecard, "note" is said.
    role
        The cohort, or for a mismatch the one that is compared with the real one.
    volumes
        Names of the volumes in question; empty where it is the whole set.
    message
        What was found, with which volumes, and how to fix it.
    summary
        What was found and in how many volumes: names of participants do not belong in a
        scorecard.
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
    words: str,
    fix: str,
) -> list[Finding]:
    """A finding on volumes, or none where there are no volumes; see `of_volumes`."""
    return [of_volumes(rule, severity, role, volumes, words, fix)] if volumes else []


def of_set(rule: str, severity: Severity, role: str, message: str) -> Finding:
    """A finding on a set as a whole."""
    return Finding(rule, severity, role, (), message, summary=message)


def of_volumes(
    rule: str,
    severity: Severity,
    role: str,
    volumes: Sequence[tuple[str, str]],
    words: str,
    fix: str,
) -> Finding:
    """A finding on volumes.

    Parameters
    ----------
    volumes
        Each by name, with what was found of it.
    words, fix
        What they have in common, and what to do.
    """
    ordered = sorted(volumes)
    shown = [f"{name} ({detail})" if detail else name for name, detail in ordered[:_SHOWN]]
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return Finding(
        rule=rule,
        severity=severity,
        role=role,
        volumes=tuple(name for name, _ in ordered),
        message=f"{words}: {', '.join(shown)}{more}. {fix}",
        summary=f"{words}: {len(ordered)} volumes",
    )
