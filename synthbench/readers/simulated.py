"""Simulated readers, whose skill is known: for tests, for studies of coverage, for the demo.

In a comparison a reader has evidence for the real volume, normal with mean d' and standard
deviation sqrt(2), which is the same for all readers: it is the image's. An ideal observer follows
it, and is right with probability Phi(d' / sqrt(2)). A noisy one adds noise of his own, prefers a
side, and sometimes answers without looking (Burgess & Colborne, J Opt Soc Am A 5, 617, 1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from synthbench.readers.answers import Answer, append
from synthbench.readers.scales import Scales
from synthbench.readers.study import (
    CaseName,
    Key,
    Trial,
    answers_file,
    read_key,
    read_study,
)
from synthbench.runtime.lock import only_writer


@dataclass(frozen=True)
class Reader:
    """How a reader decides.

    Attributes
    ----------
    noise
        Standard deviation of the reader's own noise; 0: an ideal observer.
    left
        Preference for the left side, in units of evidence.
    lapses
        The share of answers that are given without looking.
    """

    noise: float = 0.0
    left: float = 0.0
    lapses: float = 0.0

    def accuracy(self, d_prime: float) -> float:
        """Return the probability of a right answer; sides are equally frequent."""
        spread = np.sqrt(2 + self.noise**2)
        seen = np.mean([norm.cdf((d_prime + side * self.left) / spread) for side in (-1, 1)])
        return float((1 - self.lapses) * seen + self.lapses / 2)


IDEAL = Reader()
NOISY = Reader(noise=1.5, left=0.2, lapses=0.02)


@dataclass(frozen=True)
class Truth:
    """What there is to see.

    Attributes
    ----------
    d_prime
        By group of pairs; 0 where it is absent.
    quality
        By group of ratings, the mean of a normal deviate whose quantiles are the levels; 0 where
        it is absent.
    """

    d_prime: Mapping[str, float]
    quality: Mapping[str, float]


class Evidence:
    """What the images of a study show, the same for all readers."""

    def __init__(self, key: Key, truth: Truth, rng: np.random.Generator) -> None:
        self.right = {pair.right for pair in key.pairs}
        self.pair: dict[CaseName, float] = {}
        for pair in key.pairs:
            seen = truth.d_prime.get(pair.group, 0.0) + np.sqrt(2) * rng.standard_normal()
            self.pair[pair.right] = self.pair[pair.other] = float(seen)
        self.quality = {
            name: truth.quality.get(case.group, 0.0) + 0.7 * float(rng.standard_normal())
            for name, case in sorted(key.cases.items())
        }

    def answer(
        self, trial: Trial, reader: Reader, scales: Scales, rng: np.random.Generator
    ) -> Answer:
        """Return a reader's answer to a trial."""
        seconds = float(np.round(rng.gamma(4, 3), 2))
        if trial.kind == "rating":
            return Answer(
                trial=trial.trial, levels=self._levels(trial, reader, scales, rng), seconds=seconds
            )
        first = trial.cases[0]
        side = 1 if first in self.right else -1
        seen = side * self.pair.get(first, 0.0) + reader.left + reader.noise * rng.standard_normal()
        if rng.random() < reader.lapses:
            seen = rng.standard_normal()
        return Answer(trial=trial.trial, choice="left" if seen > 0 else "right", seconds=seconds)

    def _levels(
        self, trial: Trial, reader: Reader, scales: Scales, rng: np.random.Generator
    ) -> dict[str, int]:
        found = {}
        for item in scales.items():
            seen = self.quality[trial.cases[0]] + 0.4 * (1 + reader.noise) * rng.standard_normal()
            found[item.key] = 1 + min(len(item.levels) - 1, int(len(item.levels) * norm.cdf(seen)))
        return found


def answer_all(
    folder: Path, truth: Truth, readers: Sequence[Reader], *, seed: int, key: Path | None = None
) -> None:
    """Write answers of simulated readers to all trials of a study.

    Parameters
    ----------
    readers
        How readers decide, in turn: with two, the third decides as the first.
    key
        The file of the key; None: beside the folder.

    Raises
    ------
    UsageError
        There is no study or key.
    """
    study, scales = read_study(folder)
    rng = np.random.default_rng(seed)
    evidence = Evidence(read_key(folder, study, key), truth, rng)
    with only_writer(folder):
        (folder / "answers").mkdir(exist_ok=True)
        for number, (name, trials) in enumerate(study.readers.items()):
            reader = readers[number % len(readers)]
            for trial in trials:
                append(answers_file(folder, name), evidence.answer(trial, reader, scales, rng))
