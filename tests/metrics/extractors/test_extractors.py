"""MedicalNet's network, its published and its random weights, and the contract of extractors."""

from __future__ import annotations

import hashlib
import itertools
import math
import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synthbench.errors import MetricError, UsageError, WeightsError
from synthbench.metrics.extractors import medicalnet, random_resnet, resnet, weights
from synthbench.metrics.extractors.extractor import Extractor, check_volumes, zscore_nonzero_zeros
from synthbench.metrics.extractors.random_resnet import RandomResNet10
from synthbench.metrics.extractors.resnet import Depth

DEPTHS: tuple[Depth, ...] = (10, 18, 34, 50)
BLOCKS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}


def published_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """List a checkpoint's encoder, from the table of the paper and the naming of its code."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(key: str, norm: str, outputs: int, inputs: int, size: int) -> None:
        shapes[f"{key}.weight"] = (outputs, inputs, size, size, size)
        for moment in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{moment}"] = (outputs,)

    convolution("conv1", "bn1", 64, 1, 7)
    inputs = 64
    for stage, (planes, blocks) in enumerate(
        zip([64, 128, 256, 512], BLOCKS[depth], strict=True), start=1
    ):
        for index in range(blocks):
            block = f"layer{stage}.{index}"
            layers = (
                [(planes, inputs, 1), (planes, planes, 3), (4 * planes, planes, 1)]
                if depth == 50
                else [(planes, inputs, 3), (planes, planes, 3)]
            )
            for number, layer in enumerate(layers, start=1):
                convolution(f"{block}.conv{number}", f"{block}.bn{number}", *layer)
            outputs = layers[-1][0]
            if index == 0 and inputs != outputs and depth in (10, 50):
                convolution(f"{block}.downsample.0", f"{block}.downsample.1", outputs, inputs, 1)
            inputs = outputs
    return shapes


def constant(key: str, shape: tuple[int, ...]) -> float:
    """Give positive convolutions, averages over channels, and identity normalisation."""
    if len(shape) == 5:
        return 1.0 / shape[1]
    return 0.0 if key.endswith(("bias", "running_mean")) else 1.0


def constant_state(depth: int) -> dict[str, Tensor]:
    """Build a state dict of constants, which takes few bytes in a file."""
    return {
        key: torch.tensor(constant(key, shape)).expand(shape)
        for key, shape in published_shapes(depth).items()
    }


def random_state(depth: int, seed: int) -> dict[str, Tensor]:
    """Random parameters and moments of the published shapes, none of them an identity."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in published_shapes(depth).items():
        if len(shape) == 5:
            fan_in = math.prod(shape[1:])
            state[key] = torch.randn(shape, generator=rng) * (2 / fan_in) ** 0.5
        elif key.endswith(("bias", "running_mean")):
            state[key] = 0.1 * torch.randn(shape, generator=rng)
        else:
            state[key] = 0.5 + torch.rand(shape, generator=rng)
    return state


def heads(count: int, size: int = 16, seed: int = 0) -> Tensor:
    """Balls of random texture in [0.1, 0.9] on a background of zero."""
    rng = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-1, 1, size)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    inside = (z**2 + y**2 + x**2 < 0.8).float()
    return inside * (0.1 + 0.8 * torch.rand(count, 1, size, size, size, generator=rng))


@pytest.fixture(scope="module")
def extractor() -> RandomResNet10:
    return RandomResNet10()


# --- the network ---


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameter_names_and_shapes_are_those_of_the_checkpoints(depth: Depth):
    assert resnet.state_shapes(depth) == published_shapes(depth)


