"""Settings of the generators that are trained against a discriminator."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from synthbench.generators.loop.settings import LoopSettings
from synthbench.generators.loop.sources import OptimizerGroup


class GANSettings(LoopSettings):
    """Settings that `lsgan3d` and `vaegan3d` share: networks, two time scales, what is seen."""

    CHANGED_ON_RESUME: ClassVar[frozenset[str]] = LoopSettings.CHANGED_ON_RESUME | {
        "discriminator_rate",
    }
    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "latent", "patch", "channels", "norm_groups", "discriminator_channels", "start_at_mean",
    })  # fmt: skip

    learning_rate: float = Field(default=2e-4, gt=0, description="Adam's, of the generator")
    discriminator_rate: float = Field(
        default=2.0,
        gt=0,
        description="learning rate of the discriminator, relative to the generator's",
    )
    beta1: float = Field(default=0.0, ge=0, lt=1, description="decay of Adam's first moment")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of Adam's second moment")
    latent: int = Field(default=128, ge=1, description="numbers that a volume is drawn from")
    patch: int = Field(
        default=1, ge=1, description="side of the blocks of voxels that become channels; 1: none"
    )
    channels: tuple[int, ...] = Field(
        default=(32, 64, 128, 256),
        min_length=1,
        description="of the generator, one number per level, the finest first",
    )
    norm_groups: int = Field(default=8, ge=1, description="groups of its group norm")
    discriminator_channels: tuple[int, ...] = Field(
        default=(32, 64, 128, 256),
        min_length=1,
        description="of the discriminator, one number per level, the finest first",
    )
    start_at_mean: bool = Field(
        default=True,
        description="the generator learns differences from the mean training volume, which is a "
        "weight itself",
    )
    seen_shift: float = Field(
        default=0.125,
        ge=0,
        le=0.5,
        description="the discriminator sees all volumes shifted by up to this share of each side",
    )
    seen_mirror: bool = Field(
        default=True, description="it sees half of all volumes with left and right swapped"
    )
    seen_brightness: float = Field(
        default=0.1, ge=0, le=1, description="it sees all volumes brighter or darker by up to this"
    )
    diversity_every: int = Field(
        default=20,
        ge=0,
        description="epochs between comparisons of the diversity of samples with that of training "
        "volumes, which find a collapse; 0: never",
    )

    @model_validator(mode="after")
    def _network_exists(self) -> GANSettings:
        for width in self.channels:
            if width < 1 or width % self.norm_groups:
                nearest = max(1, round(width / self.norm_groups)) * self.norm_groups
                raise ValueError(
                    f"channels: {width} is not divisible by norm_groups {self.norm_groups}; "
                    f"the nearest that is: {nearest}"
                )
        narrowest = min(self.discriminator_channels)
        if narrowest < 1:
            raise ValueError(f"discriminator_channels: must be at least 1; found {narrowest}")
        return self

    @model_validator(mode="after")
    def _loss_does_not_choose(self) -> GANSettings:
        if self.early_stopping is not None:
            raise ValueError(
                "early_stopping: the losses of two networks that work against each other do not "
                "say which weights are best. Set early_stopping=null; score_every chooses weights "
                "by the scores of samples"
            )
        return self

    @property
    def optimizers(self) -> tuple[OptimizerGroup, ...]:
        """The two optimizers: that of the generator, and the faster one of the discriminator."""
        betas = (self.beta1, self.beta2)
        return (
            OptimizerGroup("generator.", 1.0, betas),
            OptimizerGroup("discriminator.", self.discriminator_rate, betas),
        )


class LSGANSettings(GANSettings):
    """Settings of `lsgan3d`."""


class VAEGANSettings(GANSettings):
    """Settings of `vaegan3d`."""

    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({"encoder_channels"})

    encoder_channels: tuple[int, ...] = Field(
        default=(32, 64, 128, 256),
        min_length=1,
        description="of the encoder, one number per level, the finest first",
    )
    kl_weight: float = Field(
        default=1e-4,
        ge=0,
        description="weight of the divergence, in nats summed over a volume's latent numbers",
    )
    voxel_weight: float = Field(
        default=1.0, ge=0, description="weight of the absolute error of reconstructions per voxel"
    )
    feature_weight: float = Field(
        default=0.1,
        ge=0,
        description="weight of the squared error of their features in the discriminator",
    )
    adversarial_weight: float = Field(
        default=0.3, gt=0, description="weight of the generator's adversarial loss"
    )

    @model_validator(mode="after")
    def _encoder_exists(self) -> VAEGANSettings:
        if min(self.encoder_channels) < 1:
            raise ValueError(
                f"encoder_channels: must be at least 1; found {min(self.encoder_channels)}"
            )
        return self

    @property
    def optimizers(self) -> tuple[OptimizerGroup, ...]:
        """The optimizers: the encoder learns as fast as the generator."""
        betas = (self.beta1, self.beta2)
        return (*super().optimizers, OptimizerGroup("encoder.", 1.0, betas))
