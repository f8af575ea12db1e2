"""The answers of a study as tables: one row per reader, one column per pair or volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from synthbench.readers.answers import Answer, read_answers
from synthbench.readers.scales import Scales
from synthbench.readers.study import Key, Pair, Study, Trial, answers_file


@dataclass(frozen=True)
class Given:
    """An answer with its trial.

    Attributes
    ----------
    place
        The trial's number in the session, among those of its kind that count.
    again
        True where the same volumes came before.
    """

    trial: Trial
    answer: Answer
    place: int
    again: bool

    @property
    def chosen(self) -> str:
        """The copy that the reader took for real."""
        return self.trial.cases[0 if self.answer.choice == "left" else 1]


@dataclass(frozen=True)
class Answers:
    """All answers that count, of readers who gave one.

    Attributes
    ----------
    given
        By reader, the answers in the order of the session, practice left out.
    asked
        By reader, the number of trials that count, of all readers.
    """

    key: Key
    given: Mapping[str, Sequence[Given]]
    asked: Mapping[str, int]

    @cached_property
    def readers(self) -> list[str]:
        """The readers who answered something."""
        return [reader for reader, found in self.given.items() if found]

    def of(self, reader: str, kind: str, *, again: bool = False) -> Iterator[Given]:
        """Yield a reader's answers of a kind: to first presentations, or to repeats."""
        for one in self.given[reader]:
            if one.trial.kind == kind and one.again == again:
                yield one

    def pairs(self, group: str) -> list[Pair]:
        """Return the pairs of a generator or control."""
        return [pair for pair in self.key.pairs if pair.group == group]

    def right(self, pairs: Sequence[Pair]) -> Float64[np.ndarray, "r c"]:
        """Return 1 where a reader found the real one of a pair, else 0; NaN: not answered."""
        column = {pair.right: i for i, pair in enumerate(pairs)}
        other = {pair.other: i for i, pair in enumerate(pairs)}
        found = np.full((len(self.readers), len(pairs)), np.nan)
        for row, reader in enumerate(self.readers):
            for one in self.of(reader, "2afc"):
                if one.chosen in column:
                    found[row, column[one.chosen]] = 1.0
                elif one.chosen in other:
                    found[row, other[one.chosen]] = 0.0
        return found

    def levels(self, item: str, cases: Sequence[str]) -> Float64[np.ndarray, "r c"]:
        """Return the levels that readers gave to copies; NaN: not answered."""
        column = {case: i for i, case in enumerate(cases)}
        found = np.full((len(self.readers), len(cases)), np.nan)
        for row, reader in enumerate(self.readers):
            for one in self.of(reader, "rating"):
                case, given = one.trial.cases[0], one.answer.levels
                if case in column and given is not None:
                    found[row, column[case]] = given[item]
        return found

    def rated_cases(self, group: str) -> list[str]:
        """Return the copies of a group that were rated by someone."""
        cases = {one.trial.cases[0] for reader in self.readers for one in self.of(reader, "rating")}
        return sorted(case for case in cases if self.key.cases[case].group == group)


def collect(folder: Path, study: Study, scales: Scales, key: Key) -> Answers:
    """Return the answers in a study's folder.

    Raises
    ------
    UsageError
        A file of answers has a line that answers nothing of the study.
    """
    given, asked = {}, {}
    for reader, trials in study.readers.items():
        answers = read_answers(
            answers_file(folder, reader), {trial.trial: trial for trial in trials}, scales
        )
        counting = [trial for trial in trials if not trial.practice]
        asked[reader] = len(counting)
        given[reader] = list(_given(counting, answers))
    return Answers(key, given, asked)


def _given(trials: Sequence[Trial], answers: Mapping[str, Answer]) -> Iterator[Given]:
    seen: set[tuple[str, frozenset[str]]] = set()
    places = {"2afc": 0, "rating": 0}
    for trial in trials:
        what = (trial.kind, frozenset(trial.cases))
        if trial.trial in answers:
            yield Given(trial, answers[trial.trial], places[trial.kind], what in seen)
        seen.add(what)
        places[trial.kind] += 1
