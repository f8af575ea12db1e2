"""The published weights: every parameter finds its place, and no key is left over."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthbench.errors import WeightsError
from synthbench.generators.latent import published
from tests.generators.latent.bundle import SMALL, networks, old_name, published_states, settings


def test_every_parameter_finds_its_place():
    own = settings(*SMALL)
    (autoencoder, unet), expected = published_states(own)
    assert any("to_out.0" in name for name in unet)
    assert any(".conv.conv." in name for name in autoencoder)
    found = published.weights(own, autoencoder, unet)
    assert not found.pop("latent_mean").any()
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("part", [0, 1], ids=["autoencoder", "unet"])
def test_a_leftover_key_is_an_error(part):
    own = settings(*SMALL)
    states, _ = published_states(own)
    states[part]["of.another.network"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"left over: of\.another\.network"):
        published.weights(own, *states)


@pytest.mark.parametrize(
    ("part", "ending"),
    [(0, "weight"), (0, "conv.conv.bias"), (1, "bias"), (1, "to_out.0.bias")],
    ids=["autoencoder", "autoencoder, renamed", "unet", "unet, renamed"],
)
def test_a_missing_key_is_an_error(part, ending):
    """MONAI's loader would keep the initial values of some of them without a word."""
    own = settings(*SMALL)
    states, _ = published_states(own)
    del states[part][next(name for name in states[part] if name.endswith(ending))]
    with pytest.raises(WeightsError, match=r"pt: .* this network"):
        published.weights(own, *states)


def test_the_whole_key_list_maps_one_to_one():
    """Without data: the published sizes, and old names that are as many as the new ones."""
    own = settings(f"conditions=[{','.join(published.CONDITIONS)}]")
    with torch.device("meta"):
        stage_1, stage_2 = networks(own)
    for network in (stage_1.net, stage_2.unet):
        names = list(network.state_dict())
        assert len({old_name(name) for name in names}) == len(names)
    first = stage_2.unet.state_dict()["conv_in.conv.weight"]
    assert first.shape == (256, 7, 3, 3, 3)
    keys = {n: v.shape for n, v in stage_2.unet.state_dict().items() if "attn2.to_k" in n}
    assert {shape[1] for shape in keys.values()} == {4}
    assert own.latent_shape(published.SHAPE) == (3, 20, 28, 20)
