"""The test that training and hold-out images come from one population."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.metrics.mmd_permutation import BANDWIDTH_FACTORS
from synthbench.metrics.nearest.labellings import ROUNDING, Sides, nearest_contrasts, p_values
from synthbench.metrics.nearest.pairs import Pairs
from synthbench.metrics.nearest.rows import Rows


def sides_p(real: Rows, pairs: Pairs, sides: Sides, floor: float) -> float:
    """Return the permutation p-value that the two sides of the first labelling are one population.

    Six statistics are standardised over all labellings, and the largest is compared. Five are
    MMD^2 with Gaussian kernels (`synthbench.metrics.mmd_permutation.BANDWIDTH_FACTORS` times the
    median distance). The sixth is the size of the mean of log(d_H / d_T) over the real images
    themselves, without the distance of an image from itself: the statistic of memorization, with
    images that no generator made. It sees where one side is denser around real images.

    Parameters
    ----------
    real
        From one image of each subject to the real images, without the image itself.
    pairs
        The pairs of these images, in the order of the subjects.
    sides
        The labellings, the observed one first, and one draw: these images.
    floor
        Smaller distances are set to this before the logarithm.
    """
    own = sides.averaged(real, floor, nearest_contrasts).mean(axis=0)
    scores = _standardised(np.abs(own - own.mean()))
    bandwidths = np.array(BANDWIDTH_FACTORS) * pairs.median()
    for values in _discrepancies(pairs, bandwidths.tolist(), sides.labels):
        scores = np.maximum(scores, _standardised(values))
    return float(p_values(scores[None, :], np.array([0]))[0])


def _discrepancies(
    pairs: Pairs, bandwidths: Sequence[float], labels: Bool[np.ndarray, "b s"]
) -> Float64[np.ndarray, "f b"]:
    """MMD^2 (unbiased) between the sides of each labelling, with a Gaussian kernel each."""
    train = np.ascontiguousarray(labels.T, dtype=np.float64)
    n, m = train[:, 0].sum(), (1 - train[:, 0]).sum()
    # Sums of a kernel over the pairs within the training side, and over the pairs of each image.
    within_train = np.zeros((len(bandwidths), len(labels)))
    of_image = np.zeros((len(bandwidths), len(train)))
    for tile, squares in pairs.blocks():
        kernel = np.empty_like(squares)
        for number, bandwidth in enumerate(bandwidths):
            np.divide(squares, -2 * bandwidth**2, out=kernel)
            np.exp(kernel, out=kernel)
            if tile.on_diagonal:
                kernel[np.tri(len(kernel), dtype=np.bool_)] = 0.0
            of_rows = np.einsum("sb,sb->b", kernel @ train[tile.columns], train[tile.rows])
            within_train[number] += 2 * of_rows
            of_image[number, tile.rows] += kernel.sum(axis=1)
            of_image[number, tile.columns] += kernel.sum(axis=0)
    of_train, of_all = of_image @ train, of_image.sum(axis=1, keepdims=True)
    across = of_train - within_train
    within_holdout = of_all - of_train - across
    values: Float64[np.ndarray, "f b"] = (
        within_train / (n * (n - 1)) + within_holdout / (m * (m - 1)) - 2 * across / (n * m)
    )
    return values


def _standardised(values: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """Centre and scale; zeros where all values are equal."""
    centred = values - values.mean()
    sd = centred.std()
    scores: Float64[np.ndarray, " b"] = np.zeros_like(values) if sd <= ROUNDING else centred / sd
    return scores
