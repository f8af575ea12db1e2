"""Extractors as losses: a differentiable distance between the last feature maps of two volumes.

The loss of Johnson et al. 2016 (arXiv 1603.08155), with the unit-length maps of LPIPS (Zhang et al.
2018, arXiv 1801.03924, equation 1, all weights one). Only extractors that are torch networks can be
used.
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
"""Added to squared lengths and used as the smallest mean, so that no division is by zero."""


class PerceptualDistance:
    """The mean squared distance of unit-length maps of a network, one value per pair of volumes.

    Both volumes of a pair are scaled to the network's intensities by the moments of the target,
    and the MedicalNet networks get both inside the target's brain only. So the distance of a
    volume to itself is zero, and the gradient does not pass through the scaling.

    Parameters
    ----------
    network
        The network in eval mode, with parameters that need no gradients.
    prepare
        A function from (target, other), both [1 1 d h w], to the inputs of the network.
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
            distances = [
                self._distance(target[None].float(), other[None].float())
                for target, other in zip(targets, others, strict=True)
            ]
        return torch.stack(distances)

    def _distance(self, target: Tensor, other: Tensor) -> Tensor:
        target, other = self.prepare(target, other)
        with torch.no_grad():
            target_maps = _unit_length(self.network(target))
        return (_unit_length(self.network(other)) - target_maps).square().sum(dim=1).mean()


def perceptual_distance(name: str, extractor: Any, space: Space) -> PerceptualDistance:
    """Return an extractor's distance of volumes on a grid.

    MedicalNet's networks and the random one consist of convolutions and take any grid, so they get
    the volumes on the training grid. `qiu2022` has its own grid, to which volumes are interpolated.

    Parameters
    ----------
    name, extractor
        An extractor and its name in the registry.
    space
        The grid of the volumes.

    Raises
    ------
    UsageError
        Gradients do not pass through the extractor.
    WeightsError
        The weights are missing; the message tells how to fetch them.
    """
    loaded = extractor.load() if hasattr(extractor, "load") else None
    if isinstance(loaded, MedicalResNet):
        return PerceptualDistance(loaded, _standardised)
    if isinstance(extractor, Qiu2022):
        where = sampling_points(space, FSL_MNI152)
        return PerceptualDistance(
            cast(nn.Module, loaded), lambda target, other: _mean_scaled(target, other, where)
        )
    raise UsageError(
        "perceptual: the extractor must be a network that gradients pass through; found "
        f"'{name}'. Use random-resnet10, qiu2022, medicalnet-resnet10 or another medicalnet "
        "network, or perceptual=null."
    )


def _unit_length(maps: Float32[Tensor, "b c d h w"]) -> Float32[Tensor, "b c d h w"]:
    return maps / (maps.square().sum(dim=1, keepdim=True) + _TINY).sqrt()


def _standardised(target: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Standardise both volumes by the target's voxels, as `zscore_nonzero_zeros` does.

    Both are returned unchanged where the target is blank or constant.
    """
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
    """Scale both volumes by the target's mean, as `mean_scaled` does, at the points `where`."""
    points = where.to(target.device)
    moved = [
        functional.grid_sample(x, points, mode="bilinear", padding_mode="zeros", align_corners=True)
        for x in (target, other)
    ]
    mean = moved[0].mean(dtype=torch.float64).clamp(min=_TINY)
    # The network was trained on volumes whose first axis runs from right to left.
    first, second = ((x.flip(2).double() / mean).clamp(max=BRIGHTEST).float() for x in moved)
    return first, second


def sampling_points(source: Space, target: Space) -> Float32[Tensor, "1 d h w 3"]:
    """Return the target's voxels in the source, as `grid_sample` takes them: w, h, d in [-1, 1]."""
    to_source = np.linalg.inv(np.asarray(source.affine, np.float64).reshape(4, 4))
    affine: Float64[np.ndarray, "4 4"] = to_source @ np.asarray(target.affine).reshape(4, 4)
    voxels = np.indices(target.shape, dtype=np.float64)
    where = np.einsum("ij,jxyz->xyzi", affine[:3, :3], voxels) + affine[:3, 3]
    sides = np.maximum(np.asarray(source.shape, np.float64) - 1, 1)
    scaled = (2 * where / sides - 1)[..., ::-1]
    return torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32))[None]