@pytest.mark.parametrize(
    ("depth", "millions"), [(10, 14.36), (18, 32.99), (34, 63.31), (50, 46.21)]
)
def test_number_of_parameters_is_the_published_one(depth: Depth, millions: float):
    """The README of MedicalNet lists these counts, in millions.

    By hand for ResNet-10: stem 64*343 = 21,952; stages 2*27*64*64 = 221,184;
    27*128*(64 + 128) = 663,552; 27*256*(128 + 256) = 2,654,208; 27*512*(256 + 512) = 10,616,832;
    shortcuts 64*128 + 128*256 + 256*512 = 172,032; normalisation 2*(64 + 2*64 + 3*(128 + 256 +
    512)) = 5,760. Together 14,355,520.
    """
    with torch.device("meta"):
        count = sum(p.numel() for p in resnet.MedicalResNet(depth).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.06)
    if depth == 10:
        assert count == 14_355_520


def test_an_unpublished_depth_is_refused():
    with pytest.raises(UsageError, match=r"depth must be one of .*; found 12"):
        resnet.MedicalResNet(12)  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", DEPTHS)
def test_stride_is_eight(depth: Depth):
    """84, 128, 84 halve (rounding up) to 42, 64, 42, then 21, 32, 21, then 11, 16, 11."""
    channels = 2048 if depth == 50 else 512
    with torch.device("meta"):
        network = resnet.MedicalResNet(depth)
        output = network(torch.empty(1, 1, 84, 128, 84))
    assert output.shape == (1, channels, 11, 16, 11)
    assert network.dim == channels


@pytest.mark.parametrize(
    ("depth", "stage", "dilation", "convolutions"),
    [(10, 1, 1, 2), (10, 3, 2, 2), (10, 4, 4, 2), (18, 4, 4, 4), (34, 3, 2, 12), (50, 4, 4, 3)],
)
def test_dilation_by_the_reach_of_an_impulse(
    depth: Depth, stage: int, dilation: int, convolutions: int
):
    """With positive weights nothing cancels, and an impulse spreads along an axis to the sums of
    `convolutions` taps from {-dilation, 0, dilation}: the multiples of the dilation up to
    convolutions * dilation away. Every 3x3x3 convolution of these stages has stride 1.
    """
    with torch.device("meta"):
        layer = resnet.MedicalResNet(depth).get_submodule(f"layer{stage}")
    layer = layer.to_empty(device="cpu").eval().requires_grad_(False)
    for key, tensor in layer.state_dict().items():
        tensor.fill_(constant(key, tensor.shape))
    channels = next(layer.parameters()).shape[1]
    reach = dilation * convolutions
    centre = reach + 2
    for axis in (2, 3, 4):
        shape = [1, channels, 1, 1, 1]
        shape[axis] = 2 * centre + 1
        impulse = torch.zeros(shape)
        impulse.select(axis, centre).fill_(1.0)
        response = layer(impulse)[0, 0].flatten()
        offsets = (response.nonzero().flatten() - centre).tolist()
        assert offsets == list(range(-reach, reach + 1, dilation))


def test_zero_padded_shortcut():
    """Stride 2 keeps the even indices of each axis: of the 3x3x3 cube 0..26, with index
    9z + 3y + x, those with z, y, x in {0, 2}. The new channels are zero.
    """
    cube = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    output = resnet.ZeroPaddedShortcut(3, stride=2)(cube)
    assert output.shape == (1, 3, 2, 2, 2)
    assert output[0, 0].flatten().tolist() == [0, 2, 6, 8, 18, 20, 24, 26]
    assert not output[0, 1:].any()


def monai_reference(depth: int, state: dict[str, Tensor]) -> nn.Module:
    """MONAI's ResNet of that depth, its stages 3 and 4 rebuilt with stride 1 and dilation."""
    from monai.networks.nets import resnet as monai_resnet

    with torch.device("meta"):
        network: nn.Module = getattr(monai_resnet, f"resnet{depth}")(
            n_input_channels=1,
            conv1_t_stride=2,
            feed_forward=False,
            shortcut_type="A" if depth in (18, 34) else "B",
            bias_downsample=False,
        )
    for stage, dilation in (("layer3", 2), ("layer4", 4)):
        for module in network.get_submodule(stage).modules():
            if isinstance(module, nn.Conv3d):
                module.stride = (1, 1, 1)
                if module.kernel_size == (3, 3, 3):
                    module.dilation = module.padding = (dilation,) * 3
            shortcut = getattr(module, "downsample", None)
            if isinstance(shortcut, partial):
                same_resolution = partial(shortcut.func, **{**shortcut.keywords, "stride": 1})
                setattr(module, "downsample", same_resolution)  # noqa: B010 - no nn.Module
    # Counters of batch norm, which nothing reads in eval mode, are all that the state lacks.
    own = network.state_dict()
    counters = {key: own[key] for key in own if key.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **state}, assign=True)
    return network.eval()


