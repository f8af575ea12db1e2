"""The three cohorts of a study with their labels, and the rule that they share no subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort, overlap
from synthbench.cohorts.conditions import rows_of
from synthbench.cohorts.preflight import check
from synthbench.cohorts.preflight.check import RULES
from synthbench.cohorts.preflight.findings import Finding
from synthbench.cohorts.preflight.near_identity import near_copies
from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.volume_table import VolumeTable, typed
from synthbench.errors import CohortError, UsageError, near_miss
from synthbench.runs.sidecar import Sidecar, drawn_by_synthbench, found_sidecars
from synthbench.runtime.callbacks import Log, Progress, checking
from synthbench.utility.probe import Task

Label = float | str | None
Source = Path | str | CohortFiles | Cohort
"""A cohort, or what `read_cohort` reads."""


@dataclass(frozen=True)
class Labelled:
    """A cohort in which every volume has a label.

    Attributes
    ----------
    cohort
        Volumes without a label are left out of it.
    labels
        1 for the positive class, 0 for the negative; or the number itself.
    left_out
        The number of volumes without a label.
    """

    cohort: Cohort
    labels: Float64[np.ndarray, " n"]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def subjects(self) -> Int64[np.ndarray, " n"]:
        """The number of each volume's subject."""
        return self.cohort.subjects

    def subset(self, rows: Sequence[int] | Int64[np.ndarray, " k"]) -> Labelled:
        """Return the volumes of these rows."""
        chosen = [int(row) for row in rows]
        return Labelled(self.cohort.subset(chosen), self.labels[chosen])


@dataclass(frozen=True)
class LabelRule:
    """The conversion of a label to a number.

    Attributes
    ----------
    name
        The column.
    task
        Classification or regression.
    levels
        The two classes as text, the positive one last; empty for a regression.
    """

    name: str
    task: Task
    levels: tuple[str, ...] = ()

    def number(self, label: Label, role: str) -> float:
        """Return the number of a label that is not missing.

        Raises
        ------
        UsageError
            It is another class, or not a number.
        """
        if self.task == "regression":
            if isinstance(label, float):
                return label
            raise UsageError(f"{role}: --label {self.name} must be numbers; found '{label}'.")
        text = _text(label)
        if text not in self.levels:
            raise UsageError(
                f"{role}: --label {self.name} is {' or '.join(self.levels)} in the real cohort; "
                f"found '{text}'. Use the same labels in all cohorts."
            )
        return float(self.levels.index(text))


def read_side(
    source: Source,
    role: str,
    assume_grid: float | None,
    progress: Progress | None,
    *,
    count_failures: bool = False,
) -> Cohort:
    """Return a cohort of a study; it is read where a path is given."""
    if isinstance(source, Cohort):
        return source
    return read_cohort(
        source, role=role, assume_grid=assume_grid, progress=checking(role, progress),
        count_failures=count_failures,
    )  # fmt: skip


def read_sides(
    real: Source,
    synth: Source,
    test: Source,
    *,
    assume_grid: float | None,
    count_failures: bool,
    accept: Sequence[str],
    progress: Progress | None,
    log: Log,
) -> tuple[dict[str, Cohort], list[str]]:
    """Return the three cohorts of a study by role, and notes for the reader of the record.

    Raises
    ------
    SynthbenchError
        One cannot be read, they share subjects (`check_apart`), or preflight finds an error.
    """
    sides = (("real", real), ("synth", synth), ("test", test))
    cohorts = {
        role: read_side(
            source, role, assume_grid, progress, count_failures=count_failures and role == "synth"
        )
        for role, source in sides
    }
    notes = [f"{role}: {note}" for role, cohort in cohorts.items() for note in cohort.notes]
    notes += check_apart(cohorts["real"], cohorts["synth"], cohorts["test"])
    trained_on = {role: cohorts[role] for role in ("real", "synth")}
    synth = cohorts["synth"]
    drawn = ("synth",) if drawn_by_synthbench(sidecars(synth), synth.grid) else ()
    notes += accepted_notes(check.check(trained_on, accept, log, drawn=drawn))
    for remark in cohorts["test"].remarks:
        log(f"{remark.severity}: test: {remark.message}")
    return cohorts, notes


def failure_notes(synth: Cohort) -> list[str]:
    """Return the note on synthetic volumes that failed; none where they were not counted."""
    if synth.failed is None:
        return []
    reasons = Counter(failure.reason for failure in synth.failed)
    why = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
    share = len(synth.failed) / synth.available
    return [
        f"synth: {len(synth.failed)} of {synth.available} volumes failed ({share:.1%}) and are "
        f"left out{f' ({why})' if why else ''}"
    ]


