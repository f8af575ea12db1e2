"""The extractor check passes what is sound, and names what is broken."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from synthbench import registry
from synthbench.errors import UsageError
from synthbench.metrics.extractors import qiu2022, weights
from synthbench.metrics.extractors.extractor import check_volumes
from synthbench.metrics.extractors.medicalnet import resnet18
from synthbench.testing import check_extractor
from synthbench.volumes.grid import Space
from tests.metrics.extractors import resnets, test_qiu2022

READY = [
    name
    for name in registry.BUILT_IN["extractors"]
    if registry.load("extractors", name)().needs == "nothing"
]


class Blocks:
    """Means of blocks of 6 x 6 x 6 voxels: sound, and the base of what is broken below."""

    name = "blocks"
    dim = 512
    weights_sha256: str | None = None
    space: Space | None = None
    preprocessing = "none-v1"
    layer = "the blocks"
    summary = "means of blocks"
    needs = "nothing"

    def features(self, volumes):
        check_volumes(self.name, volumes)
        return torch.stack([torch.nn.functional.avg_pool3d(one, 6).flatten() for one in volumes])


# --- what is sound ---


@pytest.mark.slow
@pytest.mark.parametrize("name", READY)
def test_built_in_extractors_without_weights_meet_the_contract(name: str):
    check_extractor(registry.load("extractors", name))


@pytest.mark.slow
def test_qiu2022_meets_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With random weights, on the middle of its grid: all of it takes long."""
    path = tmp_path / qiu2022.WEIGHT_FILE.filename
    torch.save(test_qiu2022.random_state(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(qiu2022, "WEIGHT_FILE", replace(qiu2022.WEIGHT_FILE, sha256=sha256))
    middle = qiu2022.FSL_MNI152.regrid((128, 128, 128), spacing=1.0)
    monkeypatch.setattr(qiu2022, "FSL_MNI152", middle)
    check_extractor(qiu2022.Qiu2022)


@pytest.mark.slow
def test_medicalnet_meets_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With random weights of the published shapes, on a small grid: its own takes long."""
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path))
    path = tmp_path / resnet18().weight_file.filename
    torch.save(resnets.published(resnets.random_state(18, seed=0)), path)
    weights.fetch(resnet18().weight_file, hashlib.sha256(path.read_bytes()).hexdigest())
    check_extractor(resnet18, volumes=resnets.heads(2, size=24)[:, 0].numpy())


def test_an_exported_network_meets_the_contract(tmp_path: Path):
    from tests.metrics.extractors.mixers import SLICES, channel_mixer

    path = tmp_path / "net.onnx"
    path.write_bytes(channel_mixer(2, 3).SerializeToString())
    path.with_suffix(".yaml").write_text(
        yaml.safe_dump(SLICES | {"output": "squares"}), encoding="utf-8"
    )
    check_extractor(registry.load("extractors", f"slices:{path}"))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sound_extractor_passes(seed: int):
    check_extractor(Blocks, seed=seed)


def test_volumes_of_ones_own(make_volumes: Callable[..., np.ndarray]):
    check_extractor(partial(small_blocks), volumes=make_volumes(2))
    with pytest.raises(UsageError, match=r"n at least 2; found \(1, 12, 12, 12\)"):
        check_extractor(small_blocks, volumes=make_volumes(1))


@pytest.mark.slow
def test_listing_extractors_imports_no_torch():
    script = (
        "import sys\n"
        "from synthbench import registry\n"
        "for name in registry.BUILT_IN['extractors']: registry.load('extractors', name)()\n"
        "from synthbench.metrics.extractors import exported\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.fixture
def make_volumes() -> Callable[..., np.ndarray]:
    def make(count: int) -> np.ndarray:
        return np.random.default_rng(0).random((count, 12, 12, 12)).astype(np.float32)

    return make


def small_blocks() -> Any:
    return with_attributes(dim=8)()


# --- what is broken ---


def with_attributes(**attributes: Any) -> type:
    return type("Changed", (Blocks,), attributes)


def with_features(change: Callable[..., Any]) -> type:
    """The sound extractor, its features replaced by `change(self, sound, volumes)`."""

    class Changed(Blocks):
        def features(self, volumes):
            return change(self, super().features, volumes)

    return Changed


class ImportsTorch(Blocks):
    def __init__(self) -> None:
        import torch

        self.torch = torch


class Counting(Blocks):
    """Gives other features at each call."""

    def __init__(self) -> None:
        self.calls = 0

    def features(self, volumes):
        self.calls += 1
        return super().features(volumes) + 0.001 * self.calls


class OneOfMany(Blocks):
    """Gives each instance features and weights of its own."""

    made = 0

    def __init__(self) -> None:
        OneOfMany.made += 1
        self.number = OneOfMany.made

    def features(self, volumes):
        return super().features(volumes) + 0.001 * self.number


class HashOfMany(Blocks):
    made = 0

    def __init__(self) -> None:
        HashOfMany.made += 1
        self.weights_sha256 = hashlib.sha256(bytes(HashOfMany.made)).hexdigest()


def darkened(_, sound, volumes):
    rows = sound(volumes)
    volumes *= 0.5
    return rows


def unchecked(_, sound, volumes):
    clean = torch.nan_to_num(volumes.float().clamp(0, 1))
    if clean.ndim != 5 or clean.shape[1] != 1 or len(clean) == 0:
        raise ValueError("a shape")
    return sound(clean)


def nameless(_, sound, volumes):
    check_volumes("this", volumes)
    return sound(volumes)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (ImportsTorch, "constructing an extractor must not import torch"),
        (with_attributes(layer=" "), "blocks: layer is empty"),
        (with_attributes(preprocessing=None), "blocks: preprocessing must be a text; found None"),
        (with_attributes(name="slices:/a/b.onnx"), "name must hold no space, '|' or path"),
        (with_attributes(dim="512"), "blocks: dim must be a number of features; found '512'"),
        (
            with_attributes(space=(48, 48, 48)),
            "blocks: space must be a synthbench.Space",
        ),
        (with_attributes(weights_sha256="ABC"), "weights_sha256 must be 64 lower-case"),
        (with_attributes(features=None), r"features\(\) is missing"),
        (with_attributes(dim=7), r"must have the shape \(1, 7\).*found \(1, 512\)"),
        (with_features(lambda s, f, v: f(v, 1)), r"features\(\) raised TypeError"),
        (
            with_features(lambda s, f, v: f(v).double()),
            r"must return float32; found torch\.float64",
        ),
        (with_features(lambda s, f, v: f(v).numpy()), "must return a tensor; found ndarray"),
        (with_features(lambda s, f, v: f(v).requires_grad_()), "keeps the graph"),
        (with_features(lambda s, f, v: f(v) / 0), "is not finite"),
        (with_features(darkened), "changes the volumes in place"),
        (Counting, r"differ from call to call, by up to 0\.001"),
        (
            with_features(lambda s, f, v: f(v) - f(v).mean(0) / 9),
            "differ with the rest of the batch",
        ),
        (OneOfMany, "differ with the order, or between instances"),
        (HashOfMany, "two instances have the weights"),
        (with_features(lambda s, f, v: 0 * f(v) + 1), "another head moves the features by 0 of"),
        (with_features(unchecked), r"volumes without a channel axis must raise a MetricError"),
        (with_features(nameless), "does not name the extractor: this: volumes must have"),
    ],
)
def test_a_broken_extractor_is_named_with_its_fault(factory: Callable[[], Any], message: str):
    with pytest.raises(AssertionError, match=message):
        check_extractor(factory)


@pytest.mark.parametrize(
    ("lenient", "words"),
    [
        (lambda v: v.clamp(0, 1), "an intensity above 1 must raise"),
        (lambda v: v.clamp_min(0) if v.dtype == torch.float32 else v, "a negative intensity"),
        (torch.nan_to_num, "NaN must raise"),
        (lambda v: v.float(), "volumes in float64 must raise"),
        (lambda v: v[:, :1], "volumes of two channels must raise"),
    ],
)
def test_what_must_be_refused(lenient: Callable[[Any], Any], words: str):
    def features(_, sound, volumes):
        return sound(lenient(volumes) if volumes.ndim == 5 else volumes)

    with pytest.raises(AssertionError, match=f"blocks: {words}"):
        check_extractor(with_features(features))
