"""The sessions of a study that is served: which trial comes next, and who may ask.

A reader is known by a token, which is in her link and then in a cookie. Tokens lie in
`access.json`, for the owner of the study only; a new one takes the place of one that is revoked.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from synthbench.errors import UsageError, near_miss
from synthbench.readers.answers import Answer, append, check_answer, read_answers
from synthbench.readers.scales import Scales
from synthbench.readers.study import (
    VOXEL_OFFSET,
    ReaderName,
    Study,
    Trial,
    answers_file,
    case_file,
)
from synthbench.records.base import RecordFile
from synthbench.runtime.files import write_atomic


class Access(RecordFile):
    """The token of each reader: `access.json`."""

    what: ClassVar[str] = "the tokens of a reader study"

    schema_version: Literal[1] = 1
    tokens: dict[ReaderName, str]

    def save(self, file: Path) -> Path:
        """Write the tokens for their owner only."""
        write_atomic(Path(file), (self.model_dump_json(indent=1) + "\n").encode(), private=True)
        return Path(file)


def access(folder: Path, study: Study, revoked: Iterable[str] = ()) -> Access:
    """Return the tokens of a study; readers without one, or whose own is revoked, get a new one.

    Raises
    ------
    UsageError
        A revoked reader is not in the study.
    """
    file = Path(folder) / "access.json"
    tokens = dict(Access.load(file).tokens) if file.is_file() else {}
    for reader in revoked:
        if reader not in study.readers:
            raise UsageError(f"--revoke {reader}: {near_miss(reader, study.readers)}")
        tokens.pop(reader, None)
    found = Access(tokens={r: tokens.get(r) or secrets.token_urlsafe(24) for r in study.readers})
    found.save(file)
    return found


class Refused(Exception):
    """An answer that cannot be taken, as one to another trial than the current one."""


class Session:
    """One reader's way through the study; safe to use from several threads."""

    def __init__(
        self, folder: Path, reader: str, trials: tuple[Trial, ...], scales: Scales
    ) -> None:
        self.folder, self.reader, self.trials, self.scales = folder, reader, trials, scales
        self.file = answers_file(folder, reader)
        by_name = {trial.trial: trial for trial in trials}
        self.answered = read_answers(self.file, by_name, scales)
        self.lock = threading.Lock()

    @property
    def current(self) -> Trial | None:
        """The first trial without an answer; None at the end."""
        return next((trial for trial in self.trials if trial.trial not in self.answered), None)

    def answer(self, answer: Answer) -> None:
        """Write an answer to the current trial; it is on the disk when this returns.

        The same answer to a trial that has it already is taken for one whose confirmation was lost
        on the way: nothing is written.

        Raises
        ------
        Refused
            It is an answer to another trial, or no answer.
        OSError
            It could not be written.
        """
        with self.lock:
            before = self.answered.get(answer.trial)
            if before is not None and _same(before, answer):
                return
            trial = self.current
            if trial is None or answer.undone:
                raise Refused("there is nothing to answer")
            try:
                check_answer(answer, trial, self.scales)
            except UsageError as error:
                raise Refused(str(error)) from error
            append(self.file, answer)
            self.answered[answer.trial] = answer

    def undo(self) -> None:
        """Take the last answer back.

        Raises
        ------
        Refused
            There is none.
        OSError
            It could not be written.
        """
        with self.lock:
            if not self.answered:
                raise Refused("there is no answer to take back")
            last = next(reversed(self.answered))
            append(self.file, Answer(trial=last, undone=True))
            del self.answered[last]

    def volume(self, trial: str, place: int) -> bytes | None:
        """Return the voxels of a copy of the current trial; None for any other."""
        with self.lock:
            current = self.current
        if current is None or trial != current.trial or not 0 <= place < len(current.cases):
            return None
        return case_file(self.folder, current.cases[place]).read_bytes()[VOXEL_OFFSET:]


def _same(one: Answer, other: Answer) -> bool:
    fields = {"choice", "levels", "comment", "undone"}
    return one.model_dump(include=fields) == other.model_dump(include=fields)


class Sessions:
    """All sessions, by token."""

    def __init__(self, folder: Path, study: Study, scales: Scales, tokens: Access) -> None:
        self.study, self.scales = study, scales
        (Path(folder) / "answers").mkdir(exist_ok=True)
        self.by_reader = {
            reader: Session(Path(folder), reader, trials, scales)
            for reader, trials in study.readers.items()
        }
        self.tokens = tokens.tokens

    def of(self, token: str) -> Session | None:
        """Return the session of a token; None for a token that nobody has."""
        found = None
        for reader, known in self.tokens.items():  # all are compared: the time tells nothing
            if hmac.compare_digest(known.encode(), token.encode()):
                found = self.by_reader[reader]
        return found

    def check(self, session: Session) -> str:
        """Return the text that a page of this reader must send with every answer.

        It follows from the token, so a page goes on after the server was started again.
        """
        token = self.tokens[session.reader]
        return hmac.new(token.encode(), b"a page of this server", "sha256").hexdigest()
