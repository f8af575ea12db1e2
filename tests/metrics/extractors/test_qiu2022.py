"""The backbone of Qiu et al. 2022: its architecture, its input, and its published weights."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors import qiu2022
from synthbench.metrics.extractors.qiu2022 import FSL_MNI152, Qiu2022

GRID = (182, 218, 182)
CONVOLUTIONS = {1: (20, 1, 7), 2: (40, 20, 4), 3: (80, 40, 3), 4: (160, 80, 3)}


def shared_folder() -> Path:
    beside = Path(__file__).parents[4] / "shared"
    return Path(os.environ.get("SYNTHBENCH_SHARED", beside)) / "weights" / "qiu2022"


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """Random parameters and moments of the published keys and shapes."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for number, (outputs, inputs, size) in CONVOLUTIONS.items():
        kernel = torch.randn(outputs, inputs, size, size, size, generator=rng)
        state[f"block{number}.conv.weight"] = kernel * (inputs * size**3) ** -0.5
        for moment in ("bias", "running_mean"):
            state[f"block{number}.BN.{moment}"] = 0.1 * torch.randn(outputs, generator=rng)
        for moment in ("weight", "running_var"):
            state[f"block{number}.BN.{moment}"] = 0.5 + torch.rand(outputs, generator=rng)
        state[f"block{number}.BN.num_batches_tracked"] = torch.tensor(58)
    return state


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put random weights into the weights folder, and take them for the published ones."""
    path = tmp_path / "qiu2022_backbone_58.pth"
    torch.save(random_state(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(qiu2022, "WEIGHT_FILE", replace(qiu2022.WEIGHT_FILE, sha256=sha256))
    return path


def test_the_features_are_those_of_the_published_blocks(published: Path):
    """The layers written out one by one, with the strides and kernels of the publication.

    128 voxels become 61, 30 by the first convolution and pooling, then 27, 13, then 11, 5, then
    3 and 1.
    """
    reference = nn.Sequential(
        *(nn.Conv3d(1, 20, 7, 2, 0, bias=False), nn.MaxPool3d(3, 2, 0), nn.BatchNorm3d(20)),
        nn.LeakyReLU(0.01),
        *(nn.Conv3d(20, 40, 4, 1, 0, bias=False), nn.MaxPool3d(2, 2, 0), nn.BatchNorm3d(40)),
        nn.LeakyReLU(0.01),
        *(nn.Conv3d(40, 80, 3, 1, 0, bias=False), nn.MaxPool3d(2, 2, 0), nn.BatchNorm3d(80)),
        nn.LeakyReLU(0.01),
        *(nn.Conv3d(80, 160, 3, 1, 0, bias=False), nn.MaxPool3d(2, 2, 0), nn.BatchNorm3d(160)),
        nn.LeakyReLU(0.01),
    )
    state = random_state()
    for number in CONVOLUTIONS:
        convolution, norm = reference[4 * number - 4], reference[4 * number - 2]
        convolution.load_state_dict({"weight": state[f"block{number}.conv.weight"]})
        norm.load_state_dict({k: state[f"block{number}.BN.{k}"] for k in norm.state_dict()})
    image = torch.rand(128, 128, 128, generator=torch.Generator().manual_seed(1)) * 8
    with torch.inference_mode():
        expected = reference.eval()(image[None, None])
        found = qiu2022.pooled_features(Qiu2022().load(), image)
    assert expected.shape == (1, 160, 1, 1, 1)
    torch.testing.assert_close(found, expected.flatten(), rtol=1e-5, atol=1e-6)


def test_the_published_input_gives_maps_of_3_by_4_by_3():
    """182, 218 become 88, 106 and 43, 52; then 40, 49 and 20, 24; 18, 22 and 9, 11; 7, 9, 3, 4."""
    with torch.device("meta"):
        maps = qiu2022.architecture()(torch.empty(1, 1, *GRID))
    assert maps.shape == (1, 160, 3, 4, 3)


@pytest.mark.slow
def test_the_published_weights_give_the_published_features():
    """Features of an image of products of sines, computed with the code of the publication."""
    folder = shared_folder()
    if not (folder / "backbone_58.pth").is_file():
        pytest.skip(f"no published weights in {folder}; SYNTHBENCH_SHARED names another folder")
    content = (folder / "backbone_58.pth").read_bytes()
    assert hashlib.sha256(content).hexdigest() == qiu2022.WEIGHT_FILE.sha256
    axes = [np.linspace(0, 1, side) for side in GRID]
    g0, g1, g2 = np.meshgrid(*axes, indexing="ij")
    image = np.abs(np.sin(9 * g0) * np.cos(7 * g1) * np.sin(5 * g2)) * (g0 > 0.1)
    image = np.clip(image / image.mean(), 0, 8).astype(np.float32)
    network = qiu2022.read_checkpoint(folder / "backbone_58.pth")
    with torch.inference_mode():
        found = qiu2022.pooled_features(network, torch.from_numpy(image))
    expected = np.load(folder / "golden_features.npy", allow_pickle=False)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4)


def test_the_grid_is_the_one_of_FSL_turned_to_the_right():
    """FSL's voxel i lies at 90 - i mm; turned, voxel 0 at 90 - 181 = -91 and voxel 181 at 90 mm."""
    assert FSL_MNI152.shape == GRID
    corners = FSL_MNI152.matrix @ np.array([[0, 0, 0, 1], [181, 217, 181, 1]]).T
    np.testing.assert_array_equal(corners[:3].T, [[-91, -126, -72], [90, 91, 109]])


