"""The most and the least typical synthetic volumes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from synthbench.cohorts.cohort import Cohort
from synthbench.metrics.kernels import gaussian_kernel, squared_distances
from synthbench.report.album.at_hand import FeatureSpace
from synthbench.report.album.gallery import PICTURED, Chosen, Plan


def typicality(
    synth: Float64[np.ndarray, "m d"], real: Float64[np.ndarray, "n d"], bandwidth: float
) -> Float64[np.ndarray, " m"]:
    """Return the mean Gaussian kernel of each row with all real rows.

    It is the part of the witness function of MMD that comes from the real set.

    Parameters
    ----------
    synth, real
        Features, one row per image.
    bandwidth
        Of exp(-|a-b|^2 / (2 bandwidth^2)).

    Returns
    -------
    In [0, 1]; high where real images are near. Source: Gretton et al. 2012, "A kernel two-sample
    test", section 2.3 (the empirical witness function).
    """
    means: Float64[np.ndarray, " m"] = gaussian_kernel(synth, real, bandwidth).mean(axis=1)
    return means


def _of_real(space: FeatureSpace) -> Float64[np.ndarray, " n"]:
    """Return each real volume's mean kernel with volumes of other subjects."""
    rows = space.rows(space.real)
    kernel = gaussian_kernel(rows, rows, space.bandwidth)
    other = space.real.subjects[:, None] != space.real.subjects
    means: Float64[np.ndarray, " n"] = (kernel * other).sum(axis=1) / other.sum(axis=1)
    return means


def by_typicality(space: FeatureSpace, synth: Cohort) -> list[Plan]:
    """Return the most and the least typical synthetic volumes."""
    real = space.rows(space.real)
    found = typicality(space.rows(space.synth), real, space.bandwidth)
    low, high = np.percentile(_of_real(space), [2.5, 97.5])
    # Kernels of far volumes can all be 0 in float64; then the distances give the order.
    distances = squared_distances(space.rows(space.synth), real).mean(axis=1)
    order = np.lexsort((distances, -found))
    about = (
        f"By the mean kernel with all real volumes, in the features of {space.extractor}; 95% of "
        f"the real volumes have {low:.3g} to {high:.3g} with each other."
    )
    plans = []
    some = min(PICTURED, len(order) // 2)
    for title, chosen in (
        ("The most typical synthetic volumes", order[:some]),
        ("The least typical synthetic volumes", order[::-1][:some]),
    ):
        volumes = [
            Chosen("synth", int(i), synth.entries[i].name, f"synthetic, typicality {found[i]:.3g}")
            for i in chosen
        ]
        plans.append(Plan(title, about, volumes))
    return plans
