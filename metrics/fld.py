"""Feature likelihood: how likely real images are under a density made of the synthetic ones.

Around each synthetic image lies a normal distribution; their mean is the density. The widths are
fitted to the real images, and the value is the mean negative log-likelihood of the real images per
dimension. A synthetic set gets a low value only where each real image has synthetic ones near, and
few synthetic images lie where there are no real ones.

Differences from the published code, and why:

- The features are the first `dimensions` principal components of the real images, at most 16, with
  unit variance. In 512 dimensions, the density of 70 images is that of each nearest neighbour.
- The likelihood of a real image is computed with widths that its subject did not fit: there is no
  second real set. One image of the real variance is added to each fit, so that no width vanishes.
- The baseline is the entropy of a normal distribution with the real covariance, not a random half
  of the training images. Compare with the floor, not with zero.

A smaller spread is rewarded: with few images in 16 dimensions the normal distributions are wide,
and a set nearer to the middle makes up for that. So a value below the floor is no praise.

The published score also needs the training images: with widths fitted to those, a copy has a narrow
width and is punished. Here `memorization` looks for copies.

References
----------
Jiralerspong et al., "Feature likelihood divergence", NeurIPS 2023 (arXiv:2302.04440), and its code.
Dempster, Laird and Rubin, J. R. Stat. Soc. B 39, 1977: EM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import subject_sums
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import (
    BaseMetric,
    Role,
    RowStatistic,
    Weights,
    check_features,
    check_memory,
)
from synthbench.metrics.subjects import n_subjects, subject_index

MOST_DIMENSIONS = 16
SUBJECTS_PER_DIMENSION = 4
"""There are at most as many dimensions as a fourth of the real subjects."""

ITERATIONS = 30


def dimensions_of(subjects: int, features: int) -> int:
    """Return the number of principal components: at most 16, and a fourth of the subjects.

    >>> dimensions_of(70, 512), dimensions_of(24, 512), dimensions_of(70, 6)
    (16, 6, 6)
    """
    return max(1, min(MOST_DIMENSIONS, subjects // SUBJECTS_PER_DIMENSION, features))


def components(
    real: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    w: Float64[np.ndarray, " n"],
    dimensions: int,
) -> tuple[Float64[np.ndarray, "n p"], Float64[np.ndarray, "m p"]]:
    """Return both sets on the first principal components of the weighted real set, unit variance.

    Components along which the real images do not vary are left out.
    """
    mean = w @ real / w.sum()
    root = np.sqrt(w / w.sum())
    _, singular, axes = np.linalg.svd(root[:, None] * (real - mean), full_matrices=False)
    kept = np.arange(len(singular)) < dimensions
    kept &= singular > 1e-9 * singular[0]
    scaled = axes[kept] / singular[kept, None]
    return (real - mean) @ scaled.T, (synth - mean) @ scaled.T


def likelihood(
    x: Float64[np.ndarray, "n p"],
    y: Float64[np.ndarray, "m p"],
    w: Float64[np.ndarray, " n"],
    v: Float64[np.ndarray, " m"],
    index: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, " n"]:
    """Return the log-likelihood of each x under normal distributions around y.

    EM fits one variance for each y: the mean squared distance per dimension of the x that belong to
    it, and of one image at the distance of the real standard deviation. The likelihood of x leaves
    out the terms of its own subject.
    """
    p = x.shape[1]
    check_memory("fld", 4 * len(x) * len(y), f"the distances of {len(x)} and {len(y)} images")
    squares = cdist(x, y, "sqeuclidean")
    log_share = np.log(v / v.sum())
    variance = np.ones(len(y))
    for _ in range(ITERATIONS):
        log_parts = _log_parts(squares, variance, p) + log_share
        # SciPy's logsumexp takes five times as long on small matrices.
        belongs = np.exp(log_parts - log_parts.max(axis=1, keepdims=True))
        belongs *= (w / belongs.sum(axis=1))[:, None]
        variance = _variance((belongs * squares).sum(axis=0), belongs.sum(axis=0), v, p)
    of_subject = [subject_sums(terms.T, index).T[index] for terms in (belongs * squares, belongs)]
    others = _variance(
        np.maximum((belongs * squares).sum(axis=0) - of_subject[0], 0.0),
        np.maximum(belongs.sum(axis=0) - of_subject[1], 0.0),
        v,
        p,
    )
    return np.asarray(logsumexp(_log_parts(squares, others, p) + log_share, axis=1))


def _variance(
    squares: Float64[np.ndarray, "*shape"],
    counts: Float64[np.ndarray, "*shape"],
    v: Float64[np.ndarray, " m"],
    p: int,
) -> Float64[np.ndarray, "*shape"]:
    """The mean squared distance per dimension; a y of weight 2 stands for two equal ones."""
    return np.asarray((squares + p * v) / (p * (counts + v)))


def _log_parts(
    squares: Float64[np.ndarray, "n m"], variance: Float64[np.ndarray, "*shape"], p: int
) -> Float64[np.ndarray, "n m"]:
    return np.asarray(-0.5 * (p * np.log(2 * math.pi * variance) + squares / variance))


class FLD(BaseMetric):
    """Negative log-likelihood of real images under a density of the synthetic ones."""

    name = "fld"
    label = "FLD"
    formula = (
        "100 x (mean over real of -log p / dimensions - log(2 pi e) / 2), p = mean over synth of a "
        "Gaussian, variances by EM on the real images of other subjects and one at the real "
        f"variance ({ITERATIONS} steps); principal components of real, unit variance"
    )
    # A synthetic spread that is too small is rewarded: a change must fail no comparison.
    role: Role = "descriptive"
    sees = "real images that no synthetic one is near, and synthetic images away from real ones"
    misses = (
        "a smaller spread, which it rewards; what the first components do not show; copies of "
        "training images"
    )

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The number of principal components.

        Raises
        ------
        MetricError
            There are no features.
        """
        if real is None:
            raise MetricError("fld: its dimensions are frozen from real features; found none.")
        index = subject_index(None if subjects is None else {"real": subjects}, real=len(real))
        return {"dimensions": dimensions_of(n_subjects(index["real"]), real.shape[1])}

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        dimensions: int | None = None,
        **settings: Any,
    ) -> RowStatistic:
        """Check the features, and return the statistic.

        Parameters
        ----------
        real, synth
            Feature matrices, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject.
        dimensions
            Number of principal components; None takes it from `real`.

        Raises
        ------
        MetricError
            The features are unusable, or the real images are all equal.
        """
        sets = check_features(self.name, real=real, synth=synth)
        index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
        x, y = sets["real"], sets["synth"]
        if not np.ptp(x, axis=0).any():
            raise MetricError(
                f"{self.name}: the {len(x)} real images must differ; all are equal. Look for "
                "duplicated volumes.",
                "no spread",
            )
        if dimensions is None:
            dimensions = dimensions_of(n_subjects(index["real"]), x.shape[1])
        x, y = _in_real_span(x, y)
        function = partial(_values, x, y, index["real"], dimensions)
        return RowStatistic(function, index, self.bounds, target=self.target)


