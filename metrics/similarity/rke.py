"""Effective number of brains: the order-2 Renyi kernel entropy of a set, and its gap to real.

A kernel says how alike two images are, from 0 to 1. A set of N images that are all unlike has the
effective number N, a set of copies has 1, and c equal clusters of copies have c. Unlike the Vendi
score (order 1), the number of order 2 is a mean over pairs, so it can be estimated without bias of
the mean from few images. The scores of two sets can only be compared at one number of images, so
both are stated for N images, with N the number of real subjects.

References
----------
Jalali, Li and Farnia, "An information-theoretic evaluation of generative models in learning
multi-modal distributions", NeurIPS 2023: the RKE of a set; exp of the entropy is a number of modes.
Friedman and Dieng, "The Vendi score", TMLR 2023. "Do Vendi scores converge with finite samples?",
arXiv:2410.21719: it does not below some 20,000 images, order 2 does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import distinct_pairs
from synthbench.metrics.kernels import (
    check_bandwidth,
    check_subjects,
    gaussian_kernel,
    median_bandwidth,
)
from synthbench.metrics.metric import (
    BaseMetric,
    Direction,
    IntervalMethod,
    Part,
    Target,
    Weights,
    check_features,
    check_memory,
)
from synthbench.metrics.similarity.diversity import MeanSimilarity
from synthbench.metrics.subjects import n_subjects, subject_index

BANDWIDTH_SHARE = 0.5
"""The kernel's bandwidth as a share of the median heuristic's.

At the median bandwidth two images at the median distance count as 0.37 alike, and 70 real brains as
2.5 to 3: the number cannot show lost modes. At half of it they count as about 20
(`python studies/effective_number.py`).
"""


@dataclass(frozen=True)
class EffectiveNumber:
    """Effective number of a set as a function of weights.

    Attributes
    ----------
    squares
        Mean squared kernel over pairs of distinct subjects.
    images
        N, the number of images that the score is stated for.
    """

    squares: MeanSimilarity
    images: int

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image of the set."""
        return self.squares.subjects

    @property
    def bounds(self) -> tuple[float, float]:
        """The numbers of copies of one image, and of images that are all unlike."""
        return 1.0, float(self.images)

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """N / (1 + (N - 1) q), which is N^2 / |K|_F^2 where the set has N images; in [1, N].

        q is the mean squared kernel over pairs, the entries of K off its diagonal of ones.
        """
        q = self.squares.value(weights)
        number: Float64[np.ndarray, " b"] = self.images / (1 + (self.images - 1) * q)
        return number

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """That of q times the square of the derivative by q (delta method)."""
        variance: Float64[np.ndarray, " b"] = self.derivative(weights) ** 2 * self.squares.variance(
            weights
        )
        return variance

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image: the derivative by q times that of q."""
        slope = self.derivative(weights)[:, None]
        return {role: slope * c for role, c in self.squares.contributions(weights).items()}

    def derivative(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The derivative of the value by q."""
        slope: Float64[np.ndarray, " b"] = (
            -(self.images - 1) / self.images * self.value(weights) ** 2
        )
        return slope


