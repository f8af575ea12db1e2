"""The autoencoder of latent diffusion: MONAI's `AutoencoderKL`, and its loss.

Rombach et al. 2022 (arXiv 2112.10752) in 3-D as Pinaya et al. 2022 (arXiv 2209.07162): absolute
error, Kullback-Leibler divergence, a patch discriminator (Isola et al. 2017, arXiv 1611.07004)
and, where the settings name an extractor, a distance of its features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float32, Int64
from monai.losses import PatchAdversarialLoss
from monai.networks.blocks import Convolution, UpSample
from monai.networks.nets import AutoencoderKL, PatchDiscriminator
from monai.networks.nets.autoencoderkl import AEKLResBlock
from monai.networks.utils import pixelshuffle, pixelunshuffle
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from synthbench.cohorts.cohort import Volumes
from synthbench.generators.generator import Perceptual
from synthbench.generators.loop.settings import StepSettings
from synthbench.generators.networks.convolution import convolve, upsample_and_convolve
from synthbench.generators.networks.unet import norm_silu
from synthbench.generators.networks.weights import with_constant_weights

FIRST_LOG_VARIANCE = -6.0
"""log(sigma^2) of the latents before training: sigma is 0.05."""


class AutoencoderSettings(StepSettings):
    """Settings of stage 1: the autoencoder, and its training."""

    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "patch", "channels", "res_blocks", "latent_channels", "norm_groups",
    })  # fmt: skip

    patch: int = Field(
        default=1, ge=1, description="side of the blocks of voxels that become channels; 1: none"
    )
    channels: tuple[int, ...] = Field(
        default=(64, 128, 128, 128), min_length=1, description="one number per level"
    )
    res_blocks: int = Field(default=2, ge=1, description="residual blocks per level")
    latent_channels: int = Field(default=3, ge=1, description="channels of the latents")
    norm_groups: int = Field(default=32, ge=1, description="groups of the group norm")
    gradient_checkpointing: bool = Field(
        default=False,
        description="compute blocks again in the backward pass: less memory, a third more time",
    )
    kl_weight: float = Field(
        default=1e-6,
        ge=0,
        description="weight of the divergence, in nats summed over a volume's latents",
    )
    perceptual_weight: float = Field(
        default=1e-3,
        ge=0,
        description="weight of the perceptual distance, where `perceptual` names an extractor",
    )
    adversarial_weight: float = Field(
        default=0.01, ge=0, description="weight of the adversarial loss; 0: no discriminator"
    )
    adversarial_after: int = Field(
        default=0, ge=0, description="steps before the discriminator joins in"
    )
    discriminator_channels: int = Field(
        default=64, ge=1, description="channels of its first layer; each further layer has twice"
    )
    discriminator_layers: int = Field(
        default=3, ge=1, description="its layers between the first and the last"
    )

    @model_validator(mode="after")
    def _network_exists(self) -> AutoencoderSettings:
        for width in self.channels:
            if width < 1 or width % self.norm_groups:
                nearest = max(1, round(width / self.norm_groups)) * self.norm_groups
                raise ValueError(
                    f"channels: {width} is not divisible by norm_groups {self.norm_groups}; "
                    f"the nearest that is: {nearest}"
                )
        return self

    @property
    def factor(self) -> int:
        """The number of voxels that a latent voxel spans along an axis."""
        return self.patch << (len(self.channels) - 1)

    @property
    def smallest_side(self) -> int:
        """The smallest side that the convolutions of the discriminator can take; 1 without it."""
        return 3 << self.discriminator_layers if self.adversarial_weight else 1


def nearest_side(side: int, factor: int, smallest: int) -> int:
    """Return the multiple of a factor that is nearest to a side, but at least the smallest."""
    return max(round(side / factor), math.ceil(smallest / factor), 1) * factor


class Autoencoder(nn.Module):
    """MONAI's `AutoencoderKL` without attention, on blocks of patch^3 voxels as channels.

    Weights and results are MONAI's, to rounding. Group norm and SiLU are one step, and on a CPU
    convolutions are those of `synthbench.generators.networks.convolution`.

    Parameters
    ----------
    settings
        Settings of stage 1.
    """

    def __init__(self, settings: AutoencoderSettings) -> None:
        super().__init__()
        self.patch = settings.patch
        self.gradient_checkpointing = settings.gradient_checkpointing
        self.net = AutoencoderKL(
            spatial_dims=3,
            in_channels=settings.patch**3,
            out_channels=settings.patch**3,
            channels=settings.channels,
            num_res_blocks=settings.res_blocks,
            latent_channels=settings.latent_channels,
            norm_num_groups=settings.norm_groups,
            attention_levels=(False,) * len(settings.channels),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        # MONAI starts at 0. The noise is then larger than the latents, and hundreds of steps learn
        # little.
        nn.init.constant_(self.net.quant_conv_log_sigma.conv.bias, FIRST_LOG_VARIANCE)

    def encode(
        self, volumes: Float[Tensor, "b 1 d h w"]
    ) -> tuple[Float32[Tensor, "b c d2 h2 w2"], Float32[Tensor, "b c d2 h2 w2"]]:
        """Return the mean and the standard deviation of the latents of volumes in [0, 1]."""
        folded = pixelunshuffle(volumes, 3, self.patch) if self.patch > 1 else volumes
        h = self._cascade(self.net.encoder.blocks, folded)
        mean = convolve(self.net.quant_conv_mu.conv, h).float()
        log_variance = convolve(self.net.quant_conv_log_sigma.conv, h).float()
        return mean, torch.exp(log_variance.clamp(-30.0, 20.0) / 2)  # the bounds are MONAI's

    def decode(self, latents: Float[Tensor, "b c d2 h2 w2"]) -> Float32[Tensor, "b 1 d h w"]:
        """Return the volumes that belong to latents, not clipped."""
        h = convolve(self.net.post_quant_conv.conv, latents)
        h = self._cascade(self.net.decoder.blocks, h).float()
        unfolded: Tensor = pixelshuffle(h, 3, self.patch) if self.patch > 1 else h
        return unfolded

    def _cascade(self, blocks: nn.ModuleList, h: Tensor) -> Tensor:
        for block in blocks:
            if isinstance(block, AEKLResBlock):
                h = self._run(_residual, block, h)
            elif isinstance(block, UpSample):
                h = self._run(upsample_and_convolve, block.postconv.conv, h)
            elif isinstance(block, Convolution):
                h = convolve(block.conv, h)
            else:
                h = block(h)
        return h

    def _run(self, block: Callable[..., Tensor], *inputs: Any) -> Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return block(*inputs)
        again: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return again


def _residual(block: Any, x: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b o d h w"]:
    """Return the output of MONAI's `AEKLResBlock`."""
    h = convolve(block.conv1.conv, norm_silu(block.norm1, x))
    h = convolve(block.conv2.conv, norm_silu(block.norm2, h))
    shortcut = block.nin_shortcut
    return h + (x if isinstance(shortcut, nn.Identity) else convolve(shortcut.conv, x))


