"""Networks in files as extractors: slices, scaling, and the YAML file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from synthbench import registry
from synthbench.errors import MetricError, UsageError
from synthbench.metrics.extractors import exported, qiu2022
from synthbench.metrics.extractors.exported import ExportedNet, ExportedSlices
from synthbench.metrics.extractors.extractor import Extractor, zscore_nonzero_zeros
from synthbench.volumes.grid import PAPER_GRID
from tests.metrics.extractors.mixers import BIAS, SLICES, WEIGHT, Write, channel_mixer, heads

NET = {key: SLICES[key] for key in list(SLICES)[:10]} | {"channels": 1}


def test_slices_lie_in_the_middles_of_equal_parts_of_the_brain():
    """Of 8 planes 2..9, halves are 2..5 and 6..9, middles at 4 and 8; of one plane, all are it."""
    volume = torch.arange(12.0).reshape(12, 1, 1).expand(12, 5, 6)
    foreground = (volume >= 2) & (volume <= 9)
    found = exported.slice_stack(volume, foreground, "sagittal", 2)
    assert found.shape == (2, 6, 5)
    assert found[:, 0, 0].tolist() == [4, 8]
    alone = exported.slice_stack(volume, volume == 7, "sagittal", 3)
    assert alone[:, 0, 0].tolist() == [7, 7, 7]


def test_a_stray_voxel_does_not_move_the_slices():
    """One voxel is 1/30 of the area of a full plane, below the share of 1/20."""
    volume = torch.zeros(12, 5, 6)
    volume[2:10] = 1.0
    volume[0, 0, 0] = 1.0
    marked = volume + torch.arange(12.0).reshape(12, 1, 1)
    found = exported.slice_stack(marked, volume > 0, "sagittal", 2)
    assert (found[:, 0, 0] - 1).tolist() == [4, 8]


@pytest.mark.parametrize(
    ("plane", "first_row_first_column", "down", "right"),
    [
        ("sagittal", (1, 3, 4), (0, 0, -1), (0, -1, 0)),
        ("coronal", (2, 1, 4), (0, 0, -1), (-1, 0, 0)),
        ("axial", (2, 3, 2), (0, -1, 0), (-1, 0, 0)),
    ],
)
def test_slices_stand_upright(
    plane: exported.Plane,
    first_row_first_column: tuple[int, int, int],
    down: tuple[int, int, int],
    right: tuple[int, int, int],
):
    """In a grid of 3 x 4 x 5 voxels, numbered by their indices in RAS+, the top left voxel of a
    middle slice is superior (or anterior) and on the right (or anterior), and steps go away.
    """
    x, y, z = torch.meshgrid(*(torch.arange(side) for side in (3, 4, 5)), indexing="ij")
    numbers = (100 * x + 10 * y + z).float()
    image = exported.slice_stack(numbers, numbers >= 0, plane, 1)[0]

    def number(index: tuple[int, ...]) -> float:
        return 100 * index[0] + 10 * index[1] + index[2]

    start = first_row_first_column
    middle = {"sagittal": 1, "coronal": 2, "axial": 2}[plane]
    corner = list(start)
    corner[exported.NORMAL[plane]] = middle
    assert image[0, 0] == number(tuple(corner))
    assert image[1, 0] - image[0, 0] == number(down)
    assert image[0, 1] - image[0, 0] == number(right)


def test_a_volume_without_foreground_has_no_slices():
    with pytest.raises(MetricError, match="through the voxels above zero; found none"):
        exported.slice_stack(torch.zeros(3, 3, 3), torch.zeros(3, 3, 3) > 0, "axial", 2)


@pytest.mark.parametrize("size", [(8, 9), (48, 30)], ids=["smaller", "larger"])
def test_resizing_against_pillow(size: tuple[int, int]):
    """Pillow's bilinear filter widens with the reduction too; it is another implementation."""
    image = np.random.default_rng(0).random((24, 20)).astype(np.float32)
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    found = exported.resized(torch.from_numpy(image)[None], size)[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def expected_features(volume: np.ndarray, mean: np.ndarray, std: np.ndarray) -> list[float]:
    """The mixer's averages over 3 slices per plane, of a cube whose texture starts at index 2.

    A linear map commutes with the averages over space and over slices: what is averaged is a
    slice's mean intensity, which resizing to its own size leaves alone. Of 8 planes 2..9, thirds
    have their middles at 2 + (8, 24, 40) // 6 = 3, 6 and 8.
    """
    features: list[float] = []
    for axis in range(3):
        intensity = np.take(volume, [3, 6, 8], axis=axis).mean(dtype=np.float64)
        features += list(WEIGHT @ ((intensity - mean) / std) + BIAS)
    return features


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("normalised", [False, True])
def test_features_of_slices(write: Write, mixer_pt2: bytes, suffix: str, normalised: bool):
    keys: dict[str, Any] = {"size": [12, 12]} if suffix == ".onnx" else {}
    content = channel_mixer(2, 3, free=True) if suffix == ".onnx" else mixer_pt2
    mean, std = np.zeros(3), np.ones(3)
    if normalised:
        mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.5])
        keys |= {"scaling": "mean-std", "mean": mean.tolist(), "std": std.tolist()}
    output = 0 if suffix == ".onnx" else "maps"
    extractor = ExportedSlices(write(content, suffix, output=output, **keys))
    volumes = heads(2, 12, 12, 12)
    found = extractor.features(volumes)
    assert isinstance(extractor, Extractor)
    assert found.shape == (2, extractor.dim) == (2, 12)
    # 12 to 10 columns changes the mean of a slice a little at its edges, which are zero here.
    for row, volume in zip(found, volumes, strict=True):
        expected = expected_features(volume[0].numpy(), mean, std)
        tolerance = 1e-5 if suffix == ".onnx" else 0.02 / std.min()
        np.testing.assert_allclose(row.numpy(), expected, atol=tolerance)


