"""The losses: LSGAN, and VAE-GAN with least squares.

One step trains all networks, on the sum of their losses: in the loss of the generator the weights
of the discriminator are constant, and in the loss of the discriminator the volumes are. So each
gradient is that of its own loss, and all networks step together from the same state, with two
learning rates (Heusel et al. 2017, arXiv 1706.08500).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from synthbench.generators.adversarial.networks import Discriminator, Encoder, VolumeGenerator
from synthbench.generators.adversarial.seen import as_seen
from synthbench.generators.adversarial.settings import GANSettings, VAEGANSettings
from synthbench.generators.generator import Shape
from synthbench.generators.networks.weights import with_constant_weights

REAL, SYNTHETIC = 0, 1  # rows of the draws of `as_seen`


def squares(scores: Float[Tensor, "b s"], target: float) -> Float[Tensor, " b"]:
    """Return (D - target)^2 / 2, averaged over each volume's scores."""
    return (scores - target).square().mean(dim=1) / 2


class LSGAN(nn.Module):
    """Mao et al. 2017 (arXiv 1611.04076), equation 9: targets 0 and 1, and 1 for the generator.

    Parameters
    ----------
    settings
        Settings of the networks.
    shape
        The grid; None: to estimate costs (`VolumeGenerator`).
    """

    latents = 1
    """Draws of the latent numbers per volume."""

    def __init__(self, settings: GANSettings, shape: Shape | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.generator = VolumeGenerator(settings, shape)
        self.discriminator = Discriminator(settings)

    def forward(
        self,
        volumes: Float32[Tensor, "b 1 d h w"],
        z: Float32[Tensor, "b 1 k"],
        draws: Float32[Tensor, "b 2 5"],
    ) -> Float32[Tensor, " b"]:
        """Return the sum of both losses per volume; z ~ N(0, I), and draws are uniform."""
        drawn = self.generator(z[:, 0], volumes.shape[2:])
        seen = as_seen(drawn, draws[:, SYNTHETIC], self.settings)
        scores, _ = with_constant_weights(self.discriminator, seen)
        return squares(scores, 1) + self.judging(volumes, [seen], draws)

    def judging(
        self, volumes: Tensor, synthetic: list[Tensor], draws: Tensor
    ) -> Float32[Tensor, " b"]:
        """Return the loss of the discriminator on real volumes, and on what it sees of others."""
        seen = as_seen(volumes, draws[:, REAL], self.settings)
        scores, _ = self.discriminator(torch.cat([seen, *(one.detach() for one in synthetic)]))
        real, *others = scores.chunk(1 + len(synthetic))
        of_others = torch.stack([squares(one, 0) for one in others]).mean(dim=0)
        total: Tensor = squares(real, 1) + of_others
        return total


class VAEGAN(LSGAN):
    """Larsen et al. 2016 (arXiv 1512.09300) with the losses of LSGAN and an error of voxels.

    The encoder and the generator reconstruct volumes: close in voxels, and in the last features of
    the discriminator. The generator also deceives with volumes of the prior. The discriminator
    judges both kinds. The paper has logarithmic losses and no error of voxels, and its generator
    also deceives with reconstructions.
    """

    latents = 2

    settings: VAEGANSettings

    def __init__(self, settings: VAEGANSettings, shape: Shape | None = None) -> None:
        super().__init__(settings, shape)
        self.encoder = Encoder(settings.encoder_channels, settings.patch, settings.latent)

    def forward(
        self,
        volumes: Float32[Tensor, "b 1 d h w"],
        z: Float32[Tensor, "b 2 k"],
        draws: Float32[Tensor, "b 2 5"],
    ) -> Float32[Tensor, " b"]:
        """Return the sum of all losses per volume: z[:, 0] is the prior's, z[:, 1] the noise."""
        settings, (b, *_) = self.settings, volumes.shape
        mean, sigma = self.encoder(volumes)
        both = torch.cat([mean + sigma * z[:, 1], z[:, 0]])
        decoded, drawn = self.generator(both, volumes.shape[2:]).chunk(2)
        seen = [as_seen(v, draws[:, SYNTHETIC], settings) for v in (volumes, decoded, drawn)]
        scores, features = with_constant_weights(self.discriminator, torch.cat(seen))
        real, reconstructed, _ = features.float().flatten(1).chunk(3)
        nats = ((mean.square() + sigma.square() - 1) / 2 - sigma.log()).sum(dim=1)
        total: Tensor = (
            settings.voxel_weight * (decoded - volumes).abs().flatten(1).mean(dim=1)
            + settings.feature_weight * (real - reconstructed).square().mean(dim=1)
            + settings.kl_weight * nats
            + settings.adversarial_weight * squares(scores[2 * b :], 1)
            + self.judging(volumes, seen[1:], draws)
        )
        return total


@dataclass(frozen=True)
class Adversarial:
    """The objective of both generators: the module computes the losses itself."""

    timesteps: int = 1

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b 1 d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b 1 d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return the loss of each volume; `conditioning` is (latent numbers, draws)."""
        losses: Tensor = network(clean, *conditioning)
        return losses
