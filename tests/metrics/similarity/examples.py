"""Volumes, pair matrices and MONAI's value, which the tests of MS-SSIM share."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim

from synthbench.metrics.msssim import MSSSIM
from synthbench.metrics.similarity.settings import Settings

SMALL = Settings(window=5, weights=(0.3, 0.7))


def volumes(n, shape, seed=0):
    """Smooth structure common to all, and noise of each, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 4, 4, 4, generator=generator)
    common = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[:, 0]
    return 0.6 * common + 0.4 * torch.rand(n, *shape, generator=generator)


def monai_value(x, y, settings):
    return float(
        compute_ms_ssim(
            x[None, None],
            y[None, None],
            spatial_dims=3,
            kernel_size=settings.window,
            kernel_sigma=settings.sigma,
            weights=settings.weights,
            k1=settings.k1,
            k2=settings.k2,
            data_range=settings.data_range,
        )
    )


def pair_matrices(n=9, m=7, seed=0):
    rng = np.random.default_rng(seed)
    real, synth = rng.random((n, n)), rng.random((m, m))
    return (real + real.T) / 2, (synth + synth.T) / 2, rng.random((n, m))


def cross_statistic(real, synth, cross):
    statistic = MSSSIM().prepare(real, synth, cross=cross).cross
    assert statistic is not None
    return statistic
