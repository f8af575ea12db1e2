"""Near copies: synthetic images that lie far closer to one real image than to the next one.

Take a synthetic image, and its distances d_1 and d_2 to the nearest subject of a side (training or
hold-out) and to the next one. Where nothing was copied, log(d_2 / d_1) follows from the dimension
of the data alone: in a small ball of dimension D around the image, d_1^D / d_2^D is uniform,
whatever the density there and whatever the number of images. So it is the same on both sides also
where all images lie nearer to the training set, or where the hold-out is of another site. A copy
has a small d_1 and an unchanged d_2: only copies of a training image raise it, and only on that
side. Yoon et al. (2023) define memorized images by the same ratio.

References
----------
Yoon et al., "Diffusion probabilistic models generalize when they fail to memorize", ICML 2023
workshop on structured probabilistic inference and generative modeling.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.metrics.nearest.labellings import p_values
from synthbench.metrics.nearest.rows import Ranked

COPY_SIZE = 0.3
"""Part of log(d_2 / d_1) that does not count. A near copy that the power is computed for has about
0.8, an image of the generator `memorizer` 0.65, an image of a Gaussian that was fitted to 86
training images 0.1 or less."""


def spacings(ranked: Ranked, side: Bool[np.ndarray, "b s"]) -> Float64[np.ndarray, "m b"]:
    """Return log(d_2 / d_1) of each image to the subjects of a side, under each labelling.

    Parameters
    ----------
    ranked
        The subjects in the order of the distance from each image.
    side
        True for the subjects of the side; at least two in every labelling.

    Returns
    -------
    NaN where fewer than two subjects of the side are known.
    """
    order, by_subject = ranked.labelled(side)
    found = np.zeros((len(order), len(side)), dtype=np.int8)
    nearest, spacing = np.zeros(found.shape), np.zeros(found.shape)
    for rank in range(order.shape[1]):
        own = by_subject[order[:, rank]]
        here = np.broadcast_to(ranked.logs[:, rank, None], own.shape)
        np.copyto(spacing, here - nearest, where=own & (found == 1))
        np.copyto(nearest, here, where=own & (found == 0))
        found += own & (found < 2)
        if found.min() == 2:
            break
    spacing[found < 2] = np.nan
    return spacing


def excess_spacings(
    ranked: Ranked, side: Bool[np.ndarray, "b s"], copy_size: float = COPY_SIZE
) -> Float64[np.ndarray, "m b"]:
    """Return how far the spacing to the subjects of a side exceeds `copy_size`, else zero.

    The mean over images on the training side, less that on the hold-out side, is the statistic of
    the test for near copies. NaN as in `spacings`.
    """
    excess: Float64[np.ndarray, "m b"] = np.maximum(spacings(ranked, side) - copy_size, 0.0)
    return excess


def near_copies_p(
    train: Float64[np.ndarray, "m b"], holdout: Float64[np.ndarray, "m b"], draws: int
) -> float:
    """Return the one-sided permutation p-value of the test for near copies.

    Parameters
    ----------
    train, holdout
        The excess spacings to both sides under each labelling, the observed one first; means over
        the draws of scans.
    draws
        The number of these draws. Over several, subjects are not quite exchangeable: those with
        many scans have a steadier mean, and a skewed one remains for those with one scan. Where
        the hold-out is of the latter, a small value there is no finding. So the training side must
        stand out by itself too: the larger of two p-values is returned.
    """
    values = [(train - holdout).mean(axis=0)]
    if draws > 1:
        values.append(train.mean(axis=0))
    return float(p_values(np.array(values), np.zeros(len(values), dtype=np.int64)).max())
