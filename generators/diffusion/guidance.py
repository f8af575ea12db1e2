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
        The requested row, and the row of no condition. Rows without columns are not passed on.
    guidance
        The factor; 1 is c alone.
    difference
        The mean of conditioned latents minus that of unconditional ones, scaled. Each mean is
        taken off the latents before diffusion, so the clean latents of the two predictions differ
        by it.
    diffusion
        The diffusion process.
    """
    if not conditioned.shape[1]:
        return lambda x, t: network(x, t)
    if guidance == 1:
        return lambda x, t: network(x, t, conditioned)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = float(diffusion.alphas_cumprod[int(t[0])])
        signal, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        # The unconditional network expects the clean latent plus the difference: the state is moved
        # there. `change` brings its prediction back to the latent less the difference.
        change = {"sample": -1.0, "epsilon": 0.0, "v": sigma}[diffusion.settings.prediction]
        without = network(x + signal * difference, t, unconditional).float() + change * difference
        return without + guidance * (network(x, t, conditioned).float() - without)

    return predict
