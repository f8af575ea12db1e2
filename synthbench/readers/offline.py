"""A study for machines without a server: one page per reader, whose answers come back as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from synthbench.errors import UsageError
from synthbench.readers.answers import Answer, append, check_answer, read_answers
from synthbench.readers.page import offline_page
from synthbench.readers.scales import Scales
from synthbench.readers.study import (
    VOXEL_OFFSET,
    ReaderName,
    Study,
    answers_file,
    case_file,
    read_study,
)
from synthbench.records.base import RecordFile
from synthbench.runtime.documents import parse_json
from synthbench.runtime.files import write_atomic
from synthbench.runtime.lock import only_writer


class Saved(RecordFile):
    """What a reader saves from a page.

    Attributes
    ----------
    study
        The sha256 of the study's key, by which the study is known.
    answers
        The lines of a file of answers.
    """

    what: ClassVar[str] = "a file of answers of an offline page"

    schema_version: Literal[1] = 1
    study: str
    reader: ReaderName
    answers: tuple[Answer, ...]

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that says how to get a usable file."""
        return "Let the reader save the answers again from her page."


def export(folder: Path, out: Path) -> list[Path]:
    """Write one page per reader, and return the files.

    Volumes are not compressed, so that their sizes tell nothing: a page has a third more bytes than
    the volumes that its reader sees.

    Raises
    ------
    UsageError
        There is no study in the folder.
    """
    study, scales = read_study(folder)
    with only_writer(out):
        return [_write_page(folder, out, reader, study, scales) for reader in study.readers]


def _write_page(folder: Path, out: Path, reader: str, study: Study, scales: Scales) -> Path:
    trials = study.readers[reader]
    cases = list(dict.fromkeys(case for trial in trials for case in trial.cases))
    fields = {
        "study": study.key_sha256,
        "reader": reader,
        "shape": study.shape,
        "spacing": study.spacing,
        "items": [
            {"key": item.key, "question": item.question, "levels": item.levels}
            for item in scales.items()
        ],
        "trials": [
            {"trial": trial.trial, "kind": trial.kind, "practice": trial.practice,
             "volumes": [cases.index(case) for case in trial.cases]}
            for trial in trials
        ],
    }  # fmt: skip
    volumes = [case_file(folder, case).read_bytes()[VOXEL_OFFSET:] for case in cases]
    file = out / f"{reader}.html"
    write_atomic(file, offline_page(fields, volumes).encode())
    return file


def collect(folder: Path, files: Sequence[Path]) -> dict[str, int]:
    """Take files of answers into a study, and return by reader how many lines are new.

    A file may come again with more answers. All are checked before one is taken.

    Raises
    ------
    UsageError
        A file is of another study, answers what was not asked, or contradicts answers that are
        there.
    ScorecardError
        A file cannot be read.
    """
    study, scales = read_study(folder)
    found: dict[str, list[Answer]] = {}
    with only_writer(folder):
        for file in files:
            reader, new = _checked(file, Saved.load(file), folder, study, scales)
            if reader in found:
                raise UsageError(f"{file}: a second file of {reader}. Give the longer one only.")
            found[reader] = new
        (folder / "answers").mkdir(exist_ok=True)
        for reader, new in found.items():
            for answer in new:
                append(answers_file(folder, reader), answer)
    return {reader: len(new) for reader, new in found.items()}


def _checked(
    file: Path, saved: Saved, folder: Path, study: Study, scales: Scales
) -> tuple[str, list[Answer]]:
    """Return the reader of a file and the lines that are new."""
    if saved.study != study.key_sha256 or saved.reader not in study.readers:
        raise UsageError(f"{file}: these are answers of another study than {folder}.")
    trials = {trial.trial: trial for trial in study.readers[saved.reader]}
    for number, answer in enumerate(saved.answers, 1):
        if answer.trial not in trials:
            raise UsageError(f"{file}, answer {number}: {answer.trial} was not asked.")
        try:
            check_answer(answer, trials[answer.trial], scales)
        except UsageError as error:
            raise UsageError(f"{file}, answer {number}: {error}") from error
    there = answers_file(folder, saved.reader)
    read_answers(there, trials, scales)  # what cannot be read is refused here
    text = there.read_text(encoding="utf-8") if there.exists() else ""
    lines = tuple(Answer.model_validate(parse_json(line)) for line in text.split("\n")[:-1])
    if saved.answers[: len(lines)] != lines:
        raise UsageError(
            f"{file}: {folder} has other answers of {saved.reader}. Take one of the two away: "
            f"{there}"
        )
    return saved.reader, list(saved.answers[len(lines) :])
