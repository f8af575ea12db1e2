"""Augmentation of what a discriminator sees, differentiable: DiffAugment.

Zhao et al. 2020 (arXiv 2006.10738): real and synthetic volumes are changed alike before the
discriminator sees them, in its own loss and in the generator's. So it cannot learn the few real
volumes by heart, and the generator does not learn the changes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from synthbench.generators.adversarial.settings import GANSettings
from synthbench.generators.loop.augmentation import LEFT_RIGHT

DRAWS = 5
"""Random numbers per volume: three shifts, a mirror, a brightness."""


def as_seen(
    volumes: Float[Tensor, "b 1 d h w"], draws: Float[Tensor, "b 5"], settings: GANSettings
) -> Float[Tensor, "b 1 d h w"]:
    """Return volumes as the discriminator sees them.

    Parameters
    ----------
    volumes
        Intensities in [0, 1].
    draws
        Uniform numbers in [0, 1), `DRAWS` per volume.
    settings
        `seen_shift`, `seen_mirror` and `seen_brightness`; what is zero or False is left out.

    Returns
    -------
    Float[Tensor, "b 1 d h w"]
        Shifted by whole voxels with zeros from outside the grid, mirrored, and then brighter or
        darker as a whole.
    """
    if settings.seen_shift > 0:
        for axis in range(3):
            volumes = _shifted(volumes, axis, draws[:, axis], settings.seen_shift)
    if settings.seen_mirror:
        turned = (draws[:, 3] < 0.5)[:, None, None, None, None]
        volumes = torch.where(turned, volumes.flip(2 + LEFT_RIGHT), volumes)
    if settings.seen_brightness > 0:
        volumes = volumes + ((2 * draws[:, 4] - 1) * settings.seen_brightness).view(-1, 1, 1, 1, 1)
    return volumes


def _shifted(
    volumes: Float[Tensor, "b 1 d h w"], axis: int, draws: Float[Tensor, " b"], share: float
) -> Float[Tensor, "b 1 d h w"]:
    """Shift along an axis by a whole number of voxels, each as probable, up to that share."""
    n = volumes.shape[2 + axis]
    most = round(share * n)
    shift = torch.floor(draws * (2 * most + 1)) - most
    places = torch.arange(n, device=volumes.device)
    # A product with a matrix of zeros and ones: indices from tensors have no gradient of their own.
    moves = (places[:, None] - places == shift[:, None, None]).to(volumes.dtype)
    names = "dhw"
    moved = names.replace(names[axis], "x")
    shifted: Tensor = torch.einsum(f"bc{names},bx{names[axis]}->bc{moved}", volumes, moves)
    return shifted