def test_both_formats_give_the_same_features(write: Write, mixer_pt2: bytes):
    volumes = heads(1, 12, 14, 16)
    rows = [
        ExportedSlices(write(content, suffix, output="squares")).features(volumes)
        for content, suffix in ((channel_mixer(2, 3), ".onnx"), (mixer_pt2, ".pt2"))
    ]
    torch.testing.assert_close(*rows, rtol=1e-6, atol=1e-6)


def test_planes_come_in_the_order_of_the_file(write: Write):
    volumes = heads(1, 12, 14, 16)
    model = channel_mixer(2, 3)
    whole = ExportedSlices(write(model)).features(volumes)
    chosen = ExportedSlices(write(model, planes=["axial", "sagittal"]))
    assert chosen.dim == 8
    assert torch.equal(chosen.features(volumes), whole[:, [8, 9, 10, 11, 0, 1, 2, 3]])
    assert chosen.layer == "output 0, global average, mean over 3 slices, axial + sagittal"


@pytest.mark.parametrize("scaling", ["unit", "zscore-nonzero-zeros"])
def test_features_of_a_3d_network(write: Write, scaling: str):
    """A linear map of one channel, averaged over the whole volume; the mean of a z-score over the
    voxels above zero is zero, which leaves the bias.
    """
    extractor = ExportedNet(write(channel_mixer(3, 1), of=NET, scaling=scaling))
    volumes = heads(1, 12, 10, 8)
    mean = float(volumes.double().mean()) if scaling == "unit" else 0.0
    expected = WEIGHT[:, 0] * mean + BIAS
    np.testing.assert_allclose(extractor.features(volumes)[0].numpy(), expected, atol=1e-6)


def test_a_network_with_features_of_its_own_needs_no_pooling(write: Write):
    """The flattened maps of 12 x 10 x 8 voxels are 3840 features."""
    model = channel_mixer(3, 1)
    model.graph.node.append(helper.make_node("Flatten", ["maps"], ["flat"], axis=1))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("flat", TensorProto.FLOAT, [1, 3840])
    )
    extractor = ExportedNet(write(model, of=NET, pooling="none", dim=3840, output="flat"))
    volumes = heads(1, 12, 10, 8)
    expected = np.multiply.outer(WEIGHT[:, 0], volumes[0, 0].numpy()) + BIAS[:, None, None, None]
    np.testing.assert_allclose(extractor.features(volumes)[0].numpy(), expected.ravel(), atol=1e-6)