def real_labels(cohort: Cohort, name: str, role: str) -> list[Label]:
    """Return the labels of a real cohort, from its participants table.

    Raises
    ------
    UsageError
        There is no table, or no such column (the nearest is named).
    """
    try:
        return [row[name] for row in rows_of(cohort, [name])]
    except UsageError as error:
        raise UsageError(f"--label {name}: {role}: {error}") from error


def synth_labels(cohort: Cohort, name: str, folder: Path | None, file: Path | None) -> list[Label]:
    """Return the labels of synthetic volumes.

    They come from the first of these that exists: `file` (`--synth-labels`), `conditions.tsv`
    beside the volumes, a participants table, the "conditions" of their sidecars.

    Raises
    ------
    UsageError
        None of them exists, or the first has no such column, or no row for some volume.
    """
    beside = None if folder is None else folder / "conditions.tsv"
    if file is not None or (beside is not None and beside.is_file()):
        option = f"--label {name}: synth:" if file is None else "--synth-labels"
        table = VolumeTable.read(file or beside, option)  # type: ignore[arg-type]
        rows = table.rows(cohort, "synth")
        if rows is None:
            raise UsageError(
                f"{table.file}: names none of the synthetic volumes. Name them by file or by "
                "participant_id."
            )
        if file is None and name not in table.columns:
            raise UsageError(
                f"{table.file}: no column '{name}'; {near_miss(name, table.columns)} Or name a "
                f"table with --synth-labels FILE (columns file and {name})."
            )
        return table.values(name, rows)
    if not cohort.participants.empty:
        return real_labels(cohort, name, "synth")
    requested = [_conditions(sidecar) for sidecar in sidecars(cohort)]
    if not any(name in row for row in requested):
        raise UsageError(
            f"synth: --label {name} is not known for these volumes: there is no conditions.tsv, no "
            "participants.tsv, and no sidecar with conditions. Name a table with "
            f"--synth-labels FILE (columns file and {name})."
        )
    return [row.get(name) for row in requested]


def _conditions(sidecar: Mapping[str, object]) -> dict[str, Label]:
    stored = sidecar.get("conditions")
    if not isinstance(stored, dict):
        return {}
    return {k: float(v) if isinstance(v, (int, float)) else v for k, v in stored.items()}


def sidecars(cohort: Cohort) -> list[Sidecar]:
    """Return the sidecar of each volume; empty where there is none that can be read."""
    return found_sidecars(entry.path for entry in cohort.entries)


def generator_of(synth: Cohort) -> str | None:
    """Return the generator that all sidecars name; None where they name several or none."""
    names = {sidecar.get("generator") for sidecar in sidecars(synth)}
    only = names.pop() if len(names) == 1 else None
    return None if only is None else str(only)


def label_rule(
    name: str, labels: Sequence[Label], task: Literal["auto", "classification", "regression"]
) -> LabelRule:
    """Return the rule for a label, from the labels of the real training cohort.

    Two classes (words or codes) are a classification; other numbers are a regression.

    Raises
    ------
    UsageError
        There are words of more or fewer than two classes, words for a regression, or no labels.
    """
    present = [label for label in labels if label is not None]
    levels = tuple(sorted({_text(label) for label in present}))
    numbers = all(isinstance(label, float) for label in present)
    words = [level for level in levels if typed([level]) == [level]]
    if len(levels) > 2 and 0 < len(words) < len(levels) / 2:
        raise UsageError(
            f"--label {name}: most values are numbers, but not {', '.join(words[:5])}. Write "
            "numbers there, or n/a to leave these volumes out."
        )
    if task == "auto":
        task = "regression" if numbers and len(levels) != 2 else "classification"
    if task == "regression":
        if not numbers or len(levels) < 3:
            raise UsageError(
                f"--label {name}: a regression needs numbers that differ; found "
                f"{', '.join(levels[:5]) or 'none'}."
            )
        return LabelRule(name, "regression")
    if len(levels) != 2:
        raise UsageError(
            f"--label {name}: a classification needs two classes; found {len(levels)}"
            f"{': ' if levels else ''}{', '.join(levels[:5])}. Name a column with two, or make a "
            "manifest of two of them: synthbench data select --where ..."
        )
    return LabelRule(name, "classification", levels)


def labelled(cohort: Cohort, labels: Sequence[Label], rule: LabelRule, role: str) -> Labelled:
    """Return the volumes that have a label.

    Raises
    ------
    CohortError
        Fewer than four subjects have one.
    UsageError
        A label does not fit the rule.
    """
    rows = [i for i, label in enumerate(labels) if label is not None]
    kept = cohort.subset(rows)
    check_enough(kept, rule, role)
    values = np.array([rule.number(labels[i], role) for i in rows])
    _check_one_label_per_subject(kept, values, rule, role)
    return Labelled(kept, values, len(cohort) - len(rows))


