"""A denoiser of small receptive field that knows where in the head it looks.

Each side of the volume is halved first: a cube of 2 x 2 x 2 voxels becomes eight channels. All
layers but `convolutions` of 3 x 3 x 3 work on single places of that half grid, and nothing is
averaged over the volume. So a voxel of the result depends on the voxels at most
2 `convolutions` + 1 away along each side, and on its place. With `levels` it sees coarser grids as
well: still a part of the volume, at less cost than more convolutions. A network that sees the whole
of a volume learns a training set of 70 brains by heart; one that sees parts can only combine parts
(Kamb & Ganguli, ICML 2025; Kadkhodaie et al., ICLR 2024).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import pad

from synthbench.generators.networks.convolution import convolve
from synthbench.generators.networks.unet import places_like

CUBE = 2
"""Side of the cubes of voxels that become channels."""

OCTAVES = 4
"""Sines and cosines of each coordinate: of 1/4 to 2 periods across a side."""

NORM_FLOOR = 1e-3
"""Added to the variance that a norm divides by."""

WAVES = 6
"""Sines, and as many cosines, that tell the network the noise level."""


class LocalDenoiser(nn.Module):
    """Residual blocks on the half grid, each with one 3 x 3 x 3 convolution.

    In their middle, coarser grids are seen (`levels`), each of half the resolution of the one
    before. The first has twice the channels of the half grid, the second three times, and so on.

    Parameters
    ----------
    width
        Channels.
    convolutions
        Number of 3 x 3 x 3 convolutions, 1 or more.
    timesteps
        T, of the diffusion.
    in_channels
        Channels of the input.
    levels
        Number of coarser grids.
    """

    def __init__(
        self, width: int, convolutions: int, timesteps: int, in_channels: int, levels: int = 0
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        known = in_channels * CUBE**3 + 3 * (1 + 2 * OCTAVES)
        self.first = nn.Conv3d(known, width, 3, padding=1)
        self.noise = nn.Sequential(
            nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.blocks = nn.ModuleList(_Block(width, width) for _ in range(convolutions - 1))
        self.coarse = _Coarse(width, 1, levels) if levels else None
        self.last = nn.Conv3d(width, CUBE**3, 1)
        _zero(self.last)

    def forward(
        self, x: Float[Tensor, "b i d h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b 1 d h w"]:
        """Return the prediction for volumes of even sides at these timesteps."""
        folded = pixelunshuffle(x, 3, CUBE)
        waves = _waves(timesteps / self.timesteps, 2.0 ** torch.arange(WAVES) / 4)
        noise = self.noise(waves.to(folded))
        h = convolve(self.first, _laid_out(torch.cat([folded, _places(folded)], dim=1)))
        middle = len(self.blocks) // 2
        for block in self.blocks[:middle]:
            h = block(h, noise)
        if self.coarse is not None:
            h = self.coarse(h, noise)
        for block in self.blocks[middle:]:
            h = block(h, noise)
        if self.coarse is not None:
            h = _normed(h)  # Sums of many blocks grow; far below 0, SiLU passes nothing on.
        unfolded: Tensor = pixelshuffle(convolve(self.last, functional.silu(h)), 3, CUBE)
        return unfolded


class _Block(nn.Module):
    """Norm over the channels of a place, a convolution, and two layers on single places.

    `told` is the number of values that tell the noise level.
    """

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.level = nn.Linear(told, 2 * width)
        self.near = nn.Conv3d(width, width, 3, padding=1)
        self.widen = nn.Conv3d(width, 2 * width, 1)
        self.narrow = nn.Conv3d(2 * width, width, 1)
        _zero(self.level)
        _zero(self.narrow)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        scale, shift = self.level(noise)[:, :, None, None, None].chunk(2, dim=1)
        h = functional.silu(convolve(self.near, _normed(x) * (1 + scale) + shift))
        return x + convolve(self.narrow, functional.silu(convolve(self.widen, h)))


class _Coarse(nn.Module):
    """Blocks on a grid of half the resolution, where cubes of 2 x 2 x 2 places become channels."""

    def __init__(self, width: int, level: int, levels: int) -> None:
        super().__init__()
        finer, own = width * level, width * (level + 1)
        self.down = nn.Conv3d(CUBE**3 * finer, own, 1)
        self.first = _Block(own, width)
        self.coarser = _Coarse(width, level + 1, levels) if level < levels else None
        self.second = _Block(own, width) if level < levels else None
        self.up = nn.Conv3d(own, CUBE**3 * finer, 1)
        _zero(self.up)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        sides = x.shape[2:]
        # Odd sides get a plane of zeros, which is taken off again.
        even = pad(x, [extra for side in reversed(sides) for extra in (0, side % CUBE)])
        h = self.first(convolve(self.down, _laid_out(pixelunshuffle(even, 3, CUBE))), noise)
        if self.coarser is not None and self.second is not None:
            h = self.second(self.coarser(h, noise), noise)
        change = pixelshuffle(convolve(self.up, functional.silu(_normed(h))), 3, CUBE)
        seen: Tensor = x + change[..., : sides[0], : sides[1], : sides[2]]
        return seen


def _laid_out(x: Tensor) -> Tensor:
    """Return x with its channels last in memory where convolutions have 16 bits.

    The matrix units of CPUs and GPUs compute such convolutions several times as fast.
    """
    if torch.is_autocast_enabled(x.device.type):
        return x.contiguous(memory_format=torch.channels_last_3d)
    return x


def _normed(x: Tensor) -> Tensor:
    """Return x with mean 0 and variance 1 over the channels of each place.

    A norm over places as well would let every voxel depend on the whole volume.
    """
    if x.is_contiguous(memory_format=torch.channels_last_3d):
        # The same in one step, which needs the channels beside each other.
        last: Tensor = functional.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=NORM_FLOOR)
        return last.movedim(-1, 1)
    centred = x - x.mean(dim=1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + NORM_FLOOR)


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _waves(values: Tensor, frequencies: Tensor) -> Tensor:
    angles = 2 * math.pi * values[:, None] * frequencies.to(values.device)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _places(x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b p d h w"]:
    """Return the coordinates of each place, and sines and cosines of them."""
    places = places_like(x[:1])
    angles = [math.pi / 2 * 2.0**octave * places for octave in range(OCTAVES)]
    waves = [wave for angle in angles for wave in (angle.sin(), angle.cos())]
    return torch.cat([places, *waves], dim=1).expand(len(x), -1, -1, -1, -1)
