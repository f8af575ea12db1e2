"""Collapse of a generator: its samples are nearly alike, or a few volumes that come again.

The mean similarity of pairs shows a generator that draws nearly one volume, as published for
adversarial networks of brains (Pinaya et al. 2022, arXiv 2209.07162, table 1: MS-SSIM 0.9997 and
0.967 within samples, 0.654 within real volumes). With k volumes that come again the mean moves by
about 1/k only. So samples with a near twin are counted too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError

LEAST_DIVERSITY = 0.5
"""Below this share of the diversity of real volumes, samples have collapsed."""

MOST_TWINS = 0.5
"""Above this share of samples with a near twin, samples have collapsed."""

TWIN_WITHIN = 0.5
"""Two samples are near twins where their dissimilarity is below this share of the smallest one
between two real volumes."""

SAME = 1e-4
"""Real volumes whose mean dissimilarity is below this are copies of each other."""


@dataclass(frozen=True)
class Diversity:
    """How different samples are from each other, relative to real volumes.

    Attributes
    ----------
    volumes, real_volumes
        Number of samples, and of real volumes.
    similarity, real_similarity
        Mean MS-SSIM of the pairs of samples, and of the pairs of real volumes; in [0, 1].
    diversity
        (1 - similarity) / (1 - real_similarity): 0 for one volume again and again, about 1 for
        samples that differ as much as real volumes do.
    twins
        Share of samples with a near twin (`TWIN_WITHIN`) among the others, in [0, 1].
    collapsed
        True where diversity is below `LEAST_DIVERSITY`, or twins above `MOST_TWINS`.
    """

    volumes: int
    real_volumes: int
    similarity: float
    real_similarity: float
    diversity: float
    twins: float
    collapsed: bool


def diversity(synth: Float64[np.ndarray, "n n"], real: Float64[np.ndarray, "m m"]) -> Diversity:
    """Compare the similarities of the pairs of samples with those of real volumes.

    Parameters
    ----------
    synth, real
        Symmetric matrices of MS-SSIM of all pairs, of at least 2 volumes each; the diagonals are
        not used. Real volumes are of different subjects.

    Raises
    ------
    MetricError
        A matrix is smaller than 2 x 2 or not finite, or the real volumes are copies of each other.
    """
    for name, matrix in (("samples", synth), ("real volumes", real)):
        if len(matrix) < 2 or not np.isfinite(matrix).all():
            raise MetricError(
                f"diversity: needs the finite similarities of at least 2 {name}; found a matrix of "
                f"{len(matrix)} x {len(matrix)}. Sample or add more volumes.",
                "too few images",
                needed=2,
                found=len(matrix),
            )
    apart, real_apart = 1 - _off_diagonal(synth), 1 - _off_diagonal(real)
    if real_apart.mean() < SAME:
        raise MetricError(
            f"diversity: the {len(real)} real volumes are copies of each other, so there is "
            "nothing to compare samples with. Use volumes of different subjects.",
            "equal images",
        )
    nearest = apart.min(axis=1)
    share = float(apart.mean() / real_apart.mean())
    twins = float(np.mean(nearest < TWIN_WITHIN * real_apart.min()))
    return Diversity(
        len(synth), len(real), float(1 - apart.mean()), float(1 - real_apart.mean()), share, twins,
        share < LEAST_DIVERSITY or twins > MOST_TWINS,
    )  # fmt: skip


def _off_diagonal(matrix: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "n _"]:
    """Return the matrix without its diagonal: one row per volume, one column per other one."""
    n = len(matrix)
    others = np.asarray(matrix, np.float64)[~np.eye(n, dtype=bool)]
    shaped: Float64[np.ndarray, "n _"] = others.reshape(n, n - 1)
    return shaped
