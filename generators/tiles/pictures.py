"""The states that are diffused: composites as pixels, or as latents of a 2-D autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.generators.tiles.settings import TileAutoencoderSettings
from synthbench.generators.tiles.tiling import Tiling, composites, volumes_of

COLOURS = 3
"""Channels of the images that published autoencoders take: a grey composite is all of them."""


class Decoder(Protocol):
    """Turns diffused states into volumes."""

    def decode(self, states: Float32[Tensor, "b c 1 side side"]) -> Float32[Tensor, "b 1 d h w"]:
        """Return the volumes of states, on the volumes' intensity scale, not clipped."""
        ...


class Pixels:
    """Composites in [-1, 1] as states.

    Parameters
    ----------
    tiling
        The places of the slices.
    """

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling

    def encode(self, volumes: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b 1 1 side side"]:
        """Return the states of volumes in [0, 1]."""
        return composites(volumes, self.tiling)[:, :, None] * 2 - 1

    def decode(self, states: Float32[Tensor, "b 1 1 side side"]) -> Float32[Tensor, "b 1 d h w"]:
        """Return the volumes of states, not clipped."""
        return volumes_of((states[:, :, 0] + 1) / 2, self.tiling)


class TileAutoencoder:
    """The latents of composites, by a published 2-D autoencoder.

    Rombach et al. 2022 (arXiv 2112.10752), as diffusers' `AutoencoderKL`.

    Parameters
    ----------
    network
        The autoencoder.
    scale
        The factor of the latents when they are diffused.
    tiling
        The places of the slices.
    """

    def __init__(self, network: AutoencoderKL, scale: float, tiling: Tiling) -> None:
        self.network, self.scale, self.tiling = network, scale, tiling

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the network."""
        found: Iterator[nn.Parameter] = self.network.parameters()
        return found

    def encode(
        self, volumes: Float32[Tensor, "b 1 d h w"]
    ) -> tuple[Float32[Tensor, "b c 1 s s"], Float32[Tensor, "b c 1 s s"]]:
        """Return the mean and the standard deviation of latents, before they are scaled."""
        image = composites(volumes, self.tiling).expand(-1, COLOURS, -1, -1) * 2 - 1
        found = self.network.encode(image).latent_dist
        return found.mean[:, :, None], found.std[:, :, None]

    def decode(self, states: Float32[Tensor, "b c 1 s s"]) -> Float32[Tensor, "b 1 d h w"]:
        """Return the volumes of scaled latents: the mean of the colours, not clipped."""
        image = self.network.decode(states[:, :, 0] / self.scale).sample
        return volumes_of((image.mean(dim=1, keepdim=True) + 1) / 2, self.tiling)


def autoencoder_network(settings: TileAutoencoderSettings) -> AutoencoderKL:
    """Return the autoencoder of published weights, with random ones; it takes no gradients."""
    levels = len(settings.channels)
    network = AutoencoderKL(
        in_channels=COLOURS,
        out_channels=COLOURS,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=settings.res_blocks,
        latent_channels=settings.latent_channels,
        norm_num_groups=settings.norm_groups,
        scaling_factor=settings.scale,
    )
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def decoded(decoder: Decoder, states: Float32[Tensor, "1 c 1 s s"]) -> Float32[Tensor, "d h w"]:
    """Return the volume of one state on the CPU, not clipped."""
    return decoder.decode(states).float().cpu()[0, 0]
