"""MedicalNet's 3-D residual networks (Chen et al. 2019, "Med3D", arXiv:1904.00625), as published.

They differ from the usual 3-D ResNet in stages 3 and 4, which keep the resolution of stage 2 and
dilate their convolutions by 2 and 4 instead: the output has stride 8, not 32. Checkpoints load
into either without an error, and give other features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.errors import MetricError, UsageError, WeightsError
from synthbench.metrics.extractors.extractor import check_volumes, zscore_nonzero_zeros

Depth: TypeAlias = Literal[10, 18, 34, 50]

STAGE_PLANES = (64, 128, 256, 512)
STAGE_STRIDES = (1, 2, 1, 1)
STAGE_DILATIONS = (1, 1, 2, 4)
STAGE_BLOCKS: dict[Depth, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
}
ZERO_PADDED_SHORTCUTS: tuple[Depth, ...] = (18, 34)


def _convolution(
    inputs: int, planes: int, size: int, stride: int = 1, dilation: int = 1
) -> nn.Conv3d:
    padding = dilation * (size // 2)
    return nn.Conv3d(inputs, planes, size, stride, padding, dilation, bias=False)


class ZeroPaddedShortcut(nn.Module):
    """Shortcut A of He et al. 2016 (arXiv:1512.03385): subsample, append channels of zeros.

    MedicalNet writes the subsampling as average pooling with a window of one voxel.
    """

    def __init__(self, planes: int, stride: int) -> None:
        super().__init__()
        self.planes, self.stride = planes, stride

    def forward(self, x: Float32[Tensor, "b c d h w"]) -> Float32[Tensor, "b planes d2 h2 w2"]:
        s = self.stride
        new_channels = self.planes - x.shape[1]
        no_spatial_padding = (0, 0, 0, 0, 0, 0)
        return nn.functional.pad(x[:, :, ::s, ::s, ::s], (*no_spatial_padding, 0, new_channels))


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut; both convolutions are dilated."""

    expansion = 1

    def __init__(
        self, inputs: int, planes: int, stride: int, dilation: int, shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, planes, 3, stride, dilation)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = _convolution(planes, planes, 3, dilation=dilation)
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = shortcut

    def forward(self, x: Float32[Tensor, "b c d h w"]) -> Float32[Tensor, "b planes d2 h2 w2"]:
        residual: Tensor = self.bn1(self.conv1(x)).relu_()
        residual = self.bn2(self.conv2(residual))
        residual += x if self.downsample is None else self.downsample(x)
        return residual.relu_()


