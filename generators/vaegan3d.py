"""`vaegan3d`: a variational autoencoder with a discriminator.

Larsen et al. 2016 (arXiv 1512.09300), one of the two that Pinaya et al. 2022 (arXiv 2209.07162)
compare latent diffusion with; here with least-squares losses and the stabilisers of `lsgan3d`.
"""

from __future__ import annotations

from synthbench.generators.adversarial.fitting import AdversarialPlugin
from synthbench.generators.adversarial.losses import VAEGAN
from synthbench.generators.adversarial.settings import VAEGANSettings


class VAEGAN3D(AdversarialPlugin):
    """The autoencoder with a discriminator."""

    name = "vaegan3d"
    summary = "VAE-GAN of whole volumes"
    needs = "tiny: two CPU cores, half an hour; paper: GPUs, days"
    paper = "Larsen et al. 2016, arXiv 1512.09300"
    licence = "as the training data"
    settings = VAEGANSettings
    networks = VAEGAN
