"""Classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Callable

from jaxtyping import Float32
from torch import Tensor

from synthbench.generators.diffusion.process import Diffusion


def guided(
    network: Callable[..., Tensor],
    conditioned: Float32[Tensor, "1 k"],
    unconditional: Float32[Tensor, "1 k"],
    guidance: float,
    difference: Float32[Tensor, "1 c d h w"],
    diffusion: Diffusion,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the network with classifier-free guidance (Ho and Salimans 2022, eq. 6).

    With u the unconditional prediction and c the conditioned one: u + guidance (c - u).

    Parameters
    ----------
    network
        Maps a state, its timestep and encoded conditions to the prediction.
    conditioned, unconditional
        The row that is requested, and that of no condition; without columns, none is given.
    guidance
        1: c alone.
    difference
        How much more is taken from conditioned latents than from unconditional ones, scaled:
        the two predictions are of clean latents that differ by it.
    diffusion
        The process.
    """
    if not conditioned.shape[1]:
        return lambda x, t: network(x, t)
    if guidance == 1:
        return lambda x, t: network(x, t, conditioned)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = float(diffusion.alphas_cumprod[int(t[0])])
        signal, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        # How a clean latent that is less by the difference changes what is predicted of it.
        change = {"sample": -1.0, "epsilon": 0.0, "v": sigma}[diffusion.settings.prediction]
        without = network(x + signal * difference, t, unconditional).float() + change * difference
        return without + guidance * (network(x, t, conditioned).float() - without)

    return predict
