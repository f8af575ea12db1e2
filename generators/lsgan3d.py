"""`lsgan3d`: a least-squares generative adversarial network of whole volumes.

Mao et al. 2017 (arXiv 1611.04076), one of the two that Pinaya et al. 2022 (arXiv 2209.07162)
compare latent diffusion with; here with spectral norm, two learning rates, averaged weights and
augmentation of what the discriminator sees.
"""

from __future__ import annotations

from synthbench.generators.adversarial.fitting import AdversarialPlugin
from synthbench.generators.adversarial.losses import LSGAN
from synthbench.generators.adversarial.settings import LSGANSettings


class LSGAN3D(AdversarialPlugin):
    """The least-squares GAN."""

    name = "lsgan3d"
    summary = "least-squares GAN of whole volumes"
    needs = "tiny: two CPU cores, half an hour; paper: GPUs, days"
    paper = "Mao et al. 2017, arXiv 1611.04076"
    licence = "as the training data"
    settings = LSGANSettings
    networks = LSGAN
