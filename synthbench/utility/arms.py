"""The arms of a study: their training volumes, their test subjects, and their comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.metrics.inference.downstream import (
    AUC,
    BALANCED_ACCURACY,
    MAE,
    R2,
    Estimate,
    Measure,
    Predictions,
    difference,
    value,
)
from synthbench.utility.cohorts import Labelled
from synthbench.utility.probe import Task
from synthbench.utility.record import (
    AUGMENTED,
    BOTH,
    REAL,
    SYNTHETIC,
    TRTS,
    Arm,
    CurvePoint,
    Difference,
    Estimated,
)

MEASURES: Mapping[Task, tuple[Measure, ...]] = {
    "classification": (AUC, BALANCED_ACCURACY),
    "regression": (MAE, R2),
}
"""The measures of each task; the verdict is on the first."""

COMPARED = ((BOTH, REAL), (SYNTHETIC, REAL), (AUGMENTED, REAL), (BOTH, AUGMENTED))
"""The pairs of arms that are compared: the verdict first, the control last."""


@dataclass(frozen=True)
class Portion:
    """Volumes of one source that an arm trains on.

    Attributes
    ----------
    source
        "real" or "synth".
    rows
        The rows of its volumes.
    augmented
        The number of changed copies of them that are trained on too.
    """

    source: str
    rows: Int64[np.ndarray, " n"]
    augmented: int = 0


class Learner(Protocol):
    """A model that is trained on an arm's volumes, and predicts others."""

    @property
    def sources(self) -> Mapping[str, Labelled]:
        """The labelled volumes of each source: "real", "synth", "test"."""
        ...

    def predict(
        self, portions: Sequence[Portion], tested: str, rows: Int64[np.ndarray, " m"]
    ) -> Predictions:
        """Return predictions for volumes of a source, one column per volume, after training."""
        ...


@dataclass(frozen=True)
class Division:
    """The training and test volumes of one run of all arms.

    Attributes
    ----------
    train, synth
        Rows of the sources "real" and "synth".
    tested
        The source of the test volumes.
    test
        Their rows.
    """

    train: Int64[np.ndarray, " n"]
    synth: Int64[np.ndarray, " m"]
    tested: str
    test: Int64[np.ndarray, " t"]


@dataclass(frozen=True)
class Compared:
    """All arms of one division: measures, differences and the curve."""

    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    curve: tuple[CurvePoint, ...]
    verdict: Estimate


