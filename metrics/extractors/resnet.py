"""MedicalNet's 3-D residual networks (Chen et al. 2019, "Med3D", arXiv:1904.00625), as published.

They differ from the usual 3-D ResNet in stages 3 and 4, which keep the resolution of stage 2 and
dilate their convolutions by 2 and 4 instead: the output has stride 8, not 32. A checkpoint loads
into either network without an error, but the features differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.errors import UsageError
from synthbench.metrics.extractors import winograd
from synthbench.metrics.extractors.extractor import check_volumes, zscore_nonzero_zeros
from synthbench.metrics.extractors.network import one_at_a_time, with_state

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

WINOGRAD_CHANNELS = 128
"""Smallest number of channels with which the savings in products exceed the cost of the sums."""


class Convolution(nn.Conv3d):
    """A convolution that keeps or halves the resolution, with fewer products where possible.

    On a CPU, 3x3x3 convolutions of many channels use `winograd.convolve`. Its rounding differs
    from that of the direct sum: features agree to about 1e-7 of the largest.
    """

    def __init__(
        self, inputs: int, planes: int, size: int, stride: int = 1, dilation: int = 1
    ) -> None:
        padding = dilation * (size // 2)
        super().__init__(inputs, planes, size, stride, padding, dilation, bias=False)
        self._along: tuple[winograd.Scheme, ...] | None = None
        self._taps: Tensor | None = None

    def forward(self, x: Float32[Tensor, "b c d h w"]) -> Float32[Tensor, "b planes d2 h2 w2"]:
        dilation = self.dilation[0]
        if not (self._may_be_fast(x) and winograd.saves(x.shape[2:], dilation)):
            return super().forward(x)
        taps = self._transformed(winograd.schemes(x.shape[2:], dilation))
        output = winograd.convolve(x[0], taps, dilation)[None]
        return output if self.bias is None else output.add_(self.bias.view(-1, 1, 1, 1))

    def _may_be_fast(self, x: Float32[Tensor, "b c d h w"]) -> bool:
        many = min(self.in_channels, self.out_channels) >= WINOGRAD_CHANNELS
        taps_of_three = self.kernel_size == (3, 3, 3) and self.stride == (1, 1, 1)
        return many and taps_of_three and x.device.type == "cpu" and len(x) == 1

    def _transformed(self, along: tuple[winograd.Scheme, ...]) -> Tensor:
        if self._taps is None or self._along != along:
            self._along, self._taps = along, winograd.transformed(self.weight, along)
        return self._taps


class ZeroPaddedShortcut(nn.Module):
    """Shortcut A of He et al. 2016 (arXiv:1512.03385): subsample, append channels of zeros.

    MedicalNet's code writes the subsampling as average pooling with a window of one voxel.
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
        self.conv1 = Convolution(inputs, planes, 3, stride, dilation)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = Convolution(planes, planes, 3, dilation=dilation)
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
        self.conv1 = Convolution(inputs, planes, 1)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = Convolution(planes, planes, 3, stride, dilation)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = Convolution(planes, planes * self.expansion, 1)
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
        The depth is not one of these.
    """

    def __init__(self, depth: Depth) -> None:
        super().__init__()
        if depth not in get_args(Depth):
            raise UsageError(f"depth must be one of {get_args(Depth)}; found {depth}.")
        block = Bottleneck if depth >= 50 else BasicBlock
        self.dim = STAGE_PLANES[-1] * block.expansion
        self.conv1 = Convolution(1, 64, 7, stride=2)
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
        # ReLU and maximum can change places: after the pooling there are fewer voxels.
        x = self.maxpool(self.bn1(self._stem(x))).relu_()
        for number in range(1, len(STAGE_PLANES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def _stem(self, x: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b 64 d2 h2 w2"]:
        """The first convolution, with its taps along w as channels.

        With a single channel, vector registers would stay empty. The result has its channels last
        in memory, with which convolutions on a CPU are fastest.
        """
        taps, stride = self.conv1.kernel_size[2], self.conv1.stride[2]
        padding = taps // 2
        windows = nn.functional.pad(x, (padding, padding)).unfold(4, taps, stride)[:, 0]
        return nn.functional.conv3d(
            windows.contiguous().permute(0, 4, 1, 2, 3),
            self.conv1.weight[:, 0].permute(0, 3, 1, 2).unsqueeze(-1),
            self.conv1.bias,
            stride=(stride, stride, 1),
            padding=(padding, padding, 0),
        )


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
            else nn.Sequential(Convolution(inputs, outputs, 1, stride), nn.BatchNorm3d(outputs))
        )
    first = block(inputs, planes, stride, dilation, shortcut)
    others = [block(outputs, planes, 1, dilation, None) for _ in range(1, blocks)]
    return nn.Sequential(first, *others)


def state_shapes(depth: Depth) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter and running moment, by its key in a checkpoint."""
    state = _without_storage(depth).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not _is_counter(key)}


