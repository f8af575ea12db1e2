"""Intensities of fluid, grey and white matter in a scan, and a scale based on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from synthbench.cohorts.preparation.settings import TissueScale
from synthbench.errors import CohortError

_ITERATIONS = 15
_LEAST_SD = 0.02  # of the brightest class's mean


@dataclass(frozen=True)
class Tissues:
    """Mean and standard deviation of the intensity of each tissue."""

    fluid: float
    grey: float
    white: float
    white_sd: float


def tissue_intensities(
    values: Float32[np.ndarray, " n"], odds: Float32[np.ndarray, "3 n"]
) -> Tissues:
    """Return the tissues' intensities: one Gaussian per tissue, from each voxel's prior odds.

    Expectation-maximisation of a mixture whose proportions are the template's (Ashburner and
    Friston 1997, Neuroimage 6:209).

    Parameters
    ----------
    values
        Intensities of voxels in the brain.
    odds
        Relative odds of fluid, grey and white matter in each, all above 0.

    Raises
    ------
    CohortError
        The means do not rise from fluid to grey to white: this is not a T1 contrast.
    """
    x = values.astype(np.float64)
    posterior = odds / odds.sum(axis=0)
    mean, sd = _moments(x, posterior)
    for _ in range(_ITERATIONS):
        sd = np.maximum(sd, _LEAST_SD * mean.max())
        density = odds * np.exp(-0.5 * ((x - mean[:, None]) / sd[:, None]) ** 2) / sd[:, None]
        posterior = density / np.maximum(density.sum(axis=0), 1e-300)
        mean, sd = _moments(x, posterior)
    fluid, grey, white = (float(m) for m in mean)
    if not fluid < grey < white:
        raise CohortError(
            "tissue contrast: in a T1-weighted scan fluid is darker than grey matter, and grey "
            f"than white; found means of {fluid:.4g}, {grey:.4g} and {white:.4g}. "
            "Check that the scan is T1-weighted."
        )
    return Tissues(fluid, grey, white, float(sd[2]))


def _moments(
    x: Float64[np.ndarray, " n"], posterior: Float64[np.ndarray, "3 n"]
) -> tuple[Float64[np.ndarray, " 3"], Float64[np.ndarray, " 3"]]:
    weight = posterior.sum(axis=1)
    mean = (posterior * x).sum(axis=1) / weight
    variance = (posterior * (x - mean[:, None]) ** 2).sum(axis=1) / weight
    return mean, np.sqrt(variance)


def scaled(
    volume: Float32[np.ndarray, "d h w"], tissues: Tissues, scale: TissueScale
) -> Float32[np.ndarray, "d h w"]:
    """Return a volume in which the means of grey and of white matter are fixed, in [0, 1].

    The map is piecewise linear: 0 to 0, grey to `scale.grey`, white to `scale.white`, and on along
    the last piece up to 1, where it is clipped (landmarks as in Nyul et al. 2000, with tissue means
    in place of percentiles).

    Parameters
    ----------
    volume
        Intensities, not negative.
    """
    slope = (scale.white - scale.grey) / (tissues.white - tissues.grey)
    top = tissues.white + (1 - scale.white) / slope
    mapped = np.interp(
        volume, [0, tissues.grey, tissues.white, top], [0, scale.grey, scale.white, 1]
    )
    return np.asarray(mapped, dtype=np.float32)
