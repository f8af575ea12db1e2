"""Permutations of the labels "training" and "hold-out", and their p-values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.metrics.nearest.rows import Ranked, Rows
from synthbench.metrics.subjects import n_subjects

NEGLIGIBLE = 1e-9
"""Neighbours that count with a smaller probability than this are left out."""

ROUNDING = 1e-12
"""Relative size below which a difference between two statistics is rounding."""

DRAWS = 16
"""Number of random draws of equally many scans of each subject, where subjects differ in them."""


@dataclass(frozen=True)
class Sides:
    """Labellings of the real subjects as training or hold-out; the first is the observed one.

    Attributes
    ----------
    labels
        True for training; one row per labelling, all with the same number of training subjects.
    subjects
        The subject of each real image, training images first.
    draws
        Indices of the images that are compared. Every draw has equally many scans of each
        subject: as many as the subject with the fewest scans has. There is one draw, of all
        images, where all subjects have that many. In one draw, subjects are exchangeable. In the
        mean over draws they are not quite: a subject with many scans has a steadier value.
    """

    labels: Bool[np.ndarray, "b s"]
    subjects: Int64[np.ndarray, " n"]
    draws: tuple[Int64[np.ndarray, " k"], ...]

    @classmethod
    def permuted(
        cls,
        train: Int64[np.ndarray, " n_t"],
        holdout: Int64[np.ndarray, " n_h"],
        permutations: int,
        rng: np.random.Generator,
    ) -> Sides:
        """Return the observed labelling, and random ones with the same numbers of subjects."""
        n_train = n_subjects(train)
        observed = np.arange(n_train + n_subjects(holdout)) < n_train
        random = rng.permuted(np.tile(observed, (permutations, 1)), axis=1)
        subjects = np.concatenate([train, n_train + holdout])
        return cls(np.vstack([observed, random]), subjects, _draws(subjects, rng))

    def first(self, b: int) -> Sides:
        """The first b labellings."""
        return Sides(self.labels[:b], self.subjects, self.draws)

    def within(self, strata: Int64[np.ndarray, " s"], rng: np.random.Generator) -> Sides:
        """The observed labelling, and as many as before that are permuted within each stratum.

        The same labellings where no stratum has subjects of both sides: then nothing could be
        permuted.
        """
        observed = self.labels[0]
        if not set(strata[observed]) & set(strata[~observed]):
            return self
        random = np.tile(observed, (len(self.labels) - 1, 1))
        for stratum in np.unique(strata):
            own = strata == stratum
            random[:, own] = rng.permuted(random[:, own], axis=1)
        return Sides(np.vstack([observed, random]), self.subjects, self.draws)

    def of(self, draws: tuple[Int64[np.ndarray, " k"], ...]) -> Sides:
        """The same labellings, of other draws of images."""
        return Sides(self.labels, self.subjects, draws)

    @property
    def images(self) -> Bool[np.ndarray, "b n"]:
        """The labels of the images."""
        return self.labels[:, self.subjects]

    def averaged(
        self,
        distances: Rows,
        floor: float,
        values: Callable[[Ranked, Bool[np.ndarray, "b s"]], Float64[np.ndarray, "m b"]],
    ) -> Float64[np.ndarray, "m b"]:
        """Return the mean over `draws` of values of each image, under each labelling.

        The nearest of five scans is nearer than one scan, copied or not: with all scans, subjects
        would not be exchangeable.

        Parameters
        ----------
        distances
            From each image to all real images.
        floor
            Smaller distances are set to this before the logarithm.
        values
            From the subjects in the order of their distance (each to the nearest of its drawn
            scans) and the labels to the values, such as `nearest_contrasts`. NaN where a row
            knows too few subjects: then the row is computed again with all of them.
        """
        mean: Float64[np.ndarray, "m b"] = np.zeros((len(distances), len(self.labels)))
        for rows in distances.chunks():
            found = np.zeros((len(self.draws), len(rows), len(self.labels)))
            for number, draw in enumerate(self.draws):
                ranked = distances.ranked(rows, self.subjects, draw, floor)
                found[number] = values(ranked, self.labels)
                unknown = np.isnan(found[number])
                if unknown[:, 0].any():
                    by_side = distances.ranked_by_side(rows, self.subjects, draw, floor)
                    observed = values(by_side, self.labels[:1])[:, 0]
                    found[number, :, 0] = np.where(unknown[:, 0], observed, found[number, :, 0])
                    unknown = np.isnan(found[number])
                labellings = np.flatnonzero(unknown.any(axis=0))
                again = np.flatnonzero(unknown.any(axis=1))
                for places in distances.blocks(again):
                    some = again[places]
                    every = distances.ranked_in_full(rows[some], self.subjects, draw, floor)
                    where = np.ix_(some, labellings)
                    found[number][where] = np.where(
                        unknown[where], values(every, self.labels[labellings]), found[number][where]
                    )
            mean[rows] = found.mean(axis=0)
        return mean


def _draws(
    subjects: Int64[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " k"], ...]:
    scans = np.bincount(subjects)
    if scans.min() == scans.max():
        return (np.arange(len(subjects)),)
    return tuple(some_scans(subjects, int(scans.min()), rng) for _ in range(DRAWS))


def some_scans(
    subjects: Int64[np.ndarray, " n"], scans: int, rng: np.random.Generator
) -> Int64[np.ndarray, " k"]:
    """Return the indices of this many random images of each subject."""
    order = rng.permutation(len(subjects))
    order = order[np.argsort(subjects[order], kind="stable")]
    sizes = np.bincount(subjects)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen: Int64[np.ndarray, " k"] = np.sort(order[place < scans])
    return chosen


def nearest_contrasts(
    ranked: Ranked, labels: Bool[np.ndarray, "b s"]
) -> Float64[np.ndarray, "m b"]:
    """Return the mean log distance to the nearest hold-out minus that to the nearest training one.

    The means are over all subsets of n subjects of a side, where n is the number of subjects in
    the smaller side. Let L_1 <= L_2 <= ... be the sorted log distances of a row, R_j the number of
    training subjects among the first j, and S_T(R) the probability that a random subset of n
    training subjects holds none of R chosen ones. The nearest subject of the subset lies beyond
    the j-th with probability S_T(R_j). So summation by parts gives

        E log d_T = L_1 + sum_j (L_{j+1} - L_j) S_T(R_j).

    The same holds for the hold-out with j - R_j in place of R_j; the function returns the
    difference.

    Parameters
    ----------
    ranked
        The subjects in the order of the distance from each image.
    labels
        True for subjects labelled training; the same number in every labelling.

    Returns
    -------
    NaN where subjects that are not known count with a probability of `NEGLIGIBLE` or more.
    """
    n_train = int(labels[0].sum())
    n_holdout = labels.shape[1] - n_train
    n = min(n_train, n_holdout)
    none_of_train, none_of_holdout = _none_drawn(n_train, n), _none_drawn(n_holdout, n)
    steps = np.diff(ranked.logs, axis=1)
    order, by_subject = ranked.labelled(labels)
    in_train = np.zeros((len(order), len(labels)), dtype=np.intp)
    contrasts: Float64[np.ndarray, "m b"] = np.zeros(in_train.shape)
    width = order.shape[1]
    for j in range(1, width + 1):
        in_train += by_subject[order[:, j - 1]]
        if j < width:
            # A table over the possible numbers of training subjects among the j nearest. Clipping
            # keeps entries that cannot occur inside the array. Steps behind the last known
            # subject are zero.
            counts = np.arange(min(j, n_train) + 1)
            gap = none_of_holdout[(j - counts).clip(0, n_holdout)] - none_of_train[counts]
            contrasts += steps[:, j - 1, None] * gap[in_train]
        fewest, most = int(in_train.min()), int(in_train.max())
        if max(none_of_train[fewest], none_of_holdout[min(j - most, n_holdout)]) < NEGLIGIBLE:
            break
    in_holdout = np.minimum(ranked.known, j)[:, None] - in_train
    left = np.maximum(none_of_train[in_train], none_of_holdout[in_holdout])
    contrasts[left >= NEGLIGIBLE] = np.nan
    return contrasts


def _none_drawn(size: int, n: int) -> Float64[np.ndarray, " r"]:
    """Probability that n draws without replacement from `size` subjects hold none of r chosen ones.

    One entry for each r = 0, 1, ..., `size`.
    """
    r = np.arange(size)
    steps = np.maximum(size - n - r, 0) / (size - r)
    return np.concatenate([[1.0], np.cumprod(steps)])


def p_values(
    values: Float64[np.ndarray, "r b"], observed: Int64[np.ndarray, " r"]
) -> Float64[np.ndarray, " r"]:
    """Return the one-sided permutation p-value of each row: the share of values >= the observed.

    Parameters
    ----------
    values
        The statistic under each labelling, the observed one among them.
    observed
        The column of the observed labelling in each row.
    """
    own = values[np.arange(len(values)), observed]
    # Labellings with the observed value count, also where rounding makes them a little smaller.
    margin = ROUNDING * np.maximum(1.0, np.abs(own))
    shares: Float64[np.ndarray, " r"] = (values >= (own - margin)[:, None]).mean(axis=1)
    return shares
