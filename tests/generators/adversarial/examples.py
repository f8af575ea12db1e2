"""Small adversarial networks, and what goes into them."""

from __future__ import annotations

from typing import Any

import torch

from synthbench.generators.adversarial.losses import LSGAN, VAEGAN
from synthbench.generators.adversarial.settings import LSGANSettings, VAEGANSettings
from synthbench.generators.networks.weights import seeded

LATENT = 5
SMALL: dict[str, Any] = {
    "latent": LATENT, "patch": 2, "channels": (4, 8), "norm_groups": 4,
    "discriminator_channels": (4, 6), "steps": 1,
}  # fmt: skip
GRID = (9, 11, 10)


def lsgan(**changes):
    return seeded(0, lambda: LSGAN(LSGANSettings(**{**SMALL, **changes}), GRID))


def vaegan(**changes):
    settings = VAEGANSettings(**{**SMALL, "encoder_channels": (4, 6), **changes})
    return seeded(0, lambda: VAEGAN(settings, GRID))


def batch(latents, n=3, seed=0):
    """Volumes, latent numbers, and draws of the augmentation."""
    draws = torch.Generator().manual_seed(seed)
    return (
        torch.rand(n, 1, *GRID, generator=draws),
        torch.randn(n, latents, LATENT, generator=draws),
        torch.rand(n, 2, 5, generator=draws),
    )
