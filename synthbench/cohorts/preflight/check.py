"""Checks of cohorts before anything is trained or scored: what would make numbers wrong.

A rule looks at what was measured of the volumes as they were read
(`synthbench.cohorts.inspection`), and says what is wrong with which volumes and how to fix it.
What makes numbers wrong is an error in real volumes, and between whole sets; an odd synthetic
volume is a warning, as the generator's failures are what is measured. An error stops the run until
it is fixed, or accepted by name.

Outliers are judged by robust deviations from the set's own median, so that any cohort is its
own yardstick; docs/preflight.md gives each threshold and its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synthbench.cohorts.cohort import Cohort, Entry
from synthbench.cohorts.preflight.findings import Finding, of_set
from synthbench.cohorts.preflight.pair_rules import BETWEEN, Pair, shared
from synthbench.cohorts.preflight.set_rules import WITHIN
from synthbench.cohorts.preflight.survey import Power, Survey, inspection_of
from synthbench.cohorts.reading import PREPARE, examine
from synthbench.cohorts.split_record import verify
from synthbench.errors import CohortError, UsageError, near_miss
from synthbench.runtime.callbacks import Log, no_log
from synthbench.volumes.grid import Space

RULES: dict[str, str] = {
    "few": "at least 4 subjects, and 30 for narrow intervals and floors",
    "orientation": "files store their axes in one order",
    "flip": "no volume fits the others, or MNI152, better when mirrored or with axes exchanged",
    "shift": "no brain lies millimetres off the others",
    "scale": "intensities are of one magnitude",
    "size": "no brain is much larger or smaller than the others",
    "registered": "brains lie where the MNI152 brain does",
    "skull": "brains are skull-stripped",
    "background": "the background of skull-stripped volumes is zero",
    "clipped": "bright tissue is not cut off at a greatest value",
    "negative": "intensities are not negative",
    "identical": "no two volumes of a set are identical",
    "identical-across": "no volume is in two sets",
    "subjects": "nobody is on two sides",
    "skull-mismatch": "both sets are skull-stripped, or neither",
    "registered-mismatch": "both sets are registered to MNI152, or neither",
    "range-mismatch": "both sets hold intensities of one kind",
    "flip-mismatch": "the sets are not mirrored against each other",
    "shift-mismatch": "the sets' mean brains lie in one place",
    "background-mismatch": "both sets have a zero background, or neither",
}
"""What each rule asks for: the names that `--accept` takes."""


def findings_within(cohort: Cohort, role: str) -> list[Finding]:
    """Apply the rules on one set.

    Parameters
    ----------
    cohort
        As `read_cohort` gives it.
    role
        "real", "train", "validation", "holdout" or "synth": in the last, what is odd in single
        volumes is a warning.

    Returns
    -------
    Errors first.
    """
    return _within(Survey(cohort.entries), role)


def findings_between(cohorts: Mapping[str, Cohort]) -> list[Finding]:
    """Apply the rules on pairs of sets: each against "real", and all for shared volumes.

    Parameters
    ----------
    cohorts
        By role: "real", "synth", "train", "validation", "holdout"; any may be absent.
    """
    return _between({role: Survey(cohort.entries) for role, cohort in cohorts.items()})


def check_rules(names: Iterable[str]) -> None:
    """Check that names to accept are rules.

    Raises
    ------
    UsageError
        One is not; the nearest is named.
    """
    for rule in names:
        if rule not in RULES:
            raise UsageError(f"--accept {rule}: no such rule; {near_miss(rule, RULES)}")


def check(
    cohorts: Mapping[str, Cohort],
    accepted: Collection[str] = (),
    log: Log = no_log,
) -> list[Finding]:
    """Apply all rules, and stop where one finds an error that was not accepted.

    Parameters
    ----------
    cohorts
        By role.
    accepted
        Names of rules whose errors stop nothing.
    log
        Called with what is found and stops nothing.

    Returns
    -------
    What a scorecard keeps: errors that were accepted, and warnings.

    Raises
    ------
    UsageError
        `accepted` holds a name that is no rule.
    CohortError
        A rule found an error that was not accepted; all of them are listed.
    """
    check_rules(accepted)
    surveys = {role: Survey(cohort.entries) for role, cohort in cohorts.items()}
    found = [finding for role, survey in surveys.items() for finding in _within(survey, role)]
    found = _ordered([*found, *_between(surveys)])
    refused = [f for f in found if f.severity == "error" and f.rule not in accepted]
    if refused:
        rules = dict.fromkeys(finding.rule for finding in refused)
        listed = "\n  ".join(f"{f.rule} ({f.role}): {f.message}" for f in refused)
        raise CohortError(
            f"preflight: {len(refused)} finding{'s' if len(refused) > 1 else ''} would make "
            f"numbers wrong:\n  {listed}\n"
            "Fix them; or, where a finding is meant to be so, go on with "
            + " ".join(f"--accept {rule}" for rule in rules)
            + ", which is recorded."
        )
    for finding in found:
        accepted_as = " (accepted)" if finding.severity == "error" else ""
        log(f"{finding.severity}{accepted_as}: {finding.role}: {finding.message}")
    return [finding for finding in found if finding.severity != "note"]


@dataclass(frozen=True)
class Report:
    """All that preflight can say of one cohort, unusable files included.

    Attributes
    ----------
    listed
        How many files were looked at.
    entries
        The volumes that were measured, by name.
    participants
        One row a subject; empty where no table was found.
    notes
        Files passed over, a grid assumed.
    unusable
        For each file that is not part of the cohort, by name, what is wrong and what to do.
    findings
        Errors first. Beside `RULES`, "grid": the volumes are scans on grids of their own.
    power
        Whether a left-right flip could be seen; None where volumes cannot be compared.
    """

    listed: int
    entries: tuple[Entry, ...]
    participants: pd.DataFrame
    notes: tuple[str, ...]
    unusable: dict[str, str]
    findings: tuple[Finding, ...]
    power: Power | None

    @property
    def failed(self) -> bool:
        """Whether a file is unusable or a rule found an error."""
        return bool(self.unusable) or any(f.severity == "error" for f in self.findings)

    def odd(self) -> dict[str, list[str]]:
        """For each volume that findings name, their rules; errors' volumes first."""
        rules: dict[str, list[str]] = {}
        for finding in self.findings:
            for name in finding.volumes:
                rules.setdefault(name, []).append(finding.rule)
        return rules