@pytest.mark.parametrize("depth", [10, 18, 50])
def test_features_against_monai_with_the_same_strides_and_dilations(depth: Depth):
    state = random_state(depth, seed=depth)
    volumes = heads(1, size=32)
    voxels = volumes[volumes > 0].numpy()
    standardised = torch.where(volumes > 0, (volumes - voxels.mean()) / voxels.std(), 0.0)
    with torch.inference_mode():
        expected = monai_reference(depth, state)(standardised)
    network = resnet.with_weights(depth, state, "random")
    found = resnet.pooled_features("x", network, volumes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


# --- preprocessing ---


def test_zscore_over_the_voxels_above_zero():
    """Of 1, 2, 3 / 8 the mean is 1/4 and the variance 2/3 * (1/8)^2: -sqrt(3/2), 0, sqrt(3/2)."""
    volume = torch.tensor([0.0, 0.125, 0.25, 0.375, 0.0])
    edge = 1.5**0.5
    expected = torch.tensor([0.0, -edge, 0.0, edge, 0.0])
    torch.testing.assert_close(zscore_nonzero_zeros(volume), expected)


@pytest.mark.parametrize(
    ("volume", "found"),
    [(torch.zeros(4, 4), "none"), (torch.full((4, 4), 0.5), "16 voxels, all 0.5")],
    ids=["blank", "constant"],
)
def test_zscore_refuses_a_volume_without_scale(volume: Tensor, found: str):
    with pytest.raises(MetricError, match=f"must differ; found {found}"):
        zscore_nonzero_zeros(volume)


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        (torch.zeros(1, 4, 4, 4), r"shape \(b, 1, d, h, w\).*found \(1, 4, 4, 4\)"),
        (torch.zeros(0, 1, 4, 4, 4), r"found \(0, 1, 4, 4, 4\)"),
        (torch.zeros(1, 2, 4, 4, 4), r"found \(1, 2, 4, 4, 4\)"),
        (torch.zeros(1, 1, 4, 4, 4).double(), r"float32; found torch.float64"),
        (torch.full((1, 1, 4, 4, 4), 255.0), r"volume 0 spans \[255, 255\]"),
        (torch.full((1, 1, 4, 4, 4), -0.1), r"volume 0 spans"),
        (torch.tensor([0.5, float("nan")]).reshape(2, 1, 1, 1, 1), r"volume 1 spans \[nan"),
    ],
    ids=["no channel", "empty", "two channels", "float64", "above 1", "negative", "NaN"],
)
def test_volumes_outside_the_contract_are_refused(volumes: Tensor, message: str):
    with pytest.raises(MetricError, match=message):
        check_volumes("x", volumes)


# --- random-resnet10 ---


def test_random_weights_are_the_pinned_ones():
    found = random_resnet.sha256_of(random_resnet.random_weights(published_shapes(10)))
    assert found == RandomResNet10().weights_sha256


def test_he_uniform_against_rational_arithmetic():
    """The nearest float32 to (2k + 1 - 2^24) / 2^24 * b for k the top 24 bits of each word, in
    exact fractions, where b is the float32 nearest to sqrt(6 / fan_in) = sqrt(6 / 54) = 1/3.
    """
    stream = hashlib.shake_256(b"label").digest(4 * 108)
    bound = Fraction(float(np.float32(1 / 3)))
    expected = []
    for i in range(0, len(stream), 4):
        k = int.from_bytes(stream[i : i + 4], "little") // 256
        # A float64 holds this 48-bit product exactly, so rounding happens once.
        expected.append(float(Fraction(2 * k + 1 - 2**24, 2**24) * bound))
    found = random_resnet.he_uniform("label", (2, 2, 3, 3, 3))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.ravel(), np.array(expected, dtype=np.float32))


