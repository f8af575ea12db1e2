"""Checks of cohorts before anything is trained or scored: faults that would make numbers wrong.

A rule looks at the measurements that were made when the volumes were read
(`synthbench.cohorts.inspection`). It says what is wrong with which volumes and how to fix it. A
fault that makes numbers wrong is an error in real volumes, and between whole sets. In a synthetic
volume it is a warning, because the generator's failures are what is measured. An error stops the
run until it is fixed, or accepted by the rule's name.

Outliers are found by robust deviations from the set's own median, so that each cohort is compared
with itself. docs/preflight.md gives each threshold and its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort, Entry
from synthbench.cohorts.preflight.file_rules import OF_FILES
from synthbench.cohorts.preflight.findings import Finding, of_set
from synthbench.cohorts.preflight.pair_rules import BETWEEN, Pair, shared
from synthbench.cohorts.preflight.privacy import privacy
from synthbench.cohorts.preflight.set_rules import WITHIN
from synthbench.cohorts.preflight.survey import Power, Survey, inspection_of
from synthbench.cohorts.reading import PREPARE, examine, verify_split
from synthbench.errors import CohortError, UsageError, near_miss
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.volumes.grid import Space

RULES: dict[str, str] = {
    "files": "it is said which files are left out of a cohort",
    "participants": "it is said what of a table is read by a rule",
    "few": "at least 4 subjects, and 30 for narrow intervals and floors",
    "voxel-size": "the field of view and the brains have the size of a human head",
    "sform-qform": "the two affines of a NIfTI header do not contradict each other",
    "assumed-grid": "files state the grid that --assume-grid gives",
    "nan-background": "no background is NaN",
    "scaling": "scaling rules are numbers",
    "units": "headers state lengths in mm",
    "file-name": "files are what their names say",
    "orientation": "files store their axes in one order",
    "flip": "no volume fits the others, or MNI152, better when mirrored or with axes exchanged",
    "shift": "no brain is displaced from the others by millimetres",
    "scale": "intensities have the same magnitude",
    "size": "no brain is much larger or smaller than the others",
    "registered": "brains are in the place of the MNI152 brain",
    "skull": "brains are skull-stripped",
    "background": "the background of skull-stripped volumes is zero",
    "clipped": "bright tissue is not clipped at a maximum",
    "negative": "intensities are not negative",
    "label-maps": "volumes hold intensities, not labels",
    "identical": "no two volumes of a set are identical",
    "near-identical": "no two volumes of a set are one image, saved again or changed faintly",
    "identical-across": "no volume is in two sets",
    "near-identical-across": "no volume is in two sets, saved again or changed faintly",
    "subjects": "no person is in two sets",
    "skull-mismatch": "both sets are skull-stripped, or neither",
    "registered-mismatch": "both sets are registered to MNI152, or neither",
    "range-mismatch": "both sets have intensities of the same kind",
    "flip-mismatch": "neither set is mirrored relative to the other",
    "shift-mismatch": "the sets' mean brains are in the same place",
    "voxel-size-mismatch": "both sets have brains and voxels of one size",
    "background-mismatch": "both sets have a zero background, or neither",
}
"""The requirement of each rule, by the name that `--accept` takes."""


def findings_within(cohort: Cohort, role: str) -> list[Finding]:
    """Return what the rules on one set find.

    Parameters
    ----------
    cohort
        From `read_cohort`.
    role
        "real", "train", "validation", "holdout" or "synth". In the last, a fault of single volumes
        is a warning.

    Returns
    -------
    Errors first.
    """
    return _ordered([*_told(cohort, role), *_within(Survey(cohort.entries), role)])


def findings_between(cohorts: Mapping[str, Cohort]) -> list[Finding]:
    """Return what the rules on two sets find: each set with "real", and all for shared volumes.

    Parameters
    ----------
    cohorts
        By role: "real", "synth", "train", "validation", "holdout"; any may be absent.
    """
    return _between({role: Survey(cohort.entries) for role, cohort in cohorts.items()})


def check_rules(names: Iterable[str]) -> None:
    """Check that names to accept are names of rules.

    Raises
    ------
    UsageError
        One is not; the nearest rule is named.
    """
    for rule in names:
        if rule not in RULES:
            raise UsageError(f"--accept {rule}: no such rule; {near_miss(rule, RULES)}")


def check(
    cohorts: Mapping[str, Cohort],
    accepted: Collection[str] = (),
    log: Log = to_logger,
    *,
    drawn: Collection[str] = (),
) -> list[Finding]:
    """Apply all rules, and raise an error where one finds an error that was not accepted.

    Parameters
    ----------
    cohorts
        By role.
    accepted
        Names of rules whose errors are accepted.
    log
        Called with each finding that is accepted or no error.
    drawn
        Roles of volumes that a run of synthbench drew, and that lie on the run's grid: how their
        anatomy differs from that of the real ones is the generator's, and a warning.

    Returns
    -------
    The findings that a scorecard keeps: accepted errors, and warnings.

    Raises
    ------
    UsageError
        `accepted` has a name that is not a rule's.
    CohortError
        A rule found an error that was not accepted; all of them are listed.
    """
    check_rules(accepted)
    surveys = {role: Survey(cohort.entries) for role, cohort in cohorts.items()}
    found = [finding for role, cohort in cohorts.items() for finding in _told(cohort, role)]
    found += [finding for role, survey in surveys.items() for finding in _within(survey, role)]
    found = _ordered([*found, *_between(surveys, drawn)])
    refused = [f for f in found if f.severity == "error" and f.rule not in accepted]
    if refused:
        for finding in found:
            if finding.rule == "files":  # what was left out may be the cause
                log(f"{finding.severity}: {finding.role}: {finding.message}")
        rules = dict.fromkeys(finding.rule for finding in refused)
        listed = "\n  ".join(f"{f.rule} ({f.role}): {f.message}" for f in refused)
        raise CohortError(
            f"preflight: {len(refused)} finding{'s' if len(refused) > 1 else ''} would make "
            f"numbers wrong:\n  {listed}\n"
            "Fix them. If a finding is intended, accept it with "
            + " ".join(f"--accept {rule}" for rule in rules)
            + ", and it is recorded."
        )
    for finding in found:
        accepted_as = " (accepted)" if finding.severity == "error" else ""
        log(f"{finding.severity}{accepted_as}: {finding.role}: {finding.message}")
    return [finding for finding in found if finding.severity != "note"]


@dataclass(frozen=True)
class Report:
    """The results of preflight for one cohort, with its unusable files.

    Attributes
    ----------
    listed
        Number of examined files.
    entries
        The volumes that were measured, by name.
    participants
        One row per subject; empty where no table was found.
    notes
        Skipped files, an assumed grid.
    unusable
        For each file that is not part of the cohort, by name, the fault and how to fix it.
    findings
        Errors first. In addition to `RULES`, "grid" (each scan has a grid of its own), and the
        rules of `synthbench.cohorts.preflight.privacy`.
    power
        How well a left-right flip can be found; None where volumes cannot be compared.
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
        """True where a file is unusable or a rule found an error."""
        return bool(self.unusable) or any(f.severity == "error" for f in self.findings)

    def odd(self) -> dict[str, list[str]]:
        """Return the rules of the findings on each volume, by its name; errors first."""
        rules: dict[str, list[str]] = {}
        for finding in self.findings:
            for name in finding.volumes:
                rules.setdefault(name, []).append(finding.rule)
        return rules


