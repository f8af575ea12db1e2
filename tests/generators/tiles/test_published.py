"""Published transformers: each parameter at its place, old names, and what cannot be."""

from __future__ import annotations

import json

import pytest
import torch

from synthbench.errors import WeightsError
from synthbench.generators.networks.weights import read_state
from synthbench.generators.tiles import published
from synthbench.runs import configuration
from tests.generators.tiles import model


@pytest.fixture
def states(tmp_path):
    networks = model.write(tmp_path)
    configs = [
        json.loads((tmp_path / p / "config.json").read_text(encoding="utf-8"))
        for p in ("transformer", "vae")
    ]
    return [network.state_dict() for network in networks], configs


def resolved(configs):
    changes = published.overrides(*configs)
    return configuration.resolve("dit-tiles", preset="xl2", overrides=changes)[1]


def test_settings_and_weights_are_those_of_the_files(states):
    (transformer, vae), configs = states
    own = resolved(configs)
    assert (own.heads, own.head_width, own.layers, own.patch) == (2, 4, 2, 2)
    assert (own.classes, own.sample_size, own.learned_sigma) == (6, 8, True)
    assert (own.autoencoder.channels, own.autoencoder.scale) == ((4, 8), 0.18215)
    found = published.weights(own, transformer, vae)
    expected = {
        **{f"transformer.{name}": value for name, value in transformer.items()},
        **{f"autoencoder.{name}": value for name, value in vae.items()},
    }
    assert found.keys() == expected.keys()
    assert all(torch.equal(torch.from_numpy(found[name]), expected[name]) for name in found)


def test_old_names_and_shapes_of_attention_are_read(states):
    """Early files: query, key, value and proj_attn; attention as convolutions of 1 x 1."""
    (transformer, vae), configs = states
    today = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in vae.items():
        for new, before in today.items():
            if f".{new}." in name:
                name = name.replace(new, before)
                value = value[..., None, None] if name.endswith("weight") else value
        old[name] = value
    assert sum("proj_attn" in name for name in old) == 4
    own = resolved(configs)
    expected = published.weights(own, transformer, vae)
    found = published.weights(own, transformer, old)
    assert all((found[name] == expected[name]).all() for name in expected)


@pytest.mark.parametrize("part", [0, 1], ids=["transformer", "vae"])
def test_what_is_missing_left_over_or_of_another_shape_is_an_error(part, states):
    both, configs = states
    own, name = resolved(configs), next(iter(both[part]))
    for change, words in (
        ({"of.another.network": torch.zeros(1)}, "left over: of.another.network"),
        ({name: torch.zeros(2, 3)}, f"{name} must have the shape"),
    ):
        changed = [dict(state) for state in both]
        changed[part] |= change
        with pytest.raises(WeightsError, match=words):
            published.weights(own, *changed)
    del both[part][name]
    with pytest.raises(WeightsError, match=f"missing: {name}"):
        published.weights(own, *both)


@pytest.mark.parametrize(
    "change",
    [{"in_channels": 3}, {"out_channels": 12}, {"norm_type": "layer_norm"},
     {"attention_bias": False}, {"num_layers": None}],
)  # fmt: skip
def test_a_configuration_of_another_network_is_refused(change, states):
    _, (transformer, vae) = states
    changed = {
        k: v for k, v in {**transformer, **change}.items() if v is not None or k not in change
    }
    with pytest.raises(WeightsError, match=r"transformer/config\.json: must be that of a DiT"):
        published.overrides(changed, vae)


def test_both_formats_hold_the_same_tensors(tmp_path):
    model.write(tmp_path / "new")
    model.write(tmp_path / "old", safetensors=False)
    names = {"new": "safetensors", "old": "bin"}
    new, old = (
        read_state(tmp_path / k / "vae" / f"diffusion_pytorch_model.{v}") for k, v in names.items()
    )
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in new)
    broken = tmp_path / "old" / "broken.bin"
    broken.write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="must be a file of tensors"):
        read_state(broken)