def with_weights(depth: Depth, state: Mapping[str, Tensor], source: str) -> MedicalResNet:
    """Return the network of that depth, in eval mode, from a state dict of exactly its keys.

    Batch normalisation's `num_batches_tracked` may be present or absent: it counts training
    steps, older versions of PyTorch did not have it, and eval mode never reads it.

    Parameters
    ----------
    depth
        Depth of the network.
    state
        Tensors by parameter name.
    source
        The source of the state dict, for the error message.

    Raises
    ------
    WeightsError
        A key is missing or unexpected, or a shape or a dtype differs.
    """
    what = f"MedicalNet's ResNet-{depth}"
    network = with_state(_without_storage(depth), state, what, source)
    fold_normalisation(network)
    return network


def fold_normalisation(network: nn.Module) -> None:
    """Merge batch normalisations into the convolutions before them: in eval mode both are affine.

    The factor of a normalisation goes into the weights, its summand becomes the bias. The products
    are computed in float64.
    """
    pairs = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))
    for module in network.modules():
        for convolution, norm in pairs:
            normalisation = getattr(module, norm, None)
            if isinstance(normalisation, nn.BatchNorm3d):
                _fold(getattr(module, convolution), normalisation)
                setattr(module, norm, nn.Identity())


def _fold(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = convolution.weight.double() * scale.view(-1, 1, 1, 1, 1)
    bias = norm.bias.double() - norm.running_mean.double() * scale
    # Channels last in memory, as in the maps: otherwise each volume would need a copy.
    last = weight.float().contiguous(memory_format=torch.channels_last_3d)
    convolution.weight = nn.Parameter(last, requires_grad=False)
    convolution.bias = nn.Parameter(bias.float(), requires_grad=False)


def pooled_features(
    extractor: str, network: MedicalResNet, volumes: Float32[Tensor, "b 1 d h w"]
) -> Float32[Tensor, "b dim"]:
    """Return the spatial averages of stage 4, one row per volume.

    Volumes are standardised by `zscore_nonzero_zeros` and pass the network one at a time: the
    kernels that a library chooses depend on the batch size, so a larger batch would change the
    last digits. On a CPU each volume has its own thread. Threads that share a volume would wait
    for each other after every sum, and the rounding would depend on the number of threads.

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

    @torch.inference_mode()
    def features(volume: Float32[Tensor, "d h w"]) -> Float32[Tensor, " dim"]:
        maps: Tensor = network(zscore_nonzero_zeros(volume)[None, None])[0]
        return maps.mean(dim=(1, 2, 3), dtype=torch.float64).float()

    if volumes.device.type != "cpu":
        return one_at_a_time(extractor, volumes, features)
    threads = min(torch.get_num_threads(), len(volumes))
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        rows = pool.map(features, volumes[:, 0])
        return one_at_a_time(extractor, volumes, lambda volume: next(rows))


def _without_storage(depth: Depth) -> MedicalResNet:
    with torch.device("meta"):
        return MedicalResNet(depth)


def _is_counter(key: str) -> bool:
    return key.endswith(".num_batches_tracked")
