"""Memorization: does a generator hand out its training images?

There are three findings, with a test for each:

- *exact or near copies*: images that lie far closer to one training image than to the next one
  (`synthbench.metrics.nearest.near_copies`), and more of them than to one hold-out image;
- *nearer to training than to unseen images*: for each synthetic image, d_T and d_H are the
  distances to its nearest training image and to its nearest image of a hold-out that the generator
  never saw. The gap is the mean of log(d_H / d_T). Every model that fits its training set better
  than the population has one: it is an estimate, not a charge;
- *cannot be told: training and hold-out differ*: real images of the two sides do not come from one
  population (`synthbench.metrics.nearest.sides`). Then a gap says nothing about the generator. A
  copy is still a copy.

Each test permutes the labels "training" and "hold-out" of real subjects. If nothing was copied and
both sides come from one population, they are exchangeable, whatever the synthetic images look like.

Tests on distances are no privacy guarantee. They detect images that lie close to a training image
in the chosen space. They do not detect copied parts, nor what an attack on the model can find.

References
----------
Alaa et al., "How faithful is your synthetic data?", ICML 2022: authenticity.
Meehan et al., "A non-parametric test to detect data-copying", AISTATS 2020: the comparison of
distances to training and to unseen data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.metric import (
    IntervalMethod,
    Target,
    check_memory,
)
from synthbench.metrics.nearest.distances import (
    COPY_TOLERANCE,
    LOG_FLOOR,
    NEAR_COPY,
    CopyDistances,
    authentic,
    distances_from_near_copies,
    typical_distance,
)
from synthbench.metrics.nearest.findings import Assessment, CopyingTest, LogRatio, Neighbour
from synthbench.metrics.nearest.gap import gap_interval
from synthbench.metrics.nearest.labellings import (
    Sides,
    nearest_contrasts,
    p_values,
    some_scans,
)
from synthbench.metrics.nearest.lists import copy_distances
from synthbench.metrics.nearest.near_copies import COPY_SIZE, excess_spacings, near_copies_p
from synthbench.metrics.nearest.power import PLANTINGS, detectable_share
from synthbench.metrics.nearest.refusals import TrainingMetric, check_testable
from synthbench.metrics.nearest.rows import Rows
from synthbench.metrics.nearest.sides import sides_p
from synthbench.metrics.subjects import n_subjects, subject_index

LEVEL = 0.05
"""Level of each test: the largest probability of "exact or near copies" where nothing was copied.
It is shared between two tests where images are also compared under a flip."""

PLANTING_LABELLINGS = 400
"""Largest number of labellings that test a simulated set: enough for a p-value near 0.05."""


@dataclass(frozen=True)
class Constants:
    """The settings of the tests, as a protocol freezes them.

    Attributes
    ----------
    floor, copy_tolerance, near_copy
        `LOG_FLOOR`, `COPY_TOLERANCE` and `NEAR_COPY`.
    alpha
        `LEVEL`.
    copy_size
        `COPY_SIZE`. None is the rule of protocols that were frozen without it: no test for near
        copies, and the gap compares all scans of each subject.
    """

    floor: float = LOG_FLOOR
    copy_tolerance: float = COPY_TOLERANCE
    near_copy: float = NEAR_COPY
    alpha: float = LEVEL
    copy_size: float | None = COPY_SIZE


class Memorization(TrainingMetric):
    """Distance to training images against distance to unseen ones, with a permutation test."""

    name = "memorization"
    label = "memorization"
    drawn = True
    formula = (
        "mean over synth of log(d_H / d_T), d to the nearest image of the hold-out and of training "
        "(mean over subsets of equal numbers of subjects), floored; permuted labels, one-sided"
    )
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    sees = "synthetic images that lie nearer to training images than to unseen ones"
    misses = (
        "copied parts of images, rare copies below the share that it prints, and what an attack "
        "on the model could find: it is no privacy guarantee"
    )
    responds_to: tuple[str, ...] = ("copies",)

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None = None,
        subjects: np.ndarray | None = None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The constants of the test, whatever the real set."""
        return asdict(Constants())

    def assess(
        self,
        distances: CopyDistances,
        *,
        permutations: int,
        seed: int,
        subjects: Mapping[str, np.ndarray] | None = None,
        sites: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> Assessment:
        """Look for copies in one space.

        All images of a subject keep one label. A subject is either in training or in the hold-out,
        not in both: labels are counted within each side.

        Where subjects have different numbers of scans, the gap compares a random draw of equally
        many scans of each subject: then they are exchangeable. Near copies are looked for in the
        mean over several draws, because a copy of one scan is in few of them.

        Where the sides differ in their numbers of subjects, the gap's log d to the larger side is
        a mean over all its subsets of the size of the smaller side, in closed form. Power is best
        with equal sides: with 1000 training and 86 hold-out images, 92% of labellings label a
        copied image as training.

        Parameters
        ----------
        distances
            Distances between synthetic, training and hold-out images: `Distances`, or
            `synthbench.metrics.nearest.lists.NearestDistances` of large sets. Both give the same
            values up to rounding.
        permutations
            Number of permuted labellings.
        seed
            Seed of the labellings and draws, and of the simulated copies that give the power.
        subjects
            For "synth", "train" and "holdout", the subject of each image; None is one image per
            subject.
        sites
            For "train" and "holdout", the site of each image's subject. For the gap and for the
            test that the sides are one population, labels are then permuted within each site: so
            a different mix of sites is not taken for either. None, or no site that has subjects
            of both sides: labels are permuted over all subjects.
        settings
            The values of `freeze`.

        Returns
        -------
        The finding. Where flips are compared there are two tests, each at level `alpha` / 2, so
        that the probability of a false detection by either is at most `alpha`.

        Raises
        ------
        MetricError
            There are too few subjects or permutations, the hold-out contains training images,
            half of the training images or more have an identical twin, a subject has two sites,
            or the values of all images under all labellings take more than `--max-memory`.
        """
        constants = Constants(**settings)
        index = subject_index(subjects, **distances.sizes)
        subjects_of = {role: n_subjects(index[role]) for role in ("train", "holdout")}
        level = constants.alpha / (1 if distances.flipped_to_real is None else 2)
        check_testable(self.name, subjects_of, permutations, level)
        _check_room(distances, permutations)
        n_train, real = distances.sizes["train"], distances.real
        is_train = np.arange(len(real)) < n_train

        for_labels, for_plantings, for_sides = np.random.default_rng(seed).spawn(3)
        copy_size = constants.copy_size
        sides = matched = Sides.permuted(index["train"], index["holdout"], permutations, for_labels)
        if sites is not None:
            matched = sides.within(_site_of_subjects(sites, index), for_sides)
        unit = typical_distance(real, sides.subjects, n_train)
        tolerance, floor = constants.copy_tolerance * unit, constants.floor * unit
        _check_disjoint(real.taken(np.flatnonzero(~is_train)), is_train, tolerance)
        all_scans = (np.arange(len(sides.subjects)),)
        matched = matched.of(all_scans if copy_size is None else sides.draws[:1])
        some = sides.first(PLANTING_LABELLINGS)

        # A spacing never exceeds infinity.
        size = math.inf if copy_size is None else copy_size

        def excesses(
            of: Sides, to_real: Rows
        ) -> tuple[Float64[np.ndarray, "m b"], Float64[np.ndarray, "m b"]]:
            return (
                of.averaged(to_real, floor, lambda logs, own: excess_spacings(logs, own, size)),
                of.averaged(to_real, floor, lambda logs, own: excess_spacings(logs, ~own, size)),
            )

        near_copies = distances_from_near_copies(real, sides.subjects, constants.near_copy)
        if copy_size is None:
            few = matched.first(PLANTING_LABELLINGS)
            planted = few.averaged(near_copies, floor, nearest_contrasts)
        else:
            planted = np.subtract(*excesses(some, near_copies))
        to_real = distances.to_real
        original = authentic(to_real, real, n_train)
        one_scan = some_scans(sides.subjects, 1, for_sides)
        one_scan = one_scan[np.argsort(sides.subjects[one_scan])]
        differ = sides_p(
            real.taken(one_scan).without(one_scan), distances.pairs(one_scan),
            matched.of((one_scan,)), floor,
        )  # fmt: skip

        def test(to_real: Rows) -> CopyingTest:
            contrasts = matched.averaged(to_real, floor, nearest_contrasts)
            in_train, in_holdout = excesses(sides, to_real)
            evidence = contrasts if copy_size is None else in_train - in_holdout
            statistic = LogRatio(contrasts[:, 0], original, {"synth": index["synth"]})
            nearest = nearest_real(to_real, is_train)
            gaps = contrasts.mean(axis=0)
            return CopyingTest(
                statistic=statistic,
                value=float(gaps[0]),
                gap=gap_interval(gaps, 1 - constants.alpha),
                p=_p(gaps),
                near_p=None if copy_size is None else near_copies_p(
                    in_train, in_holdout, len(sides.draws)
                ),
                sides_p=differ,
                level=level,
                sides_level=constants.alpha,
                copies=sum(n.train_distance <= tolerance for n in nearest),
                holdout_copies=sum(n.holdout_distance <= tolerance for n in nearest),
                close=int((in_train[:, 0] > 0).sum()),
                holdout_close=int((in_holdout[:, 0] > 0).sum()),
                detectable=detectable_share(
                    evidence[:, : len(some.labels)], planted, some.images, level,
                    for_plantings.spawn(1)[0],
                ),
                neighbours=nearest,
            )  # fmt: skip

        flipped = distances.flipped_to_real
        return Assessment(
            **vars(test(to_real)),
            auth_pct=100 * float(original.mean()),
            n=min(subjects_of.values()),
            flipped=None if flipped is None else test(flipped),
        )


def nearest_real(to_real: Rows, is_train: Bool[np.ndarray, " n"]) -> list[Neighbour]:
    """Return the nearest training image and the nearest hold-out image of each synthetic image."""
    train, to_train = to_real.closest(is_train)
    holdout, to_holdout = to_real.closest(~is_train)
    holdout -= is_train.sum()
    columns = (train.tolist(), to_train.tolist(), holdout.tolist(), to_holdout.tolist())
    return [Neighbour(i, *found) for i, found in enumerate(zip(*columns, strict=True))]


def memorization(
    synth: Float64[np.ndarray, "m d"],
    train: Float64[np.ndarray, "n_t d"],
    holdout: Float64[np.ndarray, "n_h d"],
    *,
    permutations: int = 1000,
    seed: int = 0,
    subjects: Mapping[str, np.ndarray] | None = None,
) -> Assessment:
    """Test whether synthetic images are copies of training images.

    Parameters
    ----------
    synth, train, holdout
        Features of the synthetic images, of the generator's training images, and of real images
        that the generator never saw; arrays or tensors.
    permutations
        Number of permuted labellings.
    seed
        Their seed.
    subjects
        For "synth", "train" and "holdout", the subject of each image; None is one image per
        subject.

    Returns
    -------
    The finding. "No copies found" is no privacy guarantee: its text names the share of near
    copies that the test would have detected.

    Raises
    ------
    MetricError
        `feature_distances` or `Memorization.assess` refuses the sets.

    Examples
    --------
    >>> train, holdout = np.array([[0.0], [4.0]]), np.array([[2.0], [6.0]])
    >>> found = memorization(np.array([[0.5], [4.0]]), train, holdout)
    >>> found.copies, found.text
    (1, 'exact or near copies')
    >>> round(float(found.statistic.contrasts[0]), 6)  # log(1.5 / 0.5)
    1.098612
    """
    return Memorization().assess(
        copy_distances(synth, train, holdout, subjects=subjects),
        permutations=permutations,
        seed=seed,
        subjects=subjects,
    )


def _p(values: Float64[np.ndarray, " b"]) -> float:
    return float(p_values(values[None, :], np.array([0]))[0])


def _site_of_subjects(
    sites: Mapping[str, np.ndarray], index: Mapping[str, Int64[np.ndarray, " n"]]
) -> Int64[np.ndarray, " s"]:
    """Return the number of each subject's site, training subjects first."""
    names: list[str] = []
    for role in ("train", "holdout"):
        given = np.asarray(sites[role]).astype(str)
        for subject in range(n_subjects(index[role])):
            found = np.unique(given[index[role] == subject])
            if len(found) > 1:
                raise MetricError(
                    f"memorization: a subject must have one site; found {', '.join(found)} for one "
                    f"subject of {role}. Correct the participants table.",
                    "two sites",
                )
            names.append(str(found[0]))
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _check_disjoint(of_holdout: Rows, is_train: Bool[np.ndarray, " n"], tolerance: float) -> None:
    nearest, distance = of_holdout.closest(is_train)
    shared = distance <= tolerance
    if shared.any():
        first = int(shared.argmax())
        raise MetricError(
            "memorization: the hold-out must be images that the generator never saw; found "
            f"{shared.sum()} training images in the hold-out (first: hold-out image {first} is "
            f"training image {nearest[first]}). Remove them from the hold-out, or split by "
            "subject with synthbench data split.",
            "shared images",
            found=int(shared.sum()),
        )


def _check_room(distances: CopyDistances, permutations: int) -> None:
    """Check that the values under all labellings fit into `--max-memory` beside the distances."""
    sizes = distances.sizes
    m, n = sizes["synth"], sizes["train"] + sizes["holdout"]
    few = min(PLANTING_LABELLINGS, permutations + 1)
    values = 4 * m * (permutations + 1) + 3 * n * few + 3 * PLANTINGS * (m + n)
    check_memory(
        "memorization", distances.numbers + values,
        f"the distances of {m} synthetic and {n} real images, and their values under "
        f"{permutations} labellings",
    )  # fmt: skip
