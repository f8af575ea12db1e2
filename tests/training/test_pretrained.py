"""The published model: its names mapped to ours, nothing missing or left over, hashes checked."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from synthbench.cohorts.conditions import Conditions
from synthbench.errors import RunError, UsageError, WeightsError
from synthbench.generators.latent import published
from synthbench.generators.latent.autoencoder import Autoencoder
from synthbench.generators.latent.settings import LDM3DSettings
from synthbench.generators.networks.unet import PatchedUNet
from synthbench.metrics.extractors import weights
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import read_sidecar
from synthbench.sampling import sampling
from synthbench.training import pretrained
from synthbench.training.pretrained import PUBLISHED, Published, pretrained_run

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
    with pytest.raises(WeightsError, match=r"pt: (must|does not) hold this network"):
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


@pytest.fixture
def small_bundle(tmp_path, monkeypatch):
    """The published model with narrow networks and random weights, already in the folder."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
    own = settings(*SMALL)
    states, _ = published_states(own)
    files = {}
    for role, state in zip(("autoencoder", "unet"), states, strict=True):
        path = folder / f"small-{role}.pt"
        torch.save(state, path)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        files[role] = weights.WeightFile(
            "small", "https://invalid.invalid/x", None, path.name, 1, "Apache-2.0", md5
        )
    bundle = Published("ldm3d", "pinaya", files, "made of noise", "nobody", 0)
    monkeypatch.setitem(PUBLISHED, "small", bundle)
    monkeypatch.setattr(published, "OVERRIDES", (*published.OVERRIDES, *SMALL[:-1]))
    monkeypatch.setattr(published, "SHAPE", (32, 32, 32))
    return files


def test_a_run_of_published_weights_can_be_sampled(small_bundle, tmp_path):
    said: list[str] = []
    run = pretrained_run("ldm3d", "small", tmp_path / "run", log=said.append)
    assert "made of noise" in said[0]
    record = run.record
    assert record["pretrained"]["condition_ranges"].startswith("unknown")
    assert record["scale_factor"] == 1.0
    conditions = Conditions.of_run(record)
    assert conditions.names == published.CONDITIONS
    assert conditions.extrapolated({"age": 1.2, "sex": 1.0}) == ("age",)
    (file,) = sampling.sample(Run.open(run.folder), 1, tmp_path / "out", choices=["age=0.7"])
    assert file.is_file()
    assert read_sidecar(file)["conditions"]["age"] == 0.7
    recorded = weights.known_sha256(small_bundle["unet"])
    assert recorded == hashlib.sha256((tmp_path / "weights/small-unet.pt").read_bytes()).hexdigest()


def test_a_file_with_another_md5_is_not_used(small_bundle, tmp_path):
    path = tmp_path / "weights" / "small-unet.pt"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="must have the md5"):
        pretrained_run("ldm3d", "small", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"'monai-brain-ldn' is unknown.*monai-brain-ldm"):
        pretrained_run("ldm3d", "monai-brain-ldn", tmp_path / "run")
    with pytest.raises(UsageError, match="is of ldm3d, not of ddpm3d"):
        pretrained_run("ddpm3d", "monai-brain-ldm", tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(RunError, match="already there and not empty"):
        pretrained_run("ldm3d", "monai-brain-ldm", tmp_path / "full")


def test_the_hashes_are_the_bundles():
    files = pretrained.PUBLISHED["monai-brain-ldm"].files
    assert files["autoencoder"].md5 == "329e97b3085643ff235f11f049856242"
    assert files["unet"].md5 == "21c3047556fb671caf0556f1cce6ef22"
