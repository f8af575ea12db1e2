"""Membership inference: can an attacker tell training subjects by the density of the samples?

An attacker who has the synthetic images and a reference set of other real images scores each person
by how much denser the synthetic images lie around her than the reference images do (DOMIAS). Where
training subjects have larger scores than people whom the generator never saw, membership leaks.

The attack's AUC is compared with a control, the same attack of training subjects against other
training subjects. Its mean is 1/2 whatever the scores are, and its spread shows how far an AUC of
so few people strays by chance. No score depends on the labels, so both come from the same scores,
and the interval of the difference is paired.

References
----------
Van Breugel et al., "Membership inference attacks against synthetic data through overfitting
detection" (DOMIAS), AISTATS 2023: the ratio of densities, equation 2.
DeLong et al., "Comparing the areas under two or more correlated receiver operating characteristic
curves", Biometrics 1988: the variance from placements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics.nearest.refusals import TrainingMetric
from synthbench.metrics.subjects import subject_index

DIMENSIONS = 16
"""The largest number of principal components: densities of more need more images."""

PER_DIMENSION = 3
"""Reference images for each principal component, at least."""

NEIGHBOURS = 3
"""The densities are means, in logarithms, of those by the first to this neighbour: the first sees
copies, and the others see an overfitted distribution."""

MARGIN = 0.1
"""An AUC up to this much above the control is too small to matter: the attacker who tells a member
from another person is right in 60%, where guessing gives 50%."""

FEWEST = 10
"""Subjects of training, of hold-out and of a reference set, at least."""

CONTROLS = 200
"""Random halves of the training subjects from which the control is taken."""

POWER = 0.8

MembershipVerdict = Literal["told", "not told", "cannot be told"]


@dataclass(frozen=True)
class Membership:
    """What the attack found.

    Attributes
    ----------
    auc
        Probability that a training subject has a larger score than a hold-out subject, in [0, 1];
        0.5 is chance.
    control, control_low, control_high
        Mean AUC of training subjects against other training subjects, over random halves, and the
        central 95% of these.
    difference, low, high
        AUC less control, and its interval.
    level
        Of the interval.
    detectable
        The smallest difference whose interval lies above zero with 80% probability.
    tpr
        Share of training subjects whose score is above that of 95% of hold-out subjects.
    n_train, n_holdout, n_reference
        Subjects; the reference is that of one fold.
    dimensions
        Principal components.
    """

    auc: float
    control: float
    control_low: float
    control_high: float
    difference: float
    low: float
    high: float
    level: float
    detectable: float
    tpr: float
    n_train: int
    n_holdout: int
    n_reference: int
    dimensions: int

    @property
    def verdict(self) -> MembershipVerdict:
        """The finding: by whether the interval holds zero, and the margin that does not matter."""
        if self.low > 0:
            return "told"
        return "not told" if self.high < MARGIN else "cannot be told"

    @property
    def text(self) -> str:
        """The finding in words; it is no statement on privacy."""
        words = {
            "told": "training subjects can be told from others",
            "not told": "training subjects cannot be told from others by this attack",
            "cannot be told": "cannot be told at this n",
        }[self.verdict]
        if self.verdict == "told":
            return words
        return f"{words} (80% power at an AUC of {0.5 + self.detectable:.2f})"


class MembershipInference(TrainingMetric):
    """An attack by the ratio of densities, of training subjects against others."""

    name = "membership_inference"
    label = "membership inference"
    formula = (
        "AUC of log p_G - log p_R of training against hold-out subjects, less that of training "
        "against training subjects; densities by nearest neighbours in whitened principal "
        "components of the reference"
    )
    sees = "training subjects near whom synthetic images are denser than other real people are"
    misses = (
        "what an attacker finds who has the network or knows more of a person, and leaks below the "
        "AUC that it prints: it is no privacy guarantee"
    )
    responds_to: tuple[str, ...] = ()

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None = None,
        subjects: np.ndarray | None = None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The constants of the attack, whatever the real set."""
        return {"dimensions": DIMENSIONS, "neighbours": NEIGHBOURS}


