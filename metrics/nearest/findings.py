"""What is found where synthetic images are compared with training and with unseen images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.metrics.inference.pairs import ratio, variance_of_mean
from synthbench.metrics.metric import Part, Weights
from synthbench.metrics.nearest.gap import Gap
from synthbench.metrics.nearest.power import power_text
from synthbench.metrics.nearest.verdict import WORDS, CopyVerdict


class Neighbour(NamedTuple):
    """A synthetic image and the real images nearest to it.

    Attributes
    ----------
    synth, train, holdout
        Indices of the synthetic image, and of its nearest training and hold-out image.
    train_distance, holdout_distance
        Their distances from the synthetic image.
    """

    synth: int
    train: int
    train_distance: float
    holdout: int
    holdout_distance: float


@dataclass(frozen=True)
class LogRatio:
    """The mean over synthetic images of log(d_H / d_T), as a function of their weights.

    Training and hold-out images are fixed. So its variance, and an interval made with it, cover
    the draw of synthetic images alone. The permutation test decides if the value is above zero.

    Attributes
    ----------
    contrasts
        The value log(d_H / d_T) of each synthetic image.
    authentic
        True for each image that is authentic (`synthbench.metrics.nearest.distances.authentic`).
    subjects
        The subject index of each image, under "synth".
    """

    contrasts: Float64[np.ndarray, " m"]
    authentic: Bool[np.ndarray, " m"]
    subjects: Mapping[str, Int64[np.ndarray, " m"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The weighted mean of the contrasts."""
        return _weighted_mean(self.contrasts, weights["synth"])

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sampling variance of that mean, by subjects."""
        return variance_of_mean(self.contrasts[None, :], weights["synth"], self.subjects["synth"])

    def parts(self) -> dict[str, Part]:
        """The percentage of authentic images."""
        return {"auth_pct": Part("AuthPct", AuthenticShare(self.authentic, self.subjects))}


@dataclass(frozen=True)
class AuthenticShare:
    """AuthPct as a function of weights on the synthetic images, in [0, 100].

    It gives no verdict: a test of it would be wrong where synthetic images differ from real ones.
    """

    authentic: Bool[np.ndarray, " m"]
    subjects: Mapping[str, Int64[np.ndarray, " m"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The weighted percentage."""
        return 100 * _weighted_mean(self.authentic.astype(np.float64), weights["synth"])


@dataclass(frozen=True)
class CopyingTest:
    """What is found in one space, of the images as they are or of the nearer of two flips.

    Attributes
    ----------
    statistic
        Mean log(d_H / d_T), the gap, as a function of weights on the synthetic images.
    value
        Its value with every image counted once; above zero: nearer to the training images.
    gap
        Its interval, from the permuted labellings. It covers the draw of all images.
    p
        One-sided permutation p-value of the gap, in [1/(permutations + 1), 1].
    near_p
        One-sided permutation p-value of the test for near copies, in the same range; None where
        the protocol has no such test.
    sides_p
        Permutation p-value that training and hold-out images come from one population.
    level
        The p-value at or below which a test rejects.
    sides_level
        The same for `sides_p`.
    copies, holdout_copies
        Numbers of synthetic images that equal a training image, or a hold-out image, up to
        rounding. One exact copy of a training image is enough for a detection.
    close, holdout_close
        Numbers of synthetic images whose log distance to the next subject of that side exceeds
        that to the nearest one by more than the copy size.
    detectable
        The smallest share of near copies among the synthetic images that the test for near copies
        detects with a probability of `POWER`; None where even a share of one half is not enough.
    neighbours
        The nearest real images of each synthetic image, in the order of the synthetic images.
    """

    statistic: LogRatio
    value: float
    gap: Gap
    p: float
    near_p: float | None
    sides_p: float
    level: float
    sides_level: float
    copies: int
    holdout_copies: int
    close: int
    holdout_close: int
    detectable: float | None
    neighbours: list[Neighbour] = field(repr=False)

    @property
    def copy_share(self) -> float:
        """The number of exact copies of training images over the number of synthetic images."""
        return self.copies / len(self.neighbours)

    @property
    def detected(self) -> bool:
        """True where there is an exact copy, or the test for near copies rejects."""
        return self.copies > 0 or (self.near_p is not None and self.near_p <= self.level)

    @property
    def verdict(self) -> CopyVerdict:
        """The finding as a key of `synthbench.metrics.nearest.verdict.WORDS`."""
        if self.detected:
            return "copies"
        if self.sides_p <= self.sides_level:
            return "sides_differ"
        return "nearer" if self.p <= self.level else "none"

    @property
    def text(self) -> str:
        """The finding as a table prints it; it is no statement on privacy."""
        finding = WORDS[self.verdict]
        if not self.detected:
            finding += f" ({power_text(self.detectable)})"
        if self.holdout_copies:
            finding += f"; {self.holdout_copies} synthetic images equal hold-out images"
        return finding


@dataclass(frozen=True)
class Assessment(CopyingTest):
    """Memorization in one space: the finding on the images as they are, and more.

    Attributes
    ----------
    auth_pct
        Percentage of authentic synthetic images (Alaa et al. 2022); it gives no verdict.
    n
        The smaller of the numbers of training and of hold-out subjects, which the gap uses.
    flipped
        The finding on the smaller of two distances, of each image as it is and flipped left to
        right; None where flips are not compared.
    """

    auth_pct: float
    n: int
    flipped: CopyingTest | None


def _weighted_mean(
    values: Float64[np.ndarray, " m"], w: Float64[np.ndarray, "b m"]
) -> Float64[np.ndarray, " b"]:
    return ratio(w @ values, w.sum(axis=1))
