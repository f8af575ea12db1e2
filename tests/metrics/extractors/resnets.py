"""States of MedicalNet's networks, and volumes, which the tests of extractors share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


def published(state: dict[str, Tensor]) -> dict[str, object]:
    """Wrap a state dict as MedicalNet saves it, with a part of the segmentation head."""
    entries = {**state, "conv_seg.0.weight": torch.zeros(1), "conv_seg.1.bias": torch.zeros(1)}
    return {"epoch": 1, "state_dict": {f"module.{key}": t for key, t in entries.items()}}
