"""MedicalNet's architecture, against its paper, its checkpoints and MONAI."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from synthbench.errors import UsageError
from synthbench.metrics.extractors import resnet
from synthbench.metrics.extractors.resnet import Depth
from tests.metrics.extractors.resnets import DEPTHS, constant, heads, published_shapes, random_state


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


@pytest.mark.slow
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