def report(
    path: Path | str | CohortFiles,
    assume_grid: Space | float | None = None,
    progress: Callable[[int], None] | None = None,
    *,
    identifiers: bool = False,
) -> Report:
    """Return all findings on a cohort; neither unusable files nor errors stop it.

    Parameters
    ----------
    path, assume_grid, progress
        As for `read_cohort`.
    identifiers
        True: findings on privacy print what they found, not only where.

    Raises
    ------
    CohortError
        The path holds no volumes, or the manifest cannot be used.
    """
    found = examine(path, assume_grid=assume_grid, progress=progress)
    unusable = dict(found.problems)
    if found.cohort is None:
        return Report(found.listed, (), pd.DataFrame(), (), unusable, (), None)
    entries = found.cohort.entries
    if not unusable:
        try:
            verify_split(path, found.cohort)
        except CohortError as error:
            unusable[Path(str(path)).name] = str(error)
    findings = []
    # Where most volumes share a grid, another grid is a mistake. Otherwise these are scans from the
    # scanner that are not prepared yet.
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
        findings=tuple(
            _ordered(
                [
                    *_told(found.cohort, "cohort"),
                    *_within(survey, "cohort"),
                    *privacy(Path(str(path)), survey, "cohort", identifiers=identifiers),
                    *findings,
                ]
            )
        ),
        power=survey.power if survey.comparable else None,
    )


def _told(cohort: Cohort, role: str) -> list[Finding]:
    """Return what was decided when the cohort was read, as findings."""
    return [
        Finding(remark.rule, remark.severity, role, (), remark.message, remark.summary)
        for remark in cohort.remarks
    ]


def _own_grids(entries: Sequence[Entry]) -> Finding:
    grids = len({inspection_of(entry).grid for entry in entries})
    message = (
        f"{len(entries)} volumes have {grids} grids: scans that were not prepared. train and score "
        f"need volumes on one grid: {PREPARE}"
    )
    return of_set("grid", "warning", "cohort", message)


def _within(survey: Survey, role: str) -> list[Finding]:
    return _ordered(finding for rule in (*OF_FILES, *WITHIN) for finding in rule(survey, role))


def _ordered(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: ("error", "warning", "note").index(f.severity))


def _between(surveys: Mapping[str, Survey], drawn: Collection[str] = ()) -> list[Finding]:
    found = shared(surveys)
    if "real" in surveys:
        for role, survey in surveys.items():
            if role != "real":
                pair = Pair(surveys["real"], survey, role, drawn=role in drawn)
                found += [finding for rule in BETWEEN for finding in rule(pair)]
    return _ordered(found)
