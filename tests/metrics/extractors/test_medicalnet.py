"""MedicalNet's checkpoints: what is read, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from synthbench.errors import UsageError, WeightsError
from synthbench.metrics.extractors import medicalnet, resnet, weights
from tests.metrics.extractors.resnets import (
    constant,
    heads,
    published,
    published_shapes,
    random_state,
)


def constant_state(depth: int) -> dict[str, Tensor]:
    """Build a state dict of constants, which takes few bytes in a file."""
    return {
        key: torch.tensor(constant(key, shape)).expand(shape)
        for key, shape in published_shapes(depth).items()
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_a_checkpoint_whose_hash_the_user_gave(folder: Path):
    """ResNet-18 has no published hash; with the same parameters, features are the same."""
    state = random_state(18, seed=0)
    path = folder / "resnet_18.pth"
    torch.save(published(state), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    extractor = medicalnet.resnet18()
    assert extractor.weights_sha256 is None
    with pytest.raises(WeightsError, match="synthbench fetch medicalnet-resnet18 --sha256 HASH"):
        extractor.load()

    weights.fetch(extractor.weight_file, sha256=sha256)
    volumes = heads(1)
    found = extractor.features(volumes)

    assert extractor.weights_sha256 == medicalnet.resnet18().weights_sha256 == sha256
    network = resnet.with_weights(18, state, "state")
    assert torch.equal(found, resnet.pooled_features("x", network, volumes))


def test_a_file_with_another_hash_than_the_published_one_is_not_used(folder: Path):
    (folder / "resnet_10.pth").write_bytes(b"other weights")
    with pytest.raises(WeightsError, match=r"must have the sha256 2824951e.*found [0-9a-f]{64}"):
        medicalnet.resnet10().load()


def test_missing_weights_name_the_command_and_the_file(folder: Path):
    with pytest.raises(WeightsError) as caught:
        medicalnet.resnet50_23dataset().features(heads(1))
    message = str(caught.value)
    assert "`synthbench fetch medicalnet-resnet50-23dataset`" in message
    assert str(folder / "resnet_50_23dataset.pth") in message


def test_step_counters_of_batch_normalisation_are_optional():
    state = constant_state(10)
    counted = {**state, "bn1.num_batches_tracked": torch.tensor(7)}
    for given in (state, counted):
        network = resnet.with_weights(10, given, "state")
        assert not any(t.is_meta for t in network.state_dict().values())
        assert not network.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer4.0.bn2.weight": None}, "missing keys: layer4.0.bn2.weight"),
        ({"fc.weight": torch.zeros(1)}, "unexpected keys: fc.weight"),
        ({"bn1.bias": torch.zeros(65)}, r"wrong shapes: bn1.bias \(65,\) for \(64,\)"),
        ({"bn1.bias": torch.zeros(64).half()}, "not float32: bn1.bias"),
    ],
    ids=["missing", "unexpected", "shape", "dtype"],
)
def test_a_checkpoint_that_is_not_this_network_is_refused(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
):
    state = {key: t for key, t in {**constant_state(10), **change}.items() if t is not None}
    path = tmp_path / "resnet_10.pth"
    torch.save(published(state), path)
    with pytest.raises(WeightsError, match=message):
        medicalnet.read_checkpoint(path, 10)


def test_many_wrong_keys_are_counted():
    """ResNet-18 has 8 blocks of 10 tensors where ResNet-10 has 4, and no shortcut tensors."""
    with pytest.raises(
        WeightsError, match=r"unexpected keys: layer1\.1\.conv1\.weight, .* 37 more"
    ):
        resnet.with_weights(10, constant_state(18), "resnet_18.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "found a list"),
        ({"model": {}}, "found the entries model"),
        ({"state_dict": {"bn1.bias": 0.0}}, "`state_dict` of tensors"),
    ],
    ids=["list", "no state_dict", "no tensors"],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object, message: str):
    path = tmp_path / "resnet_10.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message):
        medicalnet.read_checkpoint(path, 10)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path):
    path = tmp_path / "resnet_10.pth"
    path.write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(WeightsError, match="must be a PyTorch checkpoint"):
        medicalnet.read_checkpoint(path, 10)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UsageError, match="did you mean 'medicalnet-resnet50-23dataset'"):
        medicalnet.MedicalNet("medicalnet-resnet50-23datasets")
