"""Sampling of latents, and their decoding into volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.cohorts.conditions import Row
from synthbench.cohorts.requests import rows_for
from synthbench.generators.diffusion.guidance import guided
from synthbench.generators.diffusion.process import Diffusion, Watch
from synthbench.generators.latent.autoencoder import Autoencoder
from synthbench.generators.latent.encoding import ConditionEncoding
from synthbench.generators.latent.latents import LatentMean
from synthbench.generators.latent.settings import LDM3DSettings


@dataclass(frozen=True)
class Sampler:
    """Draws the volume of a seed and a row of conditions.

    Attributes
    ----------
    settings
        Settings of the run.
    autoencoder
        Decodes latents.
    mean, scale
        The mean that was subtracted from the latents, and the factor that they then got.
    encoding
        The encoding of rows of conditions.
    shape
        Grid of the volumes.
    """

    settings: LDM3DSettings
    autoencoder: Autoencoder
    mean: LatentMean
    scale: float
    encoding: ConditionEncoding
    shape: tuple[int, ...]

    @property
    def conditional(self) -> bool:
        """True where the run was trained with conditions."""
        return self.encoding.width > 0

    @torch.inference_mode()
    def draw(
        self,
        network: nn.Module,
        seed: int,
        row: Row,
        chosen: Mapping[str, str | int | float],
        watch: Watch | None = None,
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a seed, in [0, 1].

        Parameters
        ----------
        network
            The U-Net.
        seed
            Seed of the noise.
        row
            Conditions in natural units.
        chosen
            Sampler, steps and guidance, as `LDM3D.sampling` returns them.
        watch
            Called at each call of the network.
        """
        device = next(network.parameters()).device
        draws = torch.Generator().manual_seed(seed)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        size = (1, *self.settings.latent_shape(self.shape))
        noise = torch.randn(size, generator=draws).to(device)
        own, absent = self.encoding.rows([row])[0], self.encoding.unconditional
        conditioned, unconditional = (
            torch.from_numpy(one[None]).to(device) for one in (own, absent)
        )
        shift: Float32[np.ndarray, "c d h w"] = self.mean.of(own) - self.mean.of(absent)
        difference = self.scale * torch.from_numpy(shift)[None].to(device)
        diffusion, guidance = Diffusion(self.settings), float(chosen.get("guidance", 1.0))
        predict = guided(network, conditioned, unconditional, guidance, difference, diffusion)
        drawn = diffusion.denoise(
            predict, noise, str(chosen["sampler"]), int(chosen["steps"]), draws, watch
        )
        return self.decoded(drawn, row).clip(0, 1)

    def drawn_row(self, seed: int) -> Row:
        """Return conditions, drawn from their training marginals by the seed alone."""
        return rows_for(self.encoding.conditions, [seed])[0]

    @torch.inference_mode()
    def decoded(
        self, state: Float32[Tensor, "1 c d h w"], row: Row
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of scaled latents with these conditions, not clipped."""
        mean = torch.from_numpy(self.mean.of(self.encoding.rows([row])[0])).to(state)
        decoded = self.autoencoder.decode(state / self.scale + mean)
        volume: Float32[np.ndarray, "d h w"] = decoded.float().cpu().numpy()[0, 0]
        return volume