def compare_arms(
    learner: Learner,
    division: Division,
    task: Task,
    *,
    ratios: Sequence[float] = (),
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Compared:
    """Return the comparison of all arms, each trained, and tested on the same subjects.

    Parameters
    ----------
    learner
        The model.
    division
        The training and test volumes. The classical control gets as many changed copies of real
        volumes as there are synthetic ones.
    task
        It determines the measures (`MEASURES`).
    ratios
        Numbers of synthetic volumes on the curve, in multiples of the real ones. They are chosen
        at random by `seed`; the larger sets contain the smaller ones.
    level
        Nominal coverage of the intervals.
    progress
        Called with (arm, finished arms, all arms).
    """
    real, m = Portion("real", division.train), len(division.synth)
    plans = {
        REAL: [real],
        SYNTHETIC: [Portion("synth", division.synth)],
        BOTH: [real, Portion("synth", division.synth)],
        AUGMENTED: [Portion("real", division.train, augmented=m)],
    }
    order = _shuffled(learner.sources["synth"].labels[division.synth], task, seed)
    curve = {
        ratio: [real, Portion("synth", division.synth[np.sort(order[:k])])]
        for ratio in ratios
        if (k := max(1, round(ratio * len(division.train)))) <= m
    }
    total, done = len(plans) + len(curve) + 1, 0

    def trained(name: str, portions: Sequence[Portion], tested: Tested) -> Predictions:
        nonlocal done
        found = learner.predict(portions, tested.source, tested.rows)
        done += 1
        if progress:
            progress(name, done, total)
        return tested.together(found)

    measures = MEASURES[task]
    test = Tested.of(learner.sources, division.tested, division.test)
    backwards = Tested.of(learner.sources, "synth", division.synth)
    found = {name: trained(name, portions, test) for name, portions in plans.items()}
    arms = [
        _arm(name, plans[name], predictions, test, measures, level)
        for name, predictions in found.items()
    ]
    on_synth = trained(TRTS, [real], backwards)
    arms.insert(2, _arm(TRTS, [real], on_synth, backwards, measures, level))
    points = []
    for ratio, portions in curve.items():
        predictions = trained(f"{BOTH}, {ratio:g}x", portions, test)
        points.append(
            CurvePoint(
                ratio=ratio, synth=len(portions[1].rows),
                arm=_values(measures, predictions, test, level),
                difference=_differences(measures, predictions, found[REAL], test, level),
            )
        )  # fmt: skip
    return Compared(
        arms=tuple(arms),
        differences=tuple(
            Difference(
                arm=one, against=other,
                values=_differences(measures, found[one], found[other], test, level),
            )
            for one, other in COMPARED
        ),
        curve=tuple(points),
        verdict=difference(measures[0], found[BOTH], found[REAL], test.truth, level),
    )  # fmt: skip


@dataclass(frozen=True)
class Tested:
    """The tested volumes of a source, and their subjects.

    Attributes
    ----------
    source, rows
        The volumes.
    truth
        The label of each subject.
    subject_of
        The subject of each volume.
    """

    source: str
    rows: Int64[np.ndarray, " m"]
    truth: Float64[np.ndarray, " n"]
    subject_of: Int64[np.ndarray, " m"]

    @classmethod
    def of(
        cls, sources: Mapping[str, Labelled], source: str, rows: Int64[np.ndarray, " m"]
    ) -> Tested:
        """Return the tested subjects of some volumes; a subject's label is its scans' mean."""
        labelled = sources[source]
        _, subject_of = np.unique(labelled.subjects[rows], return_inverse=True)
        truth = _by_subject(labelled.labels[None, rows], subject_of)[0]
        return cls(source, rows, truth, subject_of)

    def together(self, predictions: Predictions) -> Predictions:
        """Return predictions by subject: the mean over a subject's scans."""
        refitted = predictions.refitted
        return Predictions(
            _by_subject(predictions.seeds, self.subject_of),
            None if refitted is None else _by_subject(refitted, self.subject_of),
        )


def _shuffled(labels: Float64[np.ndarray, " m"], task: Task, seed: int) -> Int64[np.ndarray, " m"]:
    """Return a random order in which the first k volumes have the classes in proportion."""
    order = np.random.default_rng([seed, 0xC0]).permutation(len(labels))
    if task == "regression":
        return order
    place = np.zeros(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")


def _by_subject(
    rows: Float64[np.ndarray, "s m"], subject_of: Int64[np.ndarray, " m"]
) -> Float64[np.ndarray, "s n"]:
    share = np.zeros((len(subject_of), int(subject_of.max()) + 1))
    share[np.arange(len(subject_of)), subject_of] = 1
    return np.asarray(rows @ (share / share.sum(axis=0)), dtype=np.float64)


def _arm(
    name: str,
    portions: Sequence[Portion],
    predictions: Predictions,
    tested: Tested,
    measures: Sequence[Measure],
    level: float,
) -> Arm:
    counts = dict.fromkeys(("real", "synth"), 0)
    for portion in portions:
        counts[portion.source] += len(portion.rows)
    return Arm(
        name=name, real=counts["real"], synth=counts["synth"],
        augmented=sum(portion.augmented for portion in portions), tested=len(tested.truth),
        values=_values(measures, predictions, tested, level),
    )  # fmt: skip


def _values(
    measures: Sequence[Measure], predictions: Predictions, tested: Tested, level: float
) -> dict[str, Estimated]:
    return {m.name: Estimated.of(value(m, predictions, tested.truth, level)) for m in measures}


def _differences(
    measures: Sequence[Measure],
    one: Predictions,
    other: Predictions,
    tested: Tested,
    level: float,
) -> dict[str, Estimated]:
    return {
        m.name: Estimated.of(difference(m, one, other, tested.truth, level), tested=True)
        for m in measures
    }