def divergence(
    mean: Float32[Tensor, "b c d h w"], sigma: Float32[Tensor, "b c d h w"]
) -> Float32[Tensor, " b"]:
    """Return KL(N(mean, sigma^2) || N(0, 1)) in nats, summed over each volume's latents."""
    nats = (mean.square() + sigma.square() - 1) / 2 - sigma.log()
    return nats.flatten(1).sum(dim=1)


class Stage1(nn.Module):
    """The autoencoder with its discriminator: maps volumes to their losses.

    One step trains both, on the sum of their losses. In the loss of the autoencoder the
    discriminator is constant; in the loss of the discriminator the reconstruction is constant. So
    the gradients are those of two optimizers that take turns on one forward pass.

    Parameters
    ----------
    settings
        Settings of stage 1.
    perceptual
        A distance of volumes (target, reconstruction) for the loss, or None.

    Attributes
    ----------
    batches
        Batches of training so far. It decides when the discriminator joins in, and is a buffer so
        that checkpoints keep it.
    """

    batches: Int64[Tensor, ""]

    def __init__(self, settings: AutoencoderSettings, perceptual: Perceptual | None = None) -> None:
        super().__init__()
        self.settings, self.perceptual = settings, perceptual
        self.autoencoder = Autoencoder(settings)
        self.discriminator: nn.Module | None = None
        if settings.adversarial_weight:
            self.discriminator = PatchDiscriminator(
                spatial_dims=3,
                in_channels=1,
                channels=settings.discriminator_channels,
                num_layers_d=settings.discriminator_layers,
                # A batch has one or two volumes: too few for a batch norm.
                norm="INSTANCE",
            )
        self.adversarial = PatchAdversarialLoss(criterion="least_squares")
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(
        self, volumes: Float32[Tensor, "b 1 d h w"], noise: Float32[Tensor, "b c d2 h2 w2"]
    ) -> Float32[Tensor, " b"]:
        """Return the loss of each volume; latents are mean + sigma x noise, noise ~ N(0, I)."""
        settings = self.settings
        mean, sigma = self.autoencoder.encode(volumes)
        decoded = self.autoencoder.decode(mean + sigma * noise)
        loss = (decoded - volumes).abs().flatten(1).mean(dim=1)
        loss = loss + settings.kl_weight * divergence(mean, sigma)
        if self.perceptual is not None:
            loss = loss + settings.perceptual_weight * self.perceptual(volumes, decoded)
        if self.discriminator is not None:
            loss = loss + self._adversarial(volumes, decoded)
        if self.training:
            self.batches += 1
        return loss

    def _adversarial(self, volumes: Tensor, decoded: Tensor) -> Tensor:
        assert self.discriminator is not None
        after = self.settings.adversarial_after * self.settings.accumulation
        if after and self.batches < after:
            # A zero that depends on all parameters: with several processes each parameter needs a
            # gradient, or the processes wait for it for ever.
            return torch.stack([p.sum() for p in self.discriminator.parameters()]).sum() * 0
        judged = with_constant_weights(self.discriminator, decoded)[-1].float()
        deceiving = self.adversarial(judged, target_is_real=True, for_discriminator=False)
        fake = self.discriminator(decoded.detach())[-1].float()
        real = self.discriminator(volumes)[-1].float()
        judging = (
            self.adversarial(fake, target_is_real=False, for_discriminator=True)
            + self.adversarial(real, target_is_real=True, for_discriminator=True)
        ) / 2
        total: Tensor = self.settings.adversarial_weight * (deceiving + judging)
        return total


