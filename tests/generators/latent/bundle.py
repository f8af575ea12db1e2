"""State dicts with the names of the published bundle, of small networks."""

from __future__ import annotations

import torch

from synthbench.generators.latent import published
from synthbench.generators.latent.autoencoder import Autoencoder
from synthbench.generators.latent.settings import LDM3DSettings
from synthbench.generators.networks.unet import PatchedUNet
from synthbench.runs import configuration

SMALL = [
    "channels=[8,16,16]", "head_channels=[0,8,8]", "norm_groups=4", "sampler_steps=2",
    "autoencoder.channels=[8,8,8,8]", "autoencoder.norm_groups=4", "autoencoder.res_blocks=1",
    "autoencoder.adversarial_weight=0", "conditions=[sex,age,ventricle_volume,brain_volume]",
]  # fmt: skip


def settings(*changes: str) -> LDM3DSettings:
    overrides = [*published.OVERRIDES, *changes]
    own = configuration.resolve("ldm3d", preset="pinaya", overrides=overrides)[1]
    assert isinstance(own, LDM3DSettings)
    return own


def old_name(name):
    """As MONAI Generative named parameters: those of cross-attention's and upsampling's layers."""
    if "transformer_blocks" in name:
        name = name.replace(".out_proj.", ".to_out.0.")
    return name.replace("postconv", "conv")


def networks(own):
    stage_1 = Autoencoder(own.autoencoder)
    stage_2 = PatchedUNet(own, 3, 3, condition_width=4, resblock_updown=True, upcast_attention=True)
    return stage_1, stage_2


def published_states(own, seed=0):
    """Random tensors under the old names, one dict a network, and the same under ours."""
    draws = torch.Generator().manual_seed(seed)
    states, expected = [], {}
    for prefix, part, network in zip(
        ("autoencoder", "unet"), ("net", "unet"), networks(own), strict=True
    ):
        state = {}
        for name, value in getattr(network, part).state_dict().items():
            drawn = 0.1 * torch.randn(value.shape, generator=draws)
            state[old_name(name)] = drawn
            expected[f"{prefix}.{part}.{name}"] = drawn.numpy()
        states.append(state)
    return states, expected