def test_a_volume_is_turned_and_divided_by_its_mean():
    """Of a volume of 1/4 on the left and 3/4 on the right the mean is 1/2; turned, the right side
    is first.
    """
    volume = torch.full(GRID, 0.25)
    volume[91:] = 0.75
    found = qiu2022.mean_scaled(volume)
    assert found.dtype == torch.float32
    assert torch.all(found[:91] == 1.5)
    assert torch.all(found[91:] == 0.5)


def test_what_is_brighter_than_eight_means_is_clipped():
    """A sheet of ones, a 218th of the volume, would be 218 times the mean."""
    volume = torch.zeros(GRID)
    volume[:, 100] = 1.0
    found = qiu2022.mean_scaled(volume)
    assert torch.all(found[:, 100] == 8.0)
    assert found.sum() == 8.0 * 182 * 182


def test_a_blank_volume_is_named(published: Path):
    volumes = torch.zeros(1, 1, *GRID)
    with pytest.raises(MetricError, match=r"qiu2022, volume 0: .* found no voxel above zero"):
        Qiu2022().features(volumes)


def test_another_grid_is_refused(published: Path):
    with pytest.raises(MetricError, match=r"the grid must be 182 x 218 x 182 at 1 mm; found .*84"):
        Qiu2022().features(torch.rand(1, 1, 84, 128, 84))


def test_the_weights_of_another_hash_are_not_used(published: Path):
    published.write_bytes(b"other weights")
    with pytest.raises(WeightsError, match=r"must have the sha256 [0-9a-f]{64}; found"):
        Qiu2022().load()


def test_missing_weights_name_the_command_and_the_file(published: Path):
    published.unlink()
    with pytest.raises(WeightsError) as caught:
        Qiu2022().load()
    assert "`synthbench fetch qiu2022`" in str(caught.value)
    assert str(published) in str(caught.value)


def test_step_counters_are_optional(tmp_path: Path):
    state = {k: t for k, t in random_state().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pth")
    network = qiu2022.read_checkpoint(tmp_path / "weights.pth")
    assert not network.training
    assert not any(t.is_meta for t in network.state_dict().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block4.BN.weight": None}, "missing keys: block4.BN.weight"),
        ({"block5.conv.weight": torch.zeros(1)}, "unexpected keys: block5.conv.weight"),
        ({"block1.BN.bias": torch.zeros(21)}, r"wrong shapes: block1.BN.bias \(21,\) for \(20,\)"),
        ({"block1.BN.bias": torch.zeros(20).half()}, "not float32: block1.BN.bias"),
    ],
    ids=["missing", "unexpected", "shape", "dtype"],
)
def test_a_checkpoint_that_is_not_this_network_is_refused(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
):
    state = {key: t for key, t in {**random_state(), **change}.items() if t is not None}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message):
        qiu2022.read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "found a list"),
        (nn.Linear(1, 1), "must be a PyTorch checkpoint that holds tensors"),
    ],
    ids=["list", "pickled object"],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object, message: str):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message):
        qiu2022.read_checkpoint(tmp_path / "weights.pth")