def test_the_registry_makes_extractors_of_files(write: Write):
    path = write(channel_mixer(2, 3))
    make = registry.load("extractors", f"slices:{path}")
    first, second = make(), make()
    assert first is not second
    assert first.name == "slices:net"
    assert str(path.parent) not in f"{first.name}{first.layer}{first.preprocessing}{first.summary}"
    with pytest.raises(UsageError, match=r"no extractor is named 'slces:net': .*slices:FILE"):
        registry.load("extractors", "slces:net")


def test_a_bare_name_is_a_file_in_the_folder_of_weights(
    write: Write, monkeypatch: pytest.MonkeyPatch
):
    """The name in a benchmark's protocol finds the file again on another machine."""
    path = write(channel_mixer(2, 3))
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(path.parent))
    found = registry.load("extractors", ExportedSlices(path).name)()
    assert found.name == "slices:net"
    path.with_suffix(".pt2").write_bytes(b"")
    with pytest.raises(UsageError, match=r"must be one network file; found both files .*net\.onnx"):
        registry.load("extractors", "slices:net")()


def test_the_hashes_are_of_the_two_files(write: Write):
    path = write(channel_mixer(2, 3))
    extractor = ExportedSlices(path)
    assert extractor.weights_sha256 is None
    extractor.load()
    assert extractor.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    described = hashlib.sha256(path.with_suffix(".yaml").read_bytes()).hexdigest()
    assert extractor.preprocessing == f"slices-v1-yaml-{described[:12]}"
    assert ExportedSlices(write(channel_mixer(2, 3), slices=4)).preprocessing != (
        extractor.preprocessing
    )


def test_grids(write: Write):
    model = channel_mixer(2, 3)
    assert ExportedSlices(write(model)).space is None
    assert ExportedSlices(write(model, space="paper")).space == PAPER_GRID
    affine = [[2, 0, 0, -20], [0, 2, 0, -24], [0, 0, 2, -22], [0, 0, 0, 1]]
    own = ExportedSlices(write(model, space={"shape": [20, 24, 22], "affine": affine}))
    assert own.space is not None
    assert own.space.shape == (20, 24, 22)
    np.testing.assert_array_equal(own.space.matrix, affine)
    with pytest.raises(MetricError, match=r"slices:net, volume 0: the grid must be 20 x 24 x 22"):
        own.features(heads(1, 12, 14, 16))


@pytest.mark.parametrize("name", ["slices:gone.onnx", "slices:gone", "net:/no/where/gone.pt2"])
def test_a_missing_file_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(UsageError, match=rf"{name} must be one network file; found no file .*gone"):
        registry.load("extractors", name)()


def test_other_kinds_of_files_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"must end in \.onnx or \.pt2; found '\.pth'"):
        ExportedNet(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["net:here/net.yaml", "slices:net.yml"])
def test_the_yaml_in_place_of_the_network_is_answered_with_the_network(name: str):
    net = name.rpartition(".")[0]
    words = rf"{name}: FILE must be the network.* Give {net}\.onnx or {net}\.pt2"
    with pytest.raises(UsageError, match=words):
        registry.load("extractors", name)()


def test_a_missing_yaml_names_its_keys(write: Write):
    path = write(channel_mixer(2, 3))
    path.with_suffix(".yaml").unlink()
    with pytest.raises(UsageError, match=r"net\.yaml must describe .* missing.* name, licence, .*"):
        ExportedSlices(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"slice": 3}, r"slice: Extra inputs are not permitted"),
        ({"licence": "left out"}, r"licence: Field required"),
        ({"dim": 0}, r"dim: Input should be greater than 0"),
        ({"dtype": "float16"}, r"dtype: .*'float32' or 'float64'"),
        ({"space": "mni"}, r"space"),
        ({"scaling": "mean-std"}, r"mean and std belong to the scaling 'mean-std'"),
        ({"mean": [0.5] * 3, "std": [0.5] * 3}, r"mean and std belong to the scaling 'mean-std'"),
        (
            {"scaling": "mean-std", "mean": [0.5], "std": [0.5] * 3},
            r"mean and std must have 3 numbers",
        ),
        ({"planes": ["axial", "axial"]}, r"planes must differ"),
        ({"planes": ["transverse"]}, r"planes\.0: .*'sagittal', 'coronal' or 'axial'"),
        (
            {"space": {"shape": [2, 2, 2], "affine": np.diag([-1.0, 1, 1, 1]).tolist()}},
            r"the axes must run to the right, the front and up",
        ),
        ({"name": "other"}, r"name must be 'net', the name of the network file.*found 'other'"),
        ({"name": "a/b"}, r"name: String should match pattern"),
    ],
)
def test_a_yaml_that_describes_no_network_is_refused(
    write: Write, keys: dict[str, Any], message: str
):
    path = write(channel_mixer(2, 3), **keys)
    with pytest.raises(UsageError, match=rf"net\.yaml.*{message}"):
        ExportedSlices(path)


