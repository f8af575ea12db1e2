"""`qiu2022`: a small 3-D CNN that was trained to detect dementia in T1-weighted brain MRI.

It is the published backbone of the MRI model of Qiu et al. 2022, "Multimodal deep learning for
Alzheimer's disease dementia assessment", Nature Communications 13:3404.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors.weights import WeightFile, known_sha256, verified
from synthbench.runtime.arrays import load_tensors
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from torch import Tensor, nn


MEAN_SCALED = "mean-scaled-clip8-las-v1"
"""The name and version of `mean_scaled`, for `Extractor.preprocessing`."""

BRIGHTEST = 8.0
"""Intensities over the mean are clipped at this number."""

# FSL's MNI152 grid at 1 mm with its first axis reversed: FSL stores it from right to left, from
# 90 mm down to -91 mm.
FSL_MNI152 = Space.of(
    (182, 218, 182),
    np.array([[1, 0, 0, -91], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]]),
)

# For each of the four blocks: channels, size and stride of the convolution, size of the pooling.
BLOCKS = ((20, 7, 2, 3), (40, 4, 1, 2), (80, 3, 1, 2), (160, 3, 1, 2))
POOLING_STRIDE = 2
NEGATIVE_SLOPE = 0.01

_COMMIT = "e68d9b651e4200f56b5970458be417df82167a7b"
_PATH = "checkpoint_dir/CNN_baseline_new_cross0/backbone_58.pth"

WEIGHT_FILE = WeightFile(
    name="qiu2022",
    url=f"https://raw.githubusercontent.com/vkola-lab/ncomms2022/{_COMMIT}/{_PATH}",
    sha256="24ce7f650572844881d7233745f0ca8778f7fadd1b5129541b0deadc85eb0976",
    filename="qiu2022_backbone_58.pth",
    megabytes=2,
    licence="MIT",
)


class Qiu2022:
    """The published backbone as an extractor of 160 features.

    Construction needs neither torch nor the weights; `load`, or the first call of `features`,
    reads them.

    Attributes
    ----------
    weight_file
        The file for `synthbench.metrics.extractors.weights.fetch`.
    """

    def __init__(self) -> None:
        self.weight_file = WEIGHT_FILE
        self.name = WEIGHT_FILE.name
        self.dim = BLOCKS[-1][0]
        self.weights_sha256 = known_sha256(WEIGHT_FILE)
        self.space: Space | None = FSL_MNI152
        self.preprocessing = MEAN_SCALED
        self.layer = "block 4, global average"
        self.summary = "3-D CNN of four blocks, cognitive status from T1-weighted MRI"
        self.needs = f"fetch: {WEIGHT_FILE.megabytes} MB"
        self._network: nn.Sequential | None = None

    def load(self) -> nn.Sequential:
        """Verify the weight file and build the network from it once, and return the network.

        Raises
        ------
        WeightsError
            The file is missing, has another hash, or does not hold this network.
        """
        if self._network is None:
            self._network = read_checkpoint(verified(self.weight_file))
        return self._network

    def features(self, volumes: Float32[Tensor, "b 1 182 218 182"]) -> Float32[Tensor, "b 160"]:
        """Return the spatial averages of block 4, one row per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract or are on another grid, or one of them is blank.
        WeightsError
            The weights cannot be loaded.
        """
        from synthbench.metrics.extractors.network import one_at_a_time

        network = self.load().to(volumes.device)
        return one_at_a_time(
            self.name, volumes, lambda volume: pooled_features(network, mean_scaled(volume))
        )


def mean_scaled(volume: Float32[Tensor, "182 218 182"]) -> Float32[Tensor, "182 218 182"]:
    """Reverse the first axis of a volume, divide it by its mean, and clip it at 8.

    The mean, in float64, is over the whole volume including the background, as in the training of
    the network.

    Parameters
    ----------
    volume
        RAS+, on `FSL_MNI152`, intensities of at least zero.

    Raises
    ------
    MetricError
        The volume is on a grid of another shape, or blank.
    """
    if tuple(volume.shape) != FSL_MNI152.shape:
        raise MetricError(
            f"the grid must be {FSL_MNI152}; found the shape {tuple(volume.shape)}. Bring the "
            "volume there with synthbench.volumes.grid.resample.",
            "another grid",
        )
    mean = volume.mean(dtype=volume.double().dtype)
    if not mean > 0:
        raise MetricError(
            "a volume is divided by its mean, which must be above zero; found no voxel above "
            "zero. Check the volume, then remove it or sample it again.",
            "blank volume",
        )
    return (volume.flip(0).double() / mean).clamp(0.0, BRIGHTEST).float()


def pooled_features(
    network: nn.Sequential, prepared: Float32[Tensor, "182 218 182"]
) -> Float32[Tensor, " 160"]:
    """Return the spatial averages of the maps of block 4, computed in float64.

    Parameters
    ----------
    network
        From `read_checkpoint`, on the device of the volume.
    prepared
        From `mean_scaled`: first axis from right to left, in [0, 8].
    """
    maps: Tensor = network(prepared[None, None])[0]
    return maps.mean(dim=(1, 2, 3), dtype=maps.double().dtype).float()


def architecture() -> nn.Sequential:
    """Return the four blocks, with the parameter names of the checkpoint and without values.

    Each is a convolution without bias or padding, max-pooling, batch normalisation and a leaky
    ReLU.
    """
    import torch
    from torch import nn

    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 1
    with torch.device("meta"):
        for number, (channels, size, stride, pooling) in enumerate(BLOCKS, start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            layers["conv"] = nn.Conv3d(inputs, channels, size, stride, bias=False)
            layers["pool"] = nn.MaxPool3d(pooling, POOLING_STRIDE)
            layers["BN"] = nn.BatchNorm3d(channels)
            layers["activation"] = nn.LeakyReLU(NEGATIVE_SLOPE)
            blocks[f"block{number}"] = nn.Sequential(layers)
            inputs = channels
    return nn.Sequential(blocks)


def read_checkpoint(path: Path) -> nn.Sequential:
    """Return the network in eval mode, from a checkpoint: a state dict of exactly its keys.

    Raises
    ------
    WeightsError
        The file is no such checkpoint, or a parameter is missing, unexpected or of another shape.
    """
    import torch

    from synthbench.metrics.extractors.network import with_state

    try:
        state = load_tensors(path)
    except Exception as error:
        raise WeightsError(
            f"{path} must be a PyTorch checkpoint that holds tensors only; reading it failed with "
            f"{type(error).__name__}: {error}. Move it away and fetch it again."
        ) from error
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise WeightsError(
            f"{path} must be a state dict, tensors by parameter name; found a "
            f"{type(state).__name__}. Move it away and fetch it again."
        )
    return with_state(architecture(), state, "the backbone of Qiu et al. 2022", str(path))
