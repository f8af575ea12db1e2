"""Noise: its amount, and its removal without blurring edges."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

from synthbench.cohorts.preparation.settings import Denoising

_RAYLEIGH_MEDIAN = float(np.sqrt(2 * np.log(2)))
_NORMAL_QUARTILE = 0.6744897501960817


def noise_sd(volume: Float32[np.ndarray, "d h w"], head: Bool[np.ndarray, "d h w"]) -> float:
    """Return the standard deviation of the noise in each channel of a magnitude image.

    It is the smaller of two estimates that can only be too large: the air's median, which is
    sigma sqrt(2 ln 2) for Rayleigh noise and more where there are ghosts (Gudbjartsson and Patz
    1995); and the median absolute value of the finest diagonal Haar coefficients in the head over
    0.6745, which anatomy adds to (Coupe et al. 2010, Med Image Anal 14:483, eq. 4). Air that a
    scanner or a defacing tool has set to zero is left out.

    Parameters
    ----------
    volume
        Intensities, not negative.
    head
        A mask of the head: outside is air.
    """
    estimates = []
    air = volume[~head & (volume > 0)]
    if air.size >= 0.1 * head.sum():
        estimates.append(float(np.median(air)) / _RAYLEIGH_MEDIAN)
    even = tuple(slice(0, side // 2 * 2, 2) for side in volume.shape)
    inside = head[even]
    if inside.any():
        detail = np.abs(diagonal_haar(volume)[inside])
        estimates.append(float(np.median(detail)) / _NORMAL_QUARTILE)
    return min(estimates, default=0.0)


def diagonal_haar(volume: Float32[np.ndarray, "d h w"]) -> Float64[np.ndarray, "a b c"]:
    """Return the finest Haar wavelet coefficients that are diagonal in all three axes."""
    detail = volume.astype(np.float64)
    for axis in range(3):
        pairs = detail.shape[axis] // 2
        first = np.take(detail, np.arange(0, 2 * pairs, 2), axis)
        second = np.take(detail, np.arange(1, 2 * pairs, 2), axis)
        detail = (first - second) / np.sqrt(2)
    return detail


def denoised(
    volume: Float32[np.ndarray, "d h w"], sd: float, settings: Denoising
) -> Float32[np.ndarray, "d h w"]:
    """Return a volume without its Rician noise, by adaptive non-local means.

    Blockwise non-local means with Rician correction at two patch sizes; adaptive soft coefficient
    matching then takes the finer one's detail and the coarser one's smoothness, wavelet
    coefficient by wavelet coefficient (Coupe et al. 2012, IET Image Processing 6:558).

    Parameters
    ----------
    volume
        Intensities, not negative.
    sd
        Standard deviation of the noise (`noise_sd`); 0 returns the volume as it is.
    """
    if sd == 0:
        return volume
    from dipy.denoise.adaptive_soft_matching import adaptive_soft_matching
    from dipy.denoise.nlmeans import nlmeans

    noisy = volume.astype(np.float64)
    fine, coarse = (
        nlmeans(
            noisy,
            sd,
            patch_radius=radius,
            block_radius=settings.search_radius,
            rician=True,
            num_threads=1,
        )
        for radius in settings.patch_radii
    )
    combined = adaptive_soft_matching(noisy, fine, coarse, sd)
    return np.asarray(np.maximum(combined, 0), dtype=np.float32)
