"""A reader's answers: a file of lines, only ever appended to, each on the disk before it counts.

A process that is killed loses at most the line that it was writing. Such a torn line is passed over
when the file is read, and cut off before the next line is appended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from synthbench.errors import UsageError
from synthbench.readers.scales import Scales
from synthbench.readers.study import Trial, TrialName
from synthbench.records.base import Record
from synthbench.runtime.documents import first_problem, parse_json, read_text
from synthbench.runtime.files import flush

MOST_COMMENT = 2000
"""The most characters of a comment."""

MOST_SECONDS = 86_400.0
"""The most time that one trial is said to have taken."""

_FIX = "Put the file back as it was, or take the reader out of the study."


class Answer(Record):
    """A line of a reader's file.

    Attributes
    ----------
    trial
        What it answers.
    choice
        In a comparison, the side that the reader takes for real.
    levels
        In a rating, the level of each item (`Item.key`), from 1.
    comment
        What the reader wrote; empty: nothing.
    seconds
        How long the trial was on the screen, without pauses.
    at
        When the answer came, in UTC.
    undone
        True: the line takes the trial's answer back, and has no answer itself.
    """

    trial: TrialName
    choice: Literal["left", "right"] | None = None
    levels: dict[str, int] | None = None
    comment: Annotated[str, Field(max_length=MOST_COMMENT)] = ""
    seconds: Annotated[float, Field(ge=0, le=MOST_SECONDS)] = 0.0
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    undone: bool = False


def check_answer(answer: Answer, trial: Trial, scales: Scales) -> None:
    """Check that an answer is one of its trial.

    Raises
    ------
    UsageError
        It answers another trial, another kind of trial, or not each item with one of its levels.
    """
    if answer.trial != trial.trial:
        raise UsageError(f"the answer is to {answer.trial}; asked was {trial.trial}.")
    if answer.undone:
        return
    if trial.kind == "2afc":
        if answer.choice is None or answer.levels is not None:
            raise UsageError(f"{trial.trial}: 'left' or 'right' is needed.")
        return
    given = answer.levels or {}
    asked = {item.key: len(item.levels) for item in scales.items()}
    if answer.choice is not None or set(given) != set(asked):
        raise UsageError(f"{trial.trial}: a level is needed for each of {', '.join(asked)}.")
    for key, level in given.items():
        if not 1 <= level <= asked[key]:
            raise UsageError(f"{trial.trial}: {key}: a level from 1 to {asked[key]} is needed.")


def append(file: Path, answer: Answer) -> None:
    """Append an answer to a reader's file; it is on the disk when this returns.

    The caller is the file's only writer (`synthbench.runtime.lock.only_writer`).

    Raises
    ------
    OSError
        It could not be written.
    """
    line = (json.dumps(answer.model_dump(mode="json"), ensure_ascii=True) + "\n").encode("ascii")
    new = not file.exists()
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        end = _whole(descriptor)
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        left = memoryview(line)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        flush(file.parent)


def _whole(descriptor: int) -> int:
    """Return where the last whole line of a file ends."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    step = 4096
    while end:
        begin = max(0, end - step)
        os.lseek(descriptor, begin, os.SEEK_SET)
        found = os.read(descriptor, end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def read_answers(file: Path, trials: Mapping[str, Trial], scales: Scales) -> dict[str, Answer]:
    """Return a reader's answers that stand, by trial, in the order in which they came.

    Parameters
    ----------
    trials
        The reader's trials by name.

    Raises
    ------
    UsageError
        A line is no answer to one of the trials. The line is named.
    """
    if not file.exists():
        return {}
    text = read_text(file, error=UsageError, fix=_FIX)
    standing: dict[str, Answer] = {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            answer = Answer.model_validate(parse_json(line))
            if answer.trial not in trials:
                raise ValueError(f"{answer.trial} is no trial of this reader")
            check_answer(answer, trials[answer.trial], scales)
        except ValidationError as error:
            raise UsageError(f"{file}, line {number}: {first_problem(error)}. {_FIX}") from error
        except (ValueError, UsageError) as error:
            raise UsageError(f"{file}, line {number}: {str(error).rstrip('.')}. {_FIX}") from error
        standing.pop(answer.trial, None)
        if not answer.undone:
            standing[answer.trial] = answer
    return standing
