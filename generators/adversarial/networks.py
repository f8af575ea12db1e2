"""The networks: from latent numbers to a volume, and from a volume to scores or latent numbers.

No network depends on the grid. The generator works on a grid of a power of two times a coarse one
and crops its output. The others pad what they get with background.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from synthbench.generators.adversarial.settings import GANSettings
from synthbench.generators.generator import Shape
from synthbench.generators.networks.convolution import convolve, upsample_and_convolve

WAVES = 3
"""Frequencies of the coordinates per axis: half a period, one, and two across the grid."""

ENCODED_GRID = 3
"""Side of the grid that the encoder averages its last features to."""


def blocks(shape: Sequence[int], side: int) -> Shape:
    """Return how many blocks of that side cover a grid.

    >>> blocks((46, 55, 46), 8)
    (6, 7, 6)
    """
    d, h, w = (-(-n // side) for n in shape)
    return d, h, w


def coordinates(shape: Shape, like: Tensor) -> Float[Tensor, "1 c d h w"]:
    """Return sines and cosines of the voxels' places: 2 x 3 x `WAVES` channels."""
    axes = [
        (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) / n * torch.pi for n in shape
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    angles = torch.cat([grid * 2**wave for wave in range(WAVES)])
    return torch.cat([angles.sin(), angles.cos()])[None]


def clamp_values(x: Tensor) -> Tensor:
    """Return x in [0, 1]; the gradient passes as if nothing were clamped.

    So background is exactly 0, as in real volumes, and no voxel stays there for lack of a gradient.
    """
    return x + (x.clamp(0, 1) - x).detach()


class _Styled(nn.Module):
    """A convolution, a group norm whose scale and shift depend on the latent numbers, and SiLU."""

    def __init__(self, inputs: int, outputs: int, latent: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.style = nn.Linear(latent, 2 * outputs)
        self.groups = groups

    def forward(
        self, x: Float[Tensor, "b i d h w"], z: Float[Tensor, "b k"], upsample: bool = False
    ) -> Float[Tensor, "b o d2 h2 w2"]:
        h = upsample_and_convolve(self.conv, x) if upsample else convolve(self.conv, x)
        scale, shift = self.style(z)[:, :, None, None, None].chunk(2, dim=1)
        normed = functional.group_norm(h, self.groups)
        return functional.silu(torch.addcmul(shift, normed, 1 + scale))


class _Level(nn.Module):
    """Two styled convolutions; the second may double the resolution first."""

    def __init__(self, inputs: int, outputs: int, latent: int, groups: int) -> None:
        super().__init__()
        self.one = _Styled(inputs, inputs, latent, groups)
        self.other = _Styled(inputs, outputs, latent, groups)

    def forward(
        self, x: Float[Tensor, "b i d h w"], z: Float[Tensor, "b k"], upsample: bool
    ) -> Float[Tensor, "b o d2 h2 w2"]:
        h: Tensor = self.other(self.one(x, z), z, upsample)
        return h


class VolumeGenerator(nn.Module):
    """Maps latent numbers to a volume.

    The coordinates of a coarse grid go through blocks of two convolutions, each block on twice the
    resolution of the one before. The latent numbers set the scale and shift of every norm, as in
    Karras et al. 2019 (arXiv 1812.04948) with group norm.

    Parameters
    ----------
    settings
        Settings of the networks.
    shape
        The grid, for the weight `mean` of `start_at_mean`; None: without it, to estimate costs.
    """

    def __init__(self, settings: GANSettings, shape: Shape | None = None) -> None:
        super().__init__()
        k, groups = settings.latent, settings.norm_groups
        self.patch = settings.patch
        widths = tuple(reversed(settings.channels))
        self.first = _Styled(2 * 3 * WAVES, widths[0], k, groups)
        pairs = zip(widths, (*widths[1:], widths[-1]), strict=True)
        self.levels = nn.ModuleList(_Level(w, narrower, k, groups) for w, narrower in pairs)
        # Its first volumes differ little from the mean volume.
        self.last = nn.Conv3d(widths[-1], settings.patch**3, 3, padding=1, bias=False)
        nn.init.normal_(self.last.weight, std=0.01)
        # All voxels of a block start equal, without a pattern (Aitken et al. 2017, 1707.02937).
        self.last.weight.data.copy_(self.last.weight.data[:1].expand_as(self.last.weight))
        with_mean = settings.start_at_mean and shape is not None
        self.mean = nn.Parameter(torch.zeros(1, 1, *(shape or ()))) if with_mean else None

    def forward(self, z: Float[Tensor, "b k"], shape: Sequence[int]) -> Float[Tensor, "b 1 d h w"]:
        """Return one volume in [0, 1] per row of z ~ N(0, I)."""
        coarse = blocks(shape, self.patch << (len(self.levels) - 1))
        h = self.first(coordinates(coarse, z).expand(len(z), -1, -1, -1, -1), z)
        for place, level in enumerate(self.levels):
            h = level(h, z, place < len(self.levels) - 1)
        h = convolve(self.last, h).float()
        whole = pixelshuffle(h, 3, self.patch) if self.patch > 1 else h
        starts = [(n - m) // 2 for n, m in zip(whole.shape[2:], shape, strict=True)]
        x, y, v = (slice(a, a + m) for a, m in zip(starts, shape, strict=True))
        volume = whole[:, :, x, y, v]
        return clamp_values(volume if self.mean is None else volume + self.mean)


class Trunk(nn.Module):
    """Maps volumes to features: convolution, leaky ReLU and averages of 2 x 2 x 2 at each level.

    Parameters
    ----------
    channels
        Channels of each level, the finest first.
    patch
        Side of the blocks of voxels that become channels.
    normalised
        True: each convolution's weight is divided by its spectral norm (Miyato et al. 2018, arXiv
        1802.05957).
    """

    def __init__(self, channels: Sequence[int], patch: int, normalised: bool) -> None:
        super().__init__()
        self.patch = patch
        convs = [nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise((patch**3, *channels))]
        self.convs = nn.ModuleList(spectral_norm(c) if normalised else c for c in convs)

    def forward(self, volumes: Float[Tensor, "b 1 d h w"]) -> list[Float[Tensor, "b c _ _ _"]]:
        """Return the features of all levels, the finest first, before their average."""
        block = self.patch << (len(self.convs) - 1)
        h = _padded(volumes, block)
        if self.patch > 1:
            h = pixelunshuffle(h, 3, self.patch)
        features: list[Tensor] = []
        for conv in self.convs:
            if features:
                h = functional.avg_pool3d(h, 2)
            h = functional.leaky_relu(convolve(conv, h), 0.2)  # type: ignore[arg-type]
            features.append(h)
        return features


class Discriminator(nn.Module):
    """Maps volumes to a map of scores, 1 for real and 0 for synthetic.

    Its last convolution has no spectral norm: its size sets the range of the scores, which must
    reach the targets.
    """

    def __init__(self, settings: GANSettings) -> None:
        super().__init__()
        self.trunk = Trunk(settings.discriminator_channels, settings.patch, normalised=True)
        self.last = nn.Conv3d(settings.discriminator_channels[-1], 1, 3, padding=1)

    def forward(
        self, volumes: Float[Tensor, "b 1 d h w"]
    ) -> tuple[Float[Tensor, "b s"], Float[Tensor, "b c _ _ _"]]:
        """Return the scores of each volume, and its last features."""
        features = self.trunk(volumes)[-1]
        return convolve(self.last, features).float().flatten(1), features


class Encoder(nn.Module):
    """Maps volumes to the mean and the standard deviation of their latent numbers."""

    def __init__(self, channels: Sequence[int], patch: int, latent: int) -> None:
        super().__init__()
        self.trunk = Trunk(channels, patch, normalised=False)
        self.last = nn.Linear(channels[-1] * ENCODED_GRID**3, 2 * latent)

    def forward(
        self, volumes: Float[Tensor, "b 1 d h w"]
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Return mean and standard deviation."""
        pooled = functional.adaptive_avg_pool3d(self.trunk(volumes)[-1], ENCODED_GRID)
        mean, log_variance = self.last(pooled.flatten(1)).float().chunk(2, dim=1)
        return mean, torch.exp(log_variance.clamp(-30.0, 20.0) / 2)  # as in ldm3d


def _padded(volumes: Float[Tensor, "b 1 d h w"], side: int) -> Float[Tensor, "b 1 d2 h2 w2"]:
    """Pad with background on both sides, so that each side is a multiple of `side`."""
    pads: list[int] = []
    for n, whole in zip(volumes.shape[2:], blocks(volumes.shape[2:], side), strict=True):
        missing = whole * side - n
        pads = [missing // 2, missing - missing // 2, *pads]  # pad names the last axis first
    return functional.pad(volumes, pads)