def test_a_file_that_is_no_yaml_is_refused(write: Write):
    path = write(channel_mixer(2, 3))
    path.with_suffix(".yaml").write_text("name: [", encoding="utf-8")
    with pytest.raises(UsageError, match=r"net\.yaml must be YAML"):
        ExportedSlices(path)


def test_the_yaml_of_the_documentation_describes_a_network():
    page = (Path(__file__).parents[3] / "docs" / "extractors.md").read_text(encoding="utf-8")
    shown = page.split("```yaml\n")[1].split("```")[0]
    described = exported.SliceDescription.model_validate(yaml.safe_load(shown))
    assert set(yaml.safe_load(shown)) == set(exported.SliceDescription.model_fields)
    assert described.grid == qiu2022.FSL_MNI152


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": [12, 12]}, r"takes 'image' of shape \(1, 3, 12, 10\), float32; by .*size"),
        ({"channels": 1}, r"by channels, .* the shape \(1, 1, 12, 10\)"),
        ({"dtype": "float64"}, r"float32; by .*float64\. Fix those keys"),
        (
            {"output": 2},
            r"has no output 2, which is the value of the key `output`: known: maps, squares",
        ),
        ({"output": "map"}, r"no output 'map', .*: did you mean 'maps'\?"),
    ],
)
def test_a_network_that_the_yaml_does_not_describe_is_refused(
    write: Write, keys: dict[str, Any], message: str
):
    extractor = ExportedSlices(write(channel_mixer(2, 3), **keys))
    with pytest.raises(UsageError, match=rf"net\.onnx.*{message}"):
        extractor.load()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"dim": 5},
            r"by dim, the output 0 must have 5 features.*found the shape \(1, 4, 12, 10\)",
        ),
        (
            {"pooling": "none"},
            r"by dim, .*found the shape \(1, 4, 12, 10\).*pooling in .*net\.yaml",
        ),
    ],
)
def test_an_output_that_the_yaml_does_not_describe_is_refused(
    write: Write, keys: dict[str, Any], message: str
):
    extractor = ExportedSlices(write(channel_mixer(2, 3), **keys))
    with pytest.raises(UsageError, match=rf"net\.onnx: {message}"):
        extractor.features(heads(1, 12, 12, 12))


def test_a_3d_network_of_another_grid_is_refused(write: Write):
    extractor = ExportedNet(write(channel_mixer(3, 1), of=NET))
    with pytest.raises(MetricError, match=r"takes 'image' of shape \(1, 1, 12, 10, 8\).*\(8, 10"):
        extractor.features(heads(1, 8, 10, 12))


def test_features_that_are_not_finite_are_refused(write: Write):
    model = channel_mixer(2, 3)
    model.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.full(4, np.inf, dtype=np.float32), "bias")
    )
    with pytest.raises(MetricError, match=r"slices:net, volume 0: net\.onnx gives NaN or infinity"):
        ExportedSlices(write(model)).features(heads(1, 12, 12, 12))


def test_the_zscore_is_that_of_the_volume_not_of_the_slice(write: Write):
    """With one slice in the middle, the linear map of the whole volume's z-scores on it."""
    model = channel_mixer(2, 3, free=True)
    extractor = ExportedSlices(
        write(model, scaling="zscore-nonzero-zeros", size=[12, 12], slices=1, planes=["axial"])
    )
    volumes = heads(1, 12, 12, 12)
    slice_mean = float(zscore_nonzero_zeros(volumes[0, 0])[:, :, 6].double().mean())
    expected = WEIGHT.sum(axis=1) * slice_mean + BIAS
    np.testing.assert_allclose(extractor.features(volumes)[0].numpy(), expected, atol=1e-5)