def test_he_uniform_has_variance_two_over_fan_in():
    """The standard error of a uniform law's variance is sqrt(4/5 / n) of it: 0.14% of 442,368
    draws. The bounds are four of them, and four of the mean's.
    """
    drawn = random_resnet.he_uniform("variance", (128, 128, 3, 3, 3)).astype(np.float64)
    expected = 2 / (128 * 27)
    assert drawn.var() == pytest.approx(expected, rel=4 * (0.8 / drawn.size) ** 0.5)
    assert abs(drawn.mean()) < 4 * (expected / drawn.size) ** 0.5
    assert np.abs(drawn).max() <= np.float32((6 / (128 * 27)) ** 0.5)


def test_two_loads_give_the_same_features(extractor: RandomResNet10):
    volumes = heads(1)
    assert torch.equal(extractor.features(volumes), RandomResNet10().features(volumes))


def test_other_random_weights_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(random_resnet, "SEED_LABEL", "another label")
    with pytest.raises(WeightsError, match=r"must have the sha256 [0-9a-f]{64}; found"):
        RandomResNet10().load()


# --- what holds for every extractor ---


def test_features_do_not_depend_on_the_batch(extractor: RandomResNet10):
    volumes = heads(2)
    together = extractor.features(volumes)
    alone = torch.cat([extractor.features(volume[None]) for volume in volumes])
    assert together.shape == (2, extractor.dim)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=0)


def test_features_tell_volumes_apart(extractor: RandomResNet10):
    first, second = extractor.features(heads(2)).double()
    assert torch.linalg.norm(first - second) > 1e-3 * torch.linalg.norm(first)


def test_features_do_not_depend_on_a_constant_scale(extractor: RandomResNet10):
    """The z-score removes the scale; 0.3 is no power of two, so roundings differ."""
    volumes = heads(1)
    whole, scaled = extractor.features(volumes), extractor.features(0.3 * volumes)
    torch.testing.assert_close(scaled, whole, rtol=1e-4, atol=1e-5 * float(whole.max()))


def test_features_are_ordinary_tensors_without_gradient(extractor: RandomResNet10):
    features = extractor.features(heads(1))
    assert not features.requires_grad
    assert not features.is_inference()


def test_a_blank_volume_is_named(extractor: RandomResNet10):
    volumes = heads(2)
    volumes[1] = 0
    with pytest.raises(MetricError, match=r"random-resnet10, volume 1: .*found none"):
        extractor.features(volumes)


@pytest.mark.parametrize(
    "make",
    [
        RandomResNet10,
        *(
            getattr(medicalnet, f"resnet{depth}{training}")
            for depth, training in itertools.product(DEPTHS, ("", "_23dataset"))
        ),
    ],
)
def test_extractors_fit_the_contract(make: type[RandomResNet10]):
    assert isinstance(make(), Extractor)


def test_constructing_extractors_imports_no_torch():
    script = (
        "import sys\n"
        "from synthbench.metrics.extractors import medicalnet, random_resnet\n"
        "random_resnet.RandomResNet10(); medicalnet.resnet50_23dataset()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- MedicalNet's checkpoints ---


def published(state: dict[str, Tensor]) -> dict[str, object]:
    """Wrap a state dict as MedicalNet saves it, with a part of the segmentation head."""
    entries = {**state, "conv_seg.0.weight": torch.zeros(1), "conv_seg.1.bias": torch.zeros(1)}
    return {"epoch": 1, "state_dict": {f"module.{key}": t for key, t in entries.items()}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path))
    return tmp_path


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
    path.write_text("<html>404</html>")
    with pytest.raises(WeightsError, match="must be a PyTorch checkpoint"):
        medicalnet.read_checkpoint(path, 10)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UsageError, match="did you mean 'medicalnet-resnet50-23dataset'"):
        medicalnet.MedicalNet("medicalnet-resnet50-23datasets")