class Reconstruction:
    """The objective of stage 1: `Stage1` computes the loss itself."""

    timesteps = 1

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b 1 d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b 1 d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return the loss of each volume; `conditioning` is the noise of its latents."""
        losses: Tensor = network(clean, *conditioning)
        return losses


@dataclass(frozen=True)
class Ceiling:
    """The quality of an autoencoder's reconstructions: no sample can be sharper.

    Attributes
    ----------
    of
        The set of volumes: "validation" or "training".
    volumes
        Number of volumes.
    mae
        Mean absolute error per voxel, intensities in [0, 1], over the whole grid.
    psnr
        Peak signal-to-noise ratio in dB, of the mean squared error over all volumes and voxels.
    """

    of: str
    volumes: int
    mae: float
    psnr: float


MOST_RECONSTRUCTED = 64
"""The ceiling is measured on at most this many volumes, evenly spaced in the set."""


@torch.inference_mode()
def ceiling(autoencoder: Autoencoder, volumes: Volumes, of: str) -> Ceiling:
    """Return how well volumes are reconstructed from the means of their latents.

    Reconstructions are clipped to [0, 1], as samples are.
    """
    device = next(autoencoder.parameters()).device
    n = min(len(volumes), MOST_RECONSTRUCTED)
    absolute = squared = 0.0
    for place in range(n):
        volume = torch.from_numpy(volumes[place * len(volumes) // n])[None, None].to(device)
        decoded = autoencoder.decode(autoencoder.encode(volume)[0]).clamp(0, 1)
        error = (decoded - volume).double()
        absolute += float(error.abs().mean()) / n
        squared += float(error.square().mean()) / n
    psnr = -10 * math.log10(squared) if squared else math.inf
    return Ceiling(of, n, round(absolute, 5), round(psnr, 2))