def check_enough(cohort: Cohort, rule: LabelRule, role: str) -> None:
    """Check that enough subjects have a label.

    Raises
    ------
    CohortError
        They are fewer than four.
    """
    found = len({entry.subject for entry in cohort.entries})
    if found < 4:
        raise CohortError(
            f"{role}: at least 4 subjects with a value of '{rule.name}' are needed; found {found}."
        )


def _check_one_label_per_subject(
    cohort: Cohort, values: Float64[np.ndarray, " n"], rule: LabelRule, role: str
) -> None:
    if rule.task == "regression":
        return
    by_subject: dict[str, float] = {}
    for entry, value in zip(cohort.entries, values, strict=True):
        if by_subject.setdefault(entry.subject, value) != value:
            raise CohortError(
                f"{role}: {entry.subject} has scans of both classes of '{rule.name}'. Choose one "
                "scan per subject: synthbench data select --one-scan-per-subject"
            )


def check_both_classes(source: Labelled, rule: LabelRule, role: str) -> None:
    """Check that a cohort has both classes: with one, nothing can be learnt or tested.

    Raises
    ------
    CohortError
        A class has fewer than two subjects.
    """
    if rule.task == "regression":
        return
    counts = [len(np.unique(source.subjects[source.labels == c])) for c in (0.0, 1.0)]
    if min(counts) < 2:
        found = " and ".join(f"{n} of {w}" for n, w in zip(counts, rule.levels, strict=True))
        more = {
            "synth": "Sample both classes: synthbench sample RUN --condition "
            f"{rule.name}={','.join(rule.levels)}",
            "test": "Test on more subjects.",
        }
        raise CohortError(
            f"{role}: at least 2 subjects of each class of '{rule.name}' are needed; found "
            f"{found}. {more.get(role, 'Give a larger cohort.')}"
        )


def check_apart(train: Cohort, synth: Cohort | None, test: Cohort, role: str = "test") -> list[str]:
    """Check that no test subject was trained on, and return notes for the reader.

    Parameters
    ----------
    train, synth, test
        Cohorts.
    role
        The name of `test` in messages.

    Raises
    ------
    CohortError
        A test subject is also a training subject, a synthetic volume is a test volume, or a
        sidecar says that its generator was trained on the test cohort.
    """
    shared = overlap(test, train) or near_copies(test.entries, train.entries)
    if shared:
        raise CohortError(
            f"{role}: {len(shared)} of {len(test)} volumes are of subjects in the training cohort, "
            f"--real (first: {shared[0]}). Split by subject: synthbench data split COHORT --out "
            "DIR"
        )
    if synth is None:
        return []
    digests = {entry.digest for entry in test.entries}
    copies = [entry.name for entry in synth.entries if entry.digest in digests]
    how = "exactly" if copies else "nearly"
    copies = copies or near_copies(synth.entries, test.entries)
    if copies:
        raise CohortError(
            f"synth: {len(copies)} volumes are {how} {role} volumes (first: {copies[0]}): the "
            f"generator was trained on the {role} set. Test on other subjects."
        )
    trained_on = {sidecar.get("training_cohort") for sidecar in sidecars(synth)}
    if test.fingerprint in trained_on:
        raise CohortError(
            f"synth: the sidecars say that the generator was trained on the {role} cohort itself. "
            "Test on subjects that it has not seen."
        )
    if trained_on == {train.fingerprint}:
        return []
    if None in trained_on:
        return ["no sidecar says what the generator was trained on: this study cannot check that "
                "it has not seen the test subjects"]  # fmt: skip
    return ["the generator was trained on another cohort than --real: this study cannot check "
            "that it has not seen the test subjects"]  # fmt: skip


def seeds_notes(seeds: int) -> list[str]:
    """Return a note on what the intervals leave out where each arm is trained once."""
    if seeds > 1:
        return []
    return ["one training per arm (--seeds 1): its randomness is not in the intervals"]


def accepted_notes(findings: Sequence[Finding]) -> list[str]:
    """Return one note per accepted error of preflight, so that the record shows it."""
    return [
        f"preflight, accepted: {found.role}: {found.rule} (the rule: {RULES[found.rule]})"
        for found in findings
        if found.severity == "error"
    ]


def drawn_subjects(pool: Labelled, n: int, task: Task, seed: Sequence[int]) -> np.ndarray:
    """Return n subjects, drawn at random from each class in proportion."""
    rng = np.random.default_rng([*seed, 0xD1])
    subjects, first = np.unique(pool.subjects, return_index=True)
    label = pool.labels[first] if task == "classification" else np.zeros(len(subjects))
    # Places at equal distances along the order of the classes, from a random start.
    order = rng.permutation(len(subjects))
    order = order[np.argsort(label[order], kind="stable")]
    places = np.floor((np.arange(n) + rng.random()) * len(subjects) / n).astype(np.int64)
    return np.asarray(subjects[order[places]])


def _text(label: Label) -> str:
    return f"{label:.12g}" if isinstance(label, float) else str(label)
