"""Presets of `ldm3d`: each resolves, and each field says where it comes from."""

from __future__ import annotations

from importlib.resources import files

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from synthbench.generators.networks.unet import PatchedUNet
from tests.generators.latent.examples import resolved


@pytest.mark.parametrize("name", ["tiny", "small", "pinaya"])
def test_presets_resolve_and_take_their_grid(name):
    common, own = resolved(preset=name)
    assert common.space.shape is not None
    assert own.nearest_grid(common.space.shape) == common.space.shape


@pytest.mark.parametrize("name", ["tiny", "small", "pinaya"])
def test_every_field_of_a_preset_says_where_it_comes_from(name):
    """A line is a comment, the head of stage 1, or a field with a comment."""
    text = (files("synthbench.generators") / "presets" / f"ldm3d-{name}.yaml").read_text(
        encoding="utf-8"
    )
    fields = [line for line in text.splitlines() if not line.startswith(("#", "autoencoder:"))]
    assert [line for line in fields if "  # " not in line] == []
    assert max(len(line) for line in text.splitlines()) <= 100


def test_the_published_networks_are_those_of_the_preset():
    """Latents of 20 x 28 x 20 and 3 channels; MONAI's own network has as many parameters."""
    common, own = resolved("null_embedding=false", "condition_dropout=0", preset="pinaya")
    assert common.space.shape is not None
    assert own.latent_shape(common.space.shape) == (3, 20, 28, 20)
    with torch.device("meta"):
        ours = PatchedUNet(
            own, 3, 3, condition_width=4, resblock_updown=True, upcast_attention=True
        )
        theirs = DiffusionModelUNet(
            spatial_dims=3, in_channels=7, out_channels=3, channels=(256, 512, 768),
            num_res_blocks=2, attention_levels=(False, True, True), norm_num_groups=32,
            resblock_updown=True, num_head_channels=(0, 512, 768), with_conditioning=True,
            cross_attention_dim=4, upcast_attention=True,
        )  # fmt: skip
    assert {k: v.shape for k, v in ours.unet.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
