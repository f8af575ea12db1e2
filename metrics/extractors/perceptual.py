"""Extractors as losses: a differentiable distance of what their last maps hold.

Johnson et al. 2016 (arXiv 1603.08155), with the unit-length maps of LPIPS (Zhang et al. 2018, arXiv
1801.03924, equation 1, all weights one). Only extractors that are a torch network can be one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn
from torch.nn import functional

from synthbench.errors import UsageError
from synthbench.metrics.extractors.network import full_float32
from synthbench.metrics.extractors.qiu2022 import BRIGHTEST, FSL_MNI152, Qiu2022
from synthbench.metrics.extractors.resnet import MedicalResNet
from synthbench.volumes.grid import Space

_TINY = 1e-10


class PerceptualDistance:
    """The mean squared distance of unit-length maps of a network, one value a pair of volumes.

    Both volumes of a pair are brought to the network's intensities by the target's moments, and
    the MedicalNet architectures see both inside the target's brain alone: the distance of a
    volume to itself is zero, and its gradient is not one of the standardisation.

    Parameters
    ----------
    network
        In eval mode, without gradients of its own.
    prepare
        Brings (target, other), both [1 1 d h w], to what the network takes.
    """

    def __init__(
        self, network: nn.Module, prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        self.network, self.prepare = network, prepare

    def __call__(
        self, targets: Float32[Tensor, "b 1 d h w"], others: Float32[Tensor, "b 1 d h w"]
    ) -> Float32[Tensor, " b"]:
        """Return the distance of each pair, differentiable in `others`."""
        self.network.to(targets.device)
        with full_float32(targets.device):
            found = [
                self._distance(target[None].float(), other[None].float())
                for target, other in zip(targets, others, strict=True)
            ]
        return torch.stack(found)

    def _distance(self, target: Tensor, other: Tensor) -> Tensor:
        seen, made = self.prepare(target, other)
        with torch.no_grad():
            wanted = _unit_length(self.network(seen))
        return (_unit_length(self.network(made)) - wanted).square().sum(dim=1).mean()


def perceptual_distance(name: str, extractor: Any, space: Space) -> PerceptualDistance:
    """Return an extractor's distance of volumes on a grid.

    MedicalNet's networks, and the random one, are convolutions that take any grid, so they see
    the training grid; `qiu2022` sees its own, to which volumes are interpolated.

    Parameters
    ----------
    name, extractor
        From the registry.
    space
        Of the volumes.

    Raises
    ------
    UsageError
        The extractor is no network that gradients pass through.
    WeightsError
        Its weights are not there; the message says how to fetch them.
    """
    loaded = extractor.load() if hasattr(extractor, "load") else None
    if isinstance(loaded, MedicalResNet):
        return PerceptualDistance(loaded, _standardised)
    if isinstance(extractor, Qiu2022):
        where = _grid(space, FSL_MNI152)
        return PerceptualDistance(
            cast(nn.Module, loaded), lambda target, other: _mean_scaled(target, other, where)
        )
    raise UsageError(
        f"perceptual: gradients do not pass through the extractor '{name}'. Those that can be "
        "named: random-resnet10, qiu2022, medicalnet-resnet10 and the other medicalnet ones; or "
        "perceptual=null."
    )


def _unit_length(maps: Float32[Tensor, "b c d h w"]) -> Float32[Tensor, "b c d h w"]:
    return maps / (maps.square().sum(dim=1, keepdim=True) + _TINY).sqrt()


def _standardised(target: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """`zscore_nonzero_zeros` by the target's voxels; blank targets are left as they are."""
    inside = target > 0
    voxels = target[inside].double()
    if voxels.numel() < 2 or not bool(voxels.std(correction=0) > 0):
        return target, other
    mean, deviation = voxels.mean(), voxels.std(correction=0)
    first, second = (
        ((x.double() - mean) / deviation).masked_fill(~inside, 0.0).float() for x in (target, other)
    )
    return first, second


def _mean_scaled(target: Tensor, other: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """`mean_scaled` by the target's mean, on the grid of the places `where`."""
    places = where.to(target.device)
    moved = [
        functional.grid_sample(x, places, mode="bilinear", padding_mode="zeros", align_corners=True)
        for x in (target, other)
    ]
    mean = moved[0].mean(dtype=torch.float64).clamp(min=_TINY)
    # The network was trained on volumes from right to left.
    first, second = ((x.flip(2).double() / mean).clamp(max=BRIGHTEST).float() for x in moved)
    return first, second


def _grid(source: Space, target: Space) -> Float32[Tensor, "1 d h w 3"]:
    """Where the target's voxels lie in the source, as `grid_sample` counts: w, h, d in [-1, 1]."""
    to_source = np.linalg.inv(np.asarray(source.affine, np.float64).reshape(4, 4))
    affine: Float64[np.ndarray, "4 4"] = to_source @ np.asarray(target.affine).reshape(4, 4)
    voxels = np.indices(target.shape, dtype=np.float64)
    where = np.einsum("ij,jxyz->xyzi", affine[:3, :3], voxels) + affine[:3, 3]
    sides = np.maximum(np.asarray(source.shape, np.float64) - 1, 1)
    scaled = (2 * where / sides - 1)[..., ::-1]
    return torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32))[None]