def report(
    path: Path | str,
    assume_grid: Space | float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Look at a cohort, and stop at nothing: list unusable files and what rules find.

    Parameters
    ----------
    path, assume_grid, progress
        As for `read_cohort`.

    Raises
    ------
    CohortError
        The path holds no volumes, or the manifest cannot be used.
    """
    path = Path(path)
    found = examine(path, assume_grid=assume_grid, progress=progress)
    unusable = dict(found.problems)
    if found.cohort is None:
        return Report(found.listed, (), pd.DataFrame(), (), unusable, (), None)
    entries = found.cohort.entries
    if path.is_file() and not unusable:
        try:
            verify(path, entries)
        except CohortError as error:
            unusable[path.name] = str(error)
    findings = []
    # Where most volumes share a grid, another one is a mistake; where not, these are scans as
    # they left the scanner, which are yet to be prepared.
    if len(found.elsewhere) >= len(entries):
        entries += found.elsewhere
        for entry in found.elsewhere:
            del unusable[entry.name]
        findings.append(_own_grids(entries))
    survey = Survey(sorted(entries, key=lambda entry: entry.name))
    return Report(
        listed=found.listed,
        entries=survey.entries,
        participants=found.cohort.participants,
        notes=found.cohort.notes,
        unusable=unusable,
        findings=tuple(_ordered([*_within(survey, "cohort"), *findings])),
        power=survey.power if survey.comparable else None,
    )


def _own_grids(entries: Sequence[Entry]) -> Finding:
    grids = len({inspection_of(entry).grid for entry in entries})
    message = (
        f"{len(entries)} volumes have {grids} grids: scans that were not prepared. train and score "
        f"take volumes of one grid: {PREPARE}"
    )
    return of_set("grid", "warning", "cohort", message)


def _within(survey: Survey, role: str) -> list[Finding]:
    return _ordered(finding for rule in WITHIN for finding in rule(survey, role))


def _ordered(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: ("error", "warning", "note").index(f.severity))


def _between(surveys: Mapping[str, Survey]) -> list[Finding]:
    found = shared(surveys)
    if "real" in surveys:
        for role, survey in surveys.items():
            if role != "real":
                pair = Pair(surveys["real"], survey, role)
                found += [finding for rule in BETWEEN for finding in rule(pair)]
    return _ordered(found)
