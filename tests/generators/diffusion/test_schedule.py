"""Noise schedules, weights of the loss, and settings that are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import lognorm

from synthbench.generators.diffusion.schedule import (
    DiffusionSettings,
    alphas_cumprod,
    first_timestep,
)
from tests.generators.diffusion.examples import PREDICTIONS, diffusion


def test_the_cosine_schedule_is_the_papers():
    """Eq. 17: alpha-bar is cos^2 of a straight line, over its value at 0; it ends near zero."""
    found = diffusion(schedule="cosine", timesteps=100).alphas_cumprod
    line = (np.arange(101) / 100 + 0.008) / 1.008
    expected = np.cos(line * math.pi / 2) ** 2
    assert np.allclose(found[:99], (expected / expected[0])[1:100], atol=1e-12)
    assert 0 < float(found[-1]) < 1e-6  # the last beta is cut at 0.999: small, and not zero


@pytest.mark.parametrize(("weighting", "least"), [("min_snr", 0), ("truncated_snr", 1)])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weightings_weigh_the_same_error_alike(prediction, weighting, least):
    """All predictions of one clean volume x_0 + d cost min(SNR, 5) |d|^2, truncated at least |d|^2.

    A wrong x_0 + d with the right x_t = a x_0 + s e means noise e - (a / s) d, and velocity
    a e' - s (x_0 + d) = v - (a^2 / s + s) d = v - d / s.
    """
    t = torch.tensor([0, 50, 300, 700, 999])
    clean = torch.rand((5, 1, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    wrong = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    process = diffusion(prediction=prediction, loss_weighting=weighting)
    alpha_bar = process.alphas_cumprod.numpy()[t.numpy()]
    a, s = (
        torch.from_numpy(np.sqrt(x)).reshape(-1, 1, 1, 1, 1) for x in (alpha_bar, 1 - alpha_bar)
    )
    answer = {
        "sample": clean + wrong,
        "epsilon": noise - a / s * wrong,
        "v": a * noise - s * clean - wrong / s,
    }[prediction]
    losses = process.losses(lambda x, t: answer, clean, t, noise)
    snr = alpha_bar / (1 - alpha_bar)
    expected = np.clip(snr, least, 5) * wrong.square().mean((1, 2, 3, 4)).numpy()
    assert np.allclose(losses.numpy(), expected, rtol=1e-3)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta_start": 0.03}, "Set beta_start=0.0195 and beta_end=0.03"),
        ({"beta_start": 0.0195}, "Set beta_start=0.0005 and beta_end=0.0195"),
        ({"timesteps": 100}, r"68% of the volume is left; .* beta_end=0\.09"),
        ({"timesteps": 2}, "schedule=cosine"),
        ({"sampler": "unipc", "sampler_steps": 2000}, "The nearest: 1000"),
        ({"sampler": "heun", "schedule": "cosine", "sampler_steps": 1000}, "The nearest: 996"),
        ({"schedule": "sigmoid"}, "'linear', 'cosine' or 'lognormal'"),
        ({"timesteps": 1}, "greater than or equal to 2"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    """timesteps=100: the betas' mean is (0.0005 + 0.0195 + sqrt(0.0005 * 0.0195)) / 3 = 0.0077, so
    a = exp(-100 * 0.0077 / 2) = 0.68. For a = 0.2 it must be 0.032, as with beta_end near 0.09.
    """
    with pytest.raises(ValidationError, match=words):
        DiffusionSettings(**settings)


def test_lognormal_noise_levels_are_scipys_quantiles():
    settings = DiffusionSettings(
        schedule="lognormal", log_noise_mean=0.3, log_noise_sd=0.9, timesteps=50, prediction="v"
    )
    alpha_bar = alphas_cumprod(settings).numpy()
    known = lognorm(0.9, scale=np.exp(0.3)).ppf((np.arange(50) + 0.5) / 50)
    assert np.allclose(np.sqrt((1 - alpha_bar) / alpha_bar), known, rtol=1e-9)


def test_a_start_below_pure_noise_is_the_nearest_timestep():
    """Noise over signal is exp(0.9 z) at quantile z: 1 is at the median, between 24 and 25."""
    settings = DiffusionSettings(
        schedule="lognormal", log_noise_mean=0.0, log_noise_sd=0.9, timesteps=51
    )
    assert first_timestep(settings, "heun", 1.0) == 25
    assert first_timestep(settings, "ddpm", 1e6) == 50
    assert first_timestep(settings, "ddpm") == 50