def membership_inference(
    synth: Float64[np.ndarray, "m d"],
    train: Float64[np.ndarray, "n_t d"],
    holdout: Float64[np.ndarray, "n_h d"],
    reference: Float64[np.ndarray, "n_r d"] | None = None,
    *,
    subjects: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    level: float = 0.95,
    dimensions: int = DIMENSIONS,
    neighbours: int = NEIGHBOURS,
) -> Membership:
    """Attack synthetic images: are training subjects told from others by a ratio of densities?

    The score of an image x is log p_G(x) - log p_R(x), with the densities of the synthetic and of
    the reference images from the distances to the nearest three neighbours, in at most 16 principal
    components of the reference, whitened. It is independent of who is a training subject.

    Scores of a subject's images are averaged. The interval has Student's distribution, and the mean
    of two variances: DeLong's, over subjects, and that of an AUC where nothing leaks.

    Parameters
    ----------
    synth
        Features of the synthetic images, one row per image.
    train, holdout
        Features of training images, and of images of people whom the generator never saw. They
        must be of one population: another scanner, site or preparation looks like membership.
    reference
        Features of further people, in neither of the two. None: each half of the hold-out subjects
        is the reference for the attack on the other half, and the two AUC are averaged.
    subjects
        For "synth", "train", "holdout" and "reference", the subject of each image; None: one image
        per subject.
    seed
        Of the halves.
    level
        Of the interval, in (0, 1).
    dimensions, neighbours
        The largest number of principal components, and the number of neighbours.

    Raises
    ------
    MetricError
        There are too few subjects or synthetic images, numbers are not finite, or features do not
        vary.
    """
    sets = {"synth": synth, "train": train, "holdout": holdout}
    if reference is not None:
        sets["reference"] = reference
    sets = {name: np.asarray(x, np.float64) for name, x in sets.items()}
    index = subject_index(subjects, **{name: len(x) for name, x in sets.items()})
    _check(sets, index)
    for_folds, for_control = np.random.default_rng(seed).spawn(2)
    people = {name: _per_subject(index[name]) for name in ("train", "holdout")}
    if reference is None:
        order = for_folds.permutation(len(people["holdout"]))
        parts = [np.sort(order[::2]), np.sort(order[1::2])]
        folds = [(_rows(people["holdout"], parts[1 - i]), parts[i]) for i in (0, 1)]
        sources = [sets["holdout"][rows] for rows, _ in folds]
    else:
        folds = [(np.arange(len(sets["reference"])), np.arange(len(people["holdout"])))]
        sources = [sets["reference"]]
    n_reference = min(len(source) for source in sources)
    dimensions = min(dimensions, max(1, n_reference // PER_DIMENSION), synth.shape[1])

    of_train = np.zeros((len(folds), len(people["train"])))
    of_holdout = []
    for i, (source, (_, own)) in enumerate(zip(sources, folds, strict=True)):
        scores = {
            name: _scores(sets[name], sets["synth"], source, dimensions, neighbours)
            for name in ("train", "holdout")
        }
        of_train[i] = [scores["train"][rows].mean() for rows in people["train"]]
        of_holdout.append(np.array([scores["holdout"][people["holdout"][k]].mean() for k in own]))
    return _found(of_train, of_holdout, for_control, level, (n_reference, dimensions))


def _found(
    of_train: Float64[np.ndarray, "f n_t"],
    of_holdout: Sequence[Float64[np.ndarray, " _"]],
    rng: np.random.Generator,
    level: float,
    of_reference: tuple[int, int],
) -> Membership:
    """Return the finding from the scores of each fold: AUC, control, interval and power."""
    n_train, sizes = of_train.shape[1], [len(own) for own in of_holdout]
    n_holdout = sum(sizes)
    weights = np.array(sizes) / n_holdout
    above = [_above(a, b) for a, b in zip(of_train, of_holdout, strict=True)]
    auc = float(sum(w * part.mean() for w, part in zip(weights, above, strict=True)))
    # DeLong: the placement of each subject among those of the other side.
    rows = sum(w * part.mean(axis=1) for w, part in zip(weights, above, strict=True))
    columns = np.concatenate([part.mean(axis=0) for part in above])
    variance = np.var(rows, ddof=1) / n_train + np.var(columns, ddof=1) / n_holdout
    # The variance of Mann and Whitney, where nothing leaks. That of placements is noisy, and zero
    # where one side is wholly above the other; half of each holds the level (docs/numbers.md).
    chance = (n_train + n_holdout + 1) / (12 * n_train * n_holdout)
    se = math.sqrt((float(variance) + chance) / 2)
    control = _controls(of_train, weights, rng)
    difference = auc - float(control.mean())
    quantile = float(stats.t.ppf((1 + level) / 2, n_train + n_holdout - 2))
    tpr = float(sum(
        w * np.mean(a > np.quantile(b, 0.95, method="higher"))
        for w, a, b in zip(weights, of_train, of_holdout, strict=True)
    ))  # fmt: skip
    low, high = np.quantile(control, [0.025, 0.975])
    return Membership(
        auc=auc, control=float(control.mean()), control_low=float(low), control_high=float(high),
        difference=difference, low=difference - quantile * se, high=difference + quantile * se,
        level=level, detectable=(quantile + NormalDist().inv_cdf(POWER)) * math.sqrt(chance),
        tpr=tpr, n_train=n_train, n_holdout=n_holdout, n_reference=of_reference[0],
        dimensions=of_reference[1],
    )  # fmt: skip


def _controls(
    of_train: Float64[np.ndarray, "f n"], weights: Float64[np.ndarray, " f"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, " b"]:  # fmt: skip
    """Return the AUC of one half of the training subjects against the other half, each way."""
    n = of_train.shape[1]
    found = []
    for _ in range(CONTROLS // 2):
        order = rng.permutation(n)
        one, other = order[: n // 2], order[n // 2 :]
        auc = sum(w * _above(s[one], s[other]).mean()
                  for w, s in zip(weights, of_train, strict=True))  # fmt: skip
        found += [float(auc), 1 - float(auc)]
    return np.array(found)


def _above(
    a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, "n m"]:
    """Return 1 where a score of the first is larger than one of the second, 0.5 where equal."""
    return np.asarray((a[:, None] > b) + 0.5 * (a[:, None] == b), np.float64)


def _scores(
    x: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    reference: Float64[np.ndarray, "r d"],
    dimensions: int,
    neighbours: int,
) -> Float64[np.ndarray, " n"]:
    """Return log p_G - log p_R of each row, up to a constant: k-nearest-neighbour densities."""
    centre = reference.mean(axis=0)
    _, spread, axes = np.linalg.svd(reference - centre, full_matrices=False)
    spread, axes = spread[:dimensions], axes[:dimensions]
    if not spread[-1] > 1e-9 * max(spread[0], np.finfo(np.float64).tiny):
        raise MetricError(
            f"membership: the features of the reference vary in fewer than {dimensions} "
            "directions. Use another extractor.",
            "no spread",
        )  # fmt: skip
    whitened = axes.T / (spread / math.sqrt(len(reference) - 1))
    own, near, far = ((y - centre) @ whitened for y in (x, synth, reference))
    to_synth, to_reference = (
        np.partition(cdist(own, other), neighbours - 1, axis=1)[:, :neighbours]
        for other in (near, far)
    )
    logs = [np.log(np.maximum(r, 1e-12)).mean(axis=1) for r in (to_synth, to_reference)]
    return np.asarray(own.shape[1] * (logs[1] - logs[0]))


def _per_subject(index: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " _"]]:
    return [np.flatnonzero(index == subject) for subject in np.unique(index)]


def _rows(
    people: Sequence[Int64[np.ndarray, " _"]], chosen: Int64[np.ndarray, " _"]
) -> Int64[np.ndarray, " _"]:
    return np.concatenate([people[k] for k in chosen])


def _check(
    sets: Mapping[str, Float64[np.ndarray, "n d"]], index: Mapping[str, Int64[np.ndarray, " n"]]
) -> None:
    for name, x in sets.items():
        bad = int((~np.isfinite(x)).any(axis=1).sum())
        if bad:
            raise MetricError(
                f"membership: {bad} images of {name} have NaN or infinity. Leave them out.",
                "not finite", found=bad,
            )  # fmt: skip
    counts = {name: len(np.unique(own)) for name, own in index.items()}
    needed = {"synth": FEWEST, "train": FEWEST, "holdout": FEWEST, "reference": FEWEST}
    if "reference" not in counts:
        needed["holdout"] = 2 * FEWEST
    for name, n in counts.items():
        if n < needed[name]:
            raise MetricError(
                f"membership: {name} needs images of at least {needed[name]} subjects; found {n}. "
                "Add subjects.", "too few subjects", needed=needed[name], found=n,
            )  # fmt: skip