def _in_real_span(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"]
) -> tuple[Float64[np.ndarray, "n r"], Float64[np.ndarray, "m r"]]:
    """Return both sets in coordinates of the real images' span, which holds all components.

    There are at most n coordinates, whatever the number of features.
    """
    if real.shape[1] <= len(real):
        return real, synth
    origin = real.mean(axis=0)
    basis = np.linalg.qr((real - origin).T)[0]
    return (real - origin) @ basis, (synth - origin) @ basis


def _values(
    real: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    index: Int64[np.ndarray, " n"],
    dimensions: int,
    weights: Weights,
) -> Float64[np.ndarray, " b"]:
    found = np.full(len(weights["real"]), np.nan)
    for row, (w, v) in enumerate(zip(weights["real"], weights["synth"], strict=True)):
        i, j = w > 0, v > 0
        # A single real subject has no other one to fit the widths.
        if len(np.unique(index[i])) < 2 or not j.any():
            continue
        x, y = components(real[i], synth[j], w[i], dimensions)
        subjects = np.unique(index[i], return_inverse=True)[1]
        log_p = likelihood(x, y, w[i], v[j], subjects)
        mean = float(w[i] @ log_p / w[i].sum())
        found[row] = 100 * (-mean / x.shape[1] - 0.5 * math.log(2 * math.pi * math.e))
    return found


def fld(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Return the feature likelihood divergence of synthetic images from real ones.

    Parameters
    ----------
    x, y
        Features of the real and the synthetic images.

    Returns
    -------
    100 times the excess of the negative log-likelihood per dimension over the entropy of a normal
    distribution. Lower is better; samples of one distribution do not reach zero.

    Raises
    ------
    MetricError
        The features are unusable, or the real images are all equal.
    """
    return estimate(FLD().prepare(x, y))
