"""Statistics with closed forms, which the tests of inference share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from synthbench.metrics import subjects as subjects_module
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.metric import RowStatistic, Weights


@dataclass(frozen=True)
class Mean:
    """The mean of one role's numbers: every standard error has a closed form."""

    x: np.ndarray
    subjects: Mapping[str, np.ndarray]

    def value(self, weights: Weights) -> np.ndarray:
        return pairs_module.ratio(weights["real"] @ self.x, weights["real"].sum(axis=1))

    def variance(self, weights: Weights) -> np.ndarray:
        values = np.broadcast_to(self.x, weights["real"].shape)
        return pairs_module.variance_of_mean(values, weights["real"], self.subjects["real"])

    def influence(self) -> dict[str, np.ndarray]:
        return {"real": self.x}


class OnlyValue:
    """A statistic without a variance."""

    subjects: Mapping[str, np.ndarray] = {"real": np.arange(4)}

    def value(self, weights: Weights) -> np.ndarray:
        return np.zeros(len(weights["real"]))


@dataclass(frozen=True)
class PairMean:
    """The mean over pairs of distinct subjects of one role."""

    pairs: np.ndarray
    subjects: Mapping[str, np.ndarray]

    def value(self, weights: Weights) -> np.ndarray:
        return pairs_module.within_mean(self.pairs, weights["real"], self.subjects["real"])


def mean_of(x: np.ndarray, subjects: np.ndarray | None = None) -> Mean:
    labels = None if subjects is None else {"real": subjects}
    return Mean(x, subjects_module.subject_index(labels, real=len(x)))


def difference_of_means(
    x: np.ndarray, subjects: np.ndarray | None = None, *, synth: np.ndarray | None = None
) -> RowStatistic:
    """Mean of synth less mean of real, one set in both roles, whose numbers may be changed."""
    y = x if synth is None else synth
    labels = None if subjects is None else {"real": subjects, "synth": subjects}
    index = subjects_module.subject_index(labels, real=len(x), synth=len(x))

    def value(weights: Weights) -> np.ndarray:
        w, v = weights["real"], weights["synth"]
        first, second = (
            pairs_module.ratio(w @ x, w.sum(axis=1)),
            pairs_module.ratio(v @ y, v.sum(axis=1)),
        )
        gap: np.ndarray = second - first
        return gap

    return RowStatistic(value, index)