@dataclass(frozen=True)
class EffectiveNumberGap:
    """The effective number of the real set minus that of the synthetic one.

    Above zero the synthetic set is less diverse than the real one, as for `SimilarityGap`.
    """

    real: EffectiveNumber
    synth: EffectiveNumber

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image, of both roles."""
        return {**self.real.subjects, **self.synth.subjects}

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The difference, in brains: in (-N, N)."""
        gap: Float64[np.ndarray, " b"] = self.real.value(weights) - self.synth.value(weights)
        return gap

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of both numbers."""
        terms: Float64[np.ndarray, " b"] = self.real.value(weights) + self.synth.value(weights)
        return terms

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of the two variances: the sets are independent."""
        total: Float64[np.ndarray, " b"] = self.real.variance(weights) + self.synth.variance(
            weights
        )
        return total

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image; those of synthetic images are subtracted."""
        return {
            "real": self.real.contributions(weights)["real"],
            "synth": -self.synth.contributions(weights)["synth"],
        }

    def parts(self) -> dict[str, Part]:
        """The numbers of the two sets."""
        return {
            "synth": Part("Effective number of brains, synth", self.synth, tabled=True),
            "real": Part("Effective number of brains, real", self.real, tabled=True),
        }


class RKE(BaseMetric):
    """How many fewer effective brains the synthetic set has than the real one."""

    name = "rke"
    label = "RKE gap (brains)"
    formula = (
        "R(real) - R(synth), R = N / (1 + (N - 1) q), q = mean k(a,b)^2 over pairs of distinct "
        "subjects, k(a,b) = exp(-|a-b|^2 / (2 l^2)), N = real subjects; l^2 = median squared "
        f"distance between distinct real images * {BANDWIDTH_SHARE**2:g}"
    )
    direction: Direction = "zero"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    of_variety = True
    sees = "lost or excess diversity: dropped modes, repeated images, a smaller or larger spread"
    misses = (
        "realism: noisy or wrong images can be as diverse as real ones; and whether the diversity "
        "lies in the same features"
    )
    responds_to: tuple[str, ...] = ("duplicates",)

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The kernel's bandwidth in feature units, and the number N of real subjects.

        Raises
        ------
        MetricError
            There are no features, or `median_bandwidth` refuses them.
        """
        if real is None:
            raise MetricError("rke: its bandwidth is frozen from real features; found none.")
        index = subject_index(None if subjects is None else {"real": subjects}, real=len(real))
        bandwidth = BANDWIDTH_SHARE * median_bandwidth(real, subjects)
        return {"bandwidth": bandwidth, "images": n_subjects(index["real"])}

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        bandwidth: float | None = None,
        images: int | None = None,
        **settings: Any,
    ) -> EffectiveNumberGap:
        """Compute the kernels within both sets, and return the statistic.

        Parameters
        ----------
        real, synth
            Feature matrices, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject.
        bandwidth, images
            Those of the frozen reference; None takes them from `real`.

        Raises
        ------
        MetricError
            The features are unusable, a set has one subject, the bandwidth is not above zero or
            far too small, or `images` is below 2.
        """
        sets = check_features(self.name, real=real, synth=synth)
        index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
        check_subjects(index)
        if bandwidth is None:
            bandwidth = BANDWIDTH_SHARE * median_bandwidth(sets["real"], index["real"])
        n = n_subjects(index["real"]) if images is None else images
        if n < 2:
            raise MetricError(f"rke: images must be at least 2; found {n}. Leave it out.")
        check_bandwidth(bandwidth)
        of_role = {
            role: EffectiveNumber(mean_square_kernel(x, role, index[role], bandwidth), n)
            for role, x in sets.items()
        }
        return EffectiveNumberGap(of_role["real"], of_role["synth"])


def mean_square_kernel(
    x: Float64[np.ndarray, "n d"], role: str, index: Int64[np.ndarray, " n"], bandwidth: float
) -> MeanSimilarity:
    """Return the mean over pairs of distinct subjects of the squared kernel, as a statistic.

    The square of a Gaussian kernel is the kernel of the bandwidth over sqrt(2).
    """
    check_memory("rke", 2 * len(x) ** 2, f"the kernels of {len(x)} {role} images")
    kernel = gaussian_kernel(x, x, bandwidth / np.sqrt(2))
    return MeanSimilarity(distinct_pairs(kernel, index), role, {role: index})


def rke(x: Float64[np.ndarray, "n d"], bandwidth: float | None = None) -> float:
    """Return the effective number of images in a set.

    It is n^2 over the sum of squares of the set's kernel matrix.

    Parameters
    ----------
    x
        Features, one row per image.
    bandwidth
        That of the Gaussian kernel, in feature units. Use one bandwidth for all sets that are
        compared, for example `median_bandwidth(real) / 2`. None takes it from `x`.

    Returns
    -------
    A value in [1, n]: 1 for copies of one image, n for images that are all unlike.

    Raises
    ------
    MetricError
        The features are unusable, or the bandwidth is not above zero.

    Examples
    --------
    >>> x = np.array([[0.0], [0.0], [90.0], [90.0]])  # two pairs of copies
    >>> rke(x, bandwidth=1.0)
    2.0
    """
    features = check_features("rke", real=x)
    used = BANDWIDTH_SHARE * median_bandwidth(features["real"]) if bandwidth is None else bandwidth
    check_bandwidth(used)
    kernel = gaussian_kernel(features["real"], features["real"], used)
    return float(len(kernel) ** 2 / (kernel**2).sum())
