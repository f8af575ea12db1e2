"""The linear probe: an L2-penalised logistic or linear regression on an extractor's features.

Only the folds are random, by a seed. The probe is fitted on all training volumes, and then many
times without a part of the training subjects. These refits show how much another choice of subjects
would have changed (`synthbench.metrics.inference.downstream`). scikit-learn does the fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import CohortError, MetricError
from synthbench.metrics.inference.downstream import DELETED, Predictions

Task = Literal["classification", "regression"]

PENALTIES = tuple(float(x) for x in np.logspace(0, -6, 7))
"""The penalties to choose from, per training volume, for features whose rows have a root mean
square length of 1. The strongest comes first: it is taken where several are equally good."""

FOLDS = 5


@dataclass(frozen=True)
class Part:
    """Volumes of one source that an arm trains on.

    Attributes
    ----------
    source
        "real" or "synth". Subjects to leave out are drawn once per source, so that arms share
        them. Augmented copies of real volumes are "real", with the subjects of their originals.
    features, labels
        One row and one number per volume; 1 for the positive class, 0 for the negative.
    subjects
        Numbers within the source. All volumes of a subject are left out together, and are in the
        same fold.
    judged
        True where predictions of held-out volumes of this part decide the penalty.
    """

    source: str
    features: Float64[np.ndarray, "n d"]
    labels: Float64[np.ndarray, " n"]
    subjects: Int64[np.ndarray, " n"]
    judged: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int64[np.ndarray, " k"]) -> Part:
        """Return some of the volumes."""
        return replace(
            self, features=self.features[rows], labels=self.labels[rows],
            subjects=self.subjects[rows],
        )  # fmt: skip


Kept: TypeAlias = Mapping[str, Float64[np.ndarray, "r subjects"]]
"""For each source, 1 for the subjects that a refit is trained on, and 0 for those left out."""


def left_out(parts: Sequence[Part], task: Task, count: int, seed: int) -> Kept:
    """Return random subjects that each refit leaves out: a share `DELETED` of each source.

    Parameters
    ----------
    parts
        One part per source, with all of its subjects.
    task
        For "classification", the share is left out of each class; at least one subject stays.
    count, seed
        Number of refits, and the seed of the draws.
    """
    found: dict[str, Float64[np.ndarray, "r subjects"]] = {}
    for part in parts:
        rng = np.random.default_rng([seed, *part.source.encode()])
        present, first = np.unique(part.subjects, return_index=True)
        labels = part.labels[first] if task == "classification" else np.zeros(len(present))
        kept = np.ones((count, int(present.max()) + 1))
        for label in np.unique(labels):
            group = present[labels == label]
            for row in kept:
                # An odd number is rounded up in half of the refits, so that the mean is a half.
                number = math.floor(DELETED * len(group) + rng.random())
                row[rng.choice(group, min(number, len(group) - 1), replace=False)] = 0
        found[part.source] = kept
    return found


def predict(
    parts: Sequence[Part],
    test: Float64[np.ndarray, "m d"],
    task: Task,
    kept: Kept | None = None,
    seed: int = 0,
) -> Predictions:
    """Return predictions of test volumes, from a fit on all parts and from the refits.

    The penalty is chosen once, on all training subjects, by cross-validation (log loss or squared
    error on held-out volumes of the judged parts), and is the same in the refits. It is relative
    to the number of volumes, so that copies of all volumes change nothing. Features are centred
    and scaled to unit variance over the training volumes.

    Parameters
    ----------
    parts
        The training volumes of the arm.
    test
        Features of the test volumes.
    task
        "classification" predicts log-odds of the positive class, "regression" the number.
    kept
        From `left_out`; None: no refits.
    seed
        Seed of the folds.

    Raises
    ------
    CohortError
        There are too few training subjects to choose a penalty by.
    """
    x = np.concatenate([part.features for part in parts]).astype(np.float64)
    y = np.concatenate([part.labels for part in parts])
    judged = np.concatenate([np.full(len(part), part.judged) for part in parts])
    train, tested = _rotated(x, np.asarray(test, dtype=np.float64))
    folds = _folds(y, _groups(parts), judged, task, seed)
    penalty = _chosen_penalty(train, y, folds, task)
    weights = np.ones((1, len(y)))
    if kept is not None:
        refits = [kept[part.source][:, part.subjects] for part in parts]
        weights = np.concatenate([weights, np.concatenate(refits, axis=1)])
    found = _predicted(tested, _fitted(train, y, weights, np.full(len(weights), penalty), task))
    return Predictions(found[:1], None if kept is None else found[1:])


def _groups(parts: Sequence[Part]) -> Int64[np.ndarray, " n"]:
    """Return subject numbers over all parts; parts of one source share subjects."""
    keys = [(part.source, int(subject)) for part in parts for subject in part.subjects]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _rotated(
    train: Float64[np.ndarray, "n d"], test: Float64[np.ndarray, "m d"]
) -> tuple[Float64[np.ndarray, "n k"], Float64[np.ndarray, "m k"]]:
    """Return features standardised by the training volumes, and rotated into their span.

    The rotation changes nothing for an L2 penalty, and at most n columns remain.
    """
    mean, spread = train.mean(axis=0), train.std(axis=0)
    varying = spread > 1e-10 * np.abs(train).max(axis=0)
    scale = spread[varying] * np.sqrt(max(1, varying.sum()))
    standard = (train[:, varying] - mean[varying]) / scale
    _, _, axes = np.linalg.svd(standard, full_matrices=False)
    return standard @ axes.T, ((test[:, varying] - mean[varying]) / scale) @ axes.T


def _chosen_penalty(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, " n"],
    folds: Int64[np.ndarray, " n"],
    task: Task,
) -> float:
    number = int(folds.max()) + 1
    outside = (folds[None] != np.arange(number)[:, None]).astype(np.float64)
    weights = np.repeat(outside, len(PENALTIES), axis=0)
    coefficients = _fitted(x, y, weights, np.tile(PENALTIES, number), task)
    losses = _losses(_predicted(x, coefficients), y, task) * (1 - weights)
    return PENALTIES[int(losses.sum(axis=1).reshape(number, -1).sum(axis=0).argmin())]


def _folds(
    y: Float64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    judged: Bool[np.ndarray, " n"],
    task: Task,
    seed: int,
) -> Int64[np.ndarray, " n"]:
    """Return the fold of each volume, -1 for volumes that are in every training set.

    Subjects are assigned class by class, or in the order of their numbers. Neighbours go to
    different folds, so that every fold is similar to the whole.
    """
    rng = np.random.default_rng([seed, 0xF01D])
    subjects, first = np.unique(groups[judged], return_index=True)
    label = y[judged][first]
    order = rng.permutation(len(subjects))
    order = order[np.argsort(label[order], kind="stable")]
    fewest = len(subjects)
    if task == "classification":
        fewest = min(int((label == c).sum()) for c in (0.0, 1.0))
    if fewest < 2:
        raise CohortError(
            f"training: at least 2 subjects of each class are needed; found {fewest}. Give a "
            "larger cohort."
        )
    number = min(FOLDS, fewest)
    dealt = np.full(int(groups.max()) + 1, -1)
    for start in range(0, len(order), number):
        neighbours = subjects[order[start : start + number]]
        dealt[neighbours] = rng.permutation(number)[: len(neighbours)]
    return np.where(judged, dealt[groups], -1)


def _fitted(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "b n"],
    penalties: Float64[np.ndarray, " b"],
    task: Task,
) -> Float64[np.ndarray, "b k1"]:
    """Return the coefficients of one model per row of weights; the intercept comes last."""
    fits = [
        _fit(x, y, row, float(penalty * row.sum()), task)
        for row, penalty in zip(weights, penalties, strict=True)
    ]
    return np.stack(fits)


def _fit(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, " n"],
    penalty: float,
    task: Task,
) -> Float64[np.ndarray, " k1"]:
    """Return the coefficients c and the intercept c0 that minimise a penalised loss.

    It is sum w (y - x'c - c0)^2 + p |c|^2 for a regression, and sum w log(1 + e^(-s (x'c + c0))) +
    p/2 |c|^2 for classes s = 1 and -1. For the second, scikit-learn's default solver stops too
    early with a weak penalty; the one chosen here reaches the minimum.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    if task == "regression":
        line = Ridge(alpha=penalty).fit(x, y, sample_weight=weights)
        return np.append(line.coef_, line.intercept_)
    positive = y > 0.5
    if not (weights[positive].sum() > 0 and weights[~positive].sum() > 0):
        raise MetricError("logistic regression: both classes are needed in every fit.")
    model = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    model.fit(x, positive, sample_weight=weights)
    return np.append(model.coef_[0], model.intercept_)


def _predicted(
    x: Float64[np.ndarray, "m k"], coefficients: Float64[np.ndarray, "b k1"]
) -> Float64[np.ndarray, "b m"]:
    """Return x'c + c0 for each row of coefficients."""
    return np.asarray(coefficients[:, :-1] @ x.T + coefficients[:, -1:])


def _losses(
    found: Float64[np.ndarray, "b n"], truth: Float64[np.ndarray, " n"], task: Task
) -> Float64[np.ndarray, "b n"]:
    if task == "regression":
        return np.asarray((found - truth) ** 2)
    return np.asarray(np.logaddexp(0, np.where(truth > 0.5, -found, found)))
