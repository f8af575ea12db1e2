"""Settings and rows of conditions that the tests of latent diffusion share."""

from __future__ import annotations

from synthbench.cohorts.conditions import Row
from synthbench.generators.latent.settings import LDM3DSettings
from synthbench.runs import configuration

SETTINGS = [
    "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]", "head_channels=[8,8]",
    "norm_groups=4", "steps=6", "batch_size=2", "checkpoint_every=2", "sampler_steps=2",
    "autoencoder.patch=2", "autoencoder.channels=[8,8]", "autoencoder.norm_groups=4",
    "autoencoder.latent_channels=2", "autoencoder.discriminator_channels=4",
    "autoencoder.steps=4", "autoencoder.adversarial_after=2", "autoencoder.checkpoint_every=1",
]  # fmt: skip


CONDITIONS = "conditions=[age,sex]"


AGES = [20.0, 30.0, 40.0, 50.0, None, 70.0]


ROWS: list[Row] = [{"age": a, "sex": s} for a, s in zip(AGES, "FMFMFM", strict=True)]


def resolved(*overrides, preset="tiny") -> tuple[configuration.RunSettings, LDM3DSettings]:
    common, own = configuration.resolve("ldm3d", preset=preset, overrides=overrides)
    assert isinstance(own, LDM3DSettings)
    return common, own