class Bottleneck(nn.Module):
    """Convolutions of 1x1x1, 3x3x3 (strided and dilated) and 1x1x1, and a shortcut."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, dilation: int, shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, planes, 1)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = _convolution(planes, planes, 3, stride, dilation)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = _convolution(planes, planes * self.expansion, 1)
        self.bn3 = nn.BatchNorm3d(planes * self.expansion)
        self.downsample = shortcut

    def forward(self, x: Float32[Tensor, "b c d h w"]) -> Float32[Tensor, "b planes4 d2 h2 w2"]:
        residual: Tensor = self.bn1(self.conv1(x)).relu_()
        residual = self.bn2(self.conv2(residual)).relu_()
        residual = self.bn3(self.conv3(residual))
        residual += x if self.downsample is None else self.downsample(x)
        return residual.relu_()


class MedicalResNet(nn.Module):
    """The encoder of MedicalNet, with the parameter names of its checkpoints.

    Parameters
    ----------
    depth
        10, 18, 34 or 50: as in the name ResNet-50.

    Attributes
    ----------
    dim
        Number of channels of the output.

    Raises
    ------
    UsageError
        The depth is another one.
    """

    def __init__(self, depth: Depth) -> None:
        super().__init__()
        if depth not in get_args(Depth):
            raise UsageError(f"depth must be one of {get_args(Depth)}; found {depth}.")
        block = Bottleneck if depth >= 50 else BasicBlock
        self.dim = STAGE_PLANES[-1] * block.expansion
        self.conv1 = nn.Conv3d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        inputs = 64
        stages = zip(STAGE_BLOCKS[depth], STAGE_PLANES, STAGE_STRIDES, STAGE_DILATIONS, strict=True)
        for number, (blocks, planes, stride, dilation) in enumerate(stages, start=1):
            zero_padded = depth in ZERO_PADDED_SHORTCUTS
            stage = _stage(block, inputs, planes, blocks, stride, dilation, zero_padded)
            self.add_module(f"layer{number}", stage)
            inputs = planes * block.expansion

    def forward(self, x: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b dim d8 h8 w8"]:
        """Return the output of stage 4, at an eighth of the resolution (rounded up)."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu_())
        # The layout that CPU convolutions are fastest in; values agree to 2e-7 relative.
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for number in range(1, len(STAGE_PLANES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x


def _stage(
    block: type[BasicBlock | Bottleneck],
    inputs: int,
    planes: int,
    blocks: int,
    stride: int,
    dilation: int,
    zero_padded_shortcut: bool,
) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut: nn.Module | None = None
    if stride != 1 or inputs != outputs:
        shortcut = (
            ZeroPaddedShortcut(outputs, stride)
            if zero_padded_shortcut
            else nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm3d(outputs))
        )
    first = block(inputs, planes, stride, dilation, shortcut)
    others = [block(outputs, planes, 1, dilation, None) for _ in range(1, blocks)]
    return nn.Sequential(first, *others)


def state_shapes(depth: Depth) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter and running moment, by its key in a checkpoint."""
    state = _without_storage(depth).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not _is_counter(key)}


def with_weights(depth: Depth, state: Mapping[str, Tensor], source: str) -> MedicalResNet:
    """Build the network of that depth, in eval mode, from a state dict of exactly its keys.

    Batch normalisation's `num_batches_tracked` may be present or absent: it counts training
    steps, older versions of PyTorch did not have it, and eval mode never reads it.

    Parameters
    ----------
    depth
        Depth of the network.
    state
        Tensors by parameter name.
    source
        Where the state dict is from, for the error message.

    Raises
    ------
    WeightsError
        A key is missing or unexpected, or a shape or a dtype differs.
    """
    expected = state_shapes(depth)
    given = {key: t for key, t in state.items() if not _is_counter(key)}
    problems = {
        "missing keys": [key for key in expected if key not in given],
        "unexpected keys": [key for key in given if key not in expected],
        "wrong shapes": [
            f"{key} {tuple(given[key].shape)} for {shape}"
            for key, shape in expected.items()
            if key in given and tuple(given[key].shape) != shape
        ],
        "not float32": [key for key, t in given.items() if t.dtype != torch.float32],
    }
    found = [f"{what}: {_first_few(which)}" for what, which in problems.items() if which]
    if found:
        raise WeightsError(
            f"{source} must hold the parameters of MedicalNet's ResNet-{depth}, and only these; "
            f"found {'; '.join(found)}. Check that the file is the one for this depth."
        )
    network = _without_storage(depth)
    counters = {key: torch.tensor(0) for key in network.state_dict() if _is_counter(key)}
    # The given tensors become the parameters: nothing is initialised only to be overwritten.
    network.load_state_dict({**given, **counters}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def pooled_features(
    extractor: str, network: MedicalResNet, volumes: Float32[Tensor, "b 1 d h w"]
) -> Float32[Tensor, "b dim"]:
    """Average stage 4 over space: the features of `network`, one row a volume.

    Volumes go through one at a time, standardised by `zscore_nonzero_zeros`. The kernels that
    a library picks depend on the batch size, so a larger batch would change the last digits.

    Parameters
    ----------
    extractor
        Name of the extractor, for error messages.
    network
        From `with_weights`; moved to the device of the volumes.
    volumes
        RAS+, intensities in [0, 1], background zero.

    Raises
    ------
    MetricError
        The volumes do not fit the contract, or one of them is blank or constant.
    """
    check_volumes(extractor, volumes)
    network.to(volumes.device)
    with torch.inference_mode(), _full_float32(volumes.device):
        rows = [_features_of_one(extractor, network, i, volume) for i, volume in enumerate(volumes)]
    # Outside inference mode, so that the result is an ordinary tensor.
    return torch.stack(rows)


def _features_of_one(
    extractor: str, network: MedicalResNet, index: int, volume: Float32[Tensor, "1 d h w"]
) -> Float32[Tensor, " dim"]:
    try:
        standardised = zscore_nonzero_zeros(volume)
    except MetricError as error:
        raise MetricError(f"{extractor}, volume {index}: {error}") from error
    maps: Tensor = network(standardised[None])[0]
    return maps.mean(dim=(1, 2, 3), dtype=torch.float64).float()


@contextmanager
def _full_float32(device: torch.device) -> Iterator[None]:
    """Keep CUDA from rounding convolutions to TF32, bfloat16 or half, or racing in their sums."""
    exact = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False
    )
    with exact, torch.autocast(device.type, enabled=False):
        yield


def _without_storage(depth: Depth) -> MedicalResNet:
    with torch.device("meta"):
        return MedicalResNet(depth)


def _is_counter(key: str) -> bool:
    return key.endswith(".num_batches_tracked")


def _first_few(which: list[str], shown: int = 3) -> str:
    more = len(which) - shown
    return ", ".join(which[:shown]) + (f" and {more} more" if more > 0 else "")
