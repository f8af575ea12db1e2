"""Sampling of composites, and their way back into volumes."""

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
from synthbench.generators.tiles.labels import Labels
from synthbench.generators.tiles.pictures import Decoder, decoded
from synthbench.generators.tiles.settings import DiTTilesSettings


@dataclass(frozen=True)
class TileSampler:
    """Draws the volume of a seed and a row of conditions.

    Attributes
    ----------
    settings
        Settings of the run.
    decoder
        Turns states into volumes.
    labels
        The labels of rows of conditions.
    shape
        Grid of the volumes.
    """

    settings: DiTTilesSettings
    decoder: Decoder
    labels: Labels
    shape: tuple[int, int, int]

    @property
    def conditional(self) -> bool:
        """True where the run was trained with conditions."""
        return self.labels.width > 0

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
            The transformer.
        seed
            Seed of the noise.
        row
            Conditions in natural units.
        chosen
            Sampler, steps and guidance, as `DiTTiles.sampling` returns them.
        watch
            Called at each call of the network.
        """
        device = next(network.parameters()).device
        draws = torch.Generator().manual_seed(seed)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = torch.randn((1, *self.settings.sample_shape(self.shape)), generator=draws)
        own = torch.from_numpy(self.labels.rows([row], 1)).to(device)
        diffusion, guidance = Diffusion(self.settings), float(chosen.get("guidance", 1.0))
        # The same states are diffused with and without a label.
        difference = torch.zeros((), device=device)
        none = torch.full_like(own, self.labels.none)
        predict = guided(network, own, none, guidance, difference, diffusion)
        drawn = diffusion.denoise(
            predict, noise.to(device), str(chosen["sampler"]), int(chosen["steps"]), draws, watch
        )
        # Clipped only here, at the end: clipping at each step biases the result.
        return self.decoded(drawn, row).clip(0, 1)

    def drawn_row(self, seed: int) -> Row:
        """Return conditions, drawn from their training marginals by the seed alone."""
        return rows_for(self.labels.conditions, [seed])[0]

    def decoded(
        self, state: Float32[Tensor, "1 c 1 s s"], row: Row
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a state, not clipped; it is the same for every row."""
        volume: Float32[np.ndarray, "d h w"] = decoded(self.decoder, state).contiguous().numpy()
        return volume
