"""Small networks with features that are easy to predict, which the tests of network files share."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

# A linear map of the three channels to four maps, all at once: what follows is easy to predict.
WEIGHT = np.array([[1, 2, 3], [-1, 0, 1], [0.5, 0.5, 0.5], [0, 0, -2]], dtype=np.float32)

BIAS = np.array([0.5, 0, -0.25, 1], dtype=np.float32)

SLICES: dict[str, Any] = {
    "name": "net",
    "licence": "MIT",
    "source": "this test",
    "output": 0,
    "pooling": "global-average",
    "dim": 4,
    "channels": 3,
    "dtype": "float32",
    "space": "protocol",
    "scaling": "unit",
    "size": [12, 10],
    "planes": ["sagittal", "coronal", "axial"],
    "slices": 3,
}

Write = Callable[..., Path]


def channel_mixer(dims: int, channels: int, free: bool = False) -> onnx.ModelProto:
    """A 1x1 convolution of `dims` dimensions, as ONNX; its outputs are maps and their squares."""
    weight = WEIGHT[:, :channels].reshape(4, channels, *(1,) * dims)
    sides: list[Any] = ["h", "w", "d"][:dims] if free else [12, 10, 8][:dims]
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["maps"]),
        helper.make_node("Mul", ["maps", "maps"], ["squares"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mixer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, *sides])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, *sides])
            for name in ("maps", "squares")
        ],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


class Mixer(nn.Module):
    """The same in torch, with a name for each output."""

    def __init__(self, training: bool = False) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4) if training else nn.Identity()
        with torch.no_grad():
            self.mix.weight.copy_(torch.from_numpy(WEIGHT.reshape(4, 3, 1, 1)))
            assert self.mix.bias is not None
            self.mix.bias.copy_(torch.from_numpy(BIAS))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = self.norm(self.mix(image))
        return {"maps": maps, "squares": maps * maps}


def saved(network: nn.Module) -> bytes:
    content = io.BytesIO()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 12, 10),)), content)
    return content.getvalue()


def heads(*shape: int, seed: int = 0) -> Tensor:
    """Boxes of texture in [0.1, 0.9], two voxels from the edges, on a background of zero."""
    rng = torch.Generator().manual_seed(seed)
    volumes = torch.zeros(shape[0], 1, *shape[1:])
    inside = volumes[:, :, 2:-2, 2:-2, 2:-2]
    inside.copy_(0.1 + 0.8 * torch.rand(inside.shape, generator=rng))
    return volumes
