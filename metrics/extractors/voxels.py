"""`voxels`: the intensities inside the brain on a coarse grid, without a network.

The distance between two volumes is the root mean square of their difference over the brain, in
units of intensity: 0.1 is a tenth of the range from the background to the brightest voxel.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32

from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors.extractor import check_volumes
from synthbench.volumes import mni152
from synthbench.volumes.grid import Space, resample

if TYPE_CHECKING:
    from torch import Tensor


# The field of view of the paper's grid in voxels of 8 mm, the brain's middle plane at x = 0.
COARSE_MNI152 = Space.of(
    (23, 28, 23),
    np.array([[8, 0, 0, -88], [0, 8, 0, -126], [0, 0, 8, -70], [0, 0, 0, 1]]),
)
MASK_VOXELS = 3620
MASK_SHA256 = "bb5b3cb3fe23ad2f7d372b6d0f44c6d88a83c807e972afdfdddc570ee09d34bd"


class Voxels:
    """Voxels inside the MNI152 brain at 8 mm, divided by the root of their number.

    Construction needs neither torch nor the template; `load`, or the first call of `features`,
    reads it. `weights_sha256` is the hash of the mask; the extractor has no other data.
    """

    def __init__(self) -> None:
        self.name = "voxels"
        self.dim = MASK_VOXELS
        self.weights_sha256: str | None = MASK_SHA256
        self.space: Space | None = COARSE_MNI152
        self.preprocessing = "in-mask-rms-v1"
        self.layer = "the voxels themselves"
        self.summary = "intensities inside the MNI152 brain at 8 mm; distances are RMS differences"
        self.needs = "nothing"
        self._mask: Bool[np.ndarray, "23 28 23"] | None = None

    def load(self) -> Bool[np.ndarray, "23 28 23"]:
        """Return the mask; it is made from nilearn's template and verified once.

        Raises
        ------
        WeightsError
            The mask is not the pinned one.
        """
        if self._mask is None:
            self._mask = _verified_mask()
        return self._mask

    def features(self, volumes: Float32[Tensor, "b 1 23 28 23"]) -> Float32[Tensor, "b 3620"]:
        """Return the voxels inside the mask, one row per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract or are on another grid.
        WeightsError
            The mask is not the pinned one.
        """
        import torch

        check_volumes(self.name, volumes)
        if tuple(volumes.shape[2:]) != COARSE_MNI152.shape:
            raise MetricError(
                f"{self.name}: the grid must be {COARSE_MNI152}; found the shape "
                f"{tuple(volumes.shape[2:])}. Bring the volumes there with "
                "synthbench.volumes.grid.resample.",
                "another grid",
            )
        inside = torch.from_numpy(np.flatnonzero(self.load())).to(volumes.device)
        return volumes.flatten(1)[:, inside] / math.sqrt(self.dim)


def brain_mask() -> Bool[np.ndarray, "23 28 23"]:
    """Return the voxels of `COARSE_MNI152` that nilearn's MNI152 brain fills to at least a half.

    The brain holds the voxels of the skull-stripped T1 template at 1 mm (Fonov et al. 2011,
    NeuroImage 54) that are above zero. `synthbench.volumes.grid.resample` brings it to the coarse
    grid.
    """
    template = mni152.t1()
    brain = (template.values > 0).astype(np.float32)
    filled = resample(brain, template.space, COARSE_MNI152)
    return filled >= 0.5


def sha256_of(mask: Bool[np.ndarray, "*shape"]) -> str:
    """Return the SHA-256 of a mask's bits in C order, eight per byte, the first bit highest."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()


def _verified_mask() -> Bool[np.ndarray, "23 28 23"]:
    mask = brain_mask()
    found = sha256_of(mask)
    if found != MASK_SHA256:
        raise WeightsError(
            f"voxels: the mask must have the sha256 {MASK_SHA256}; found {found} "
            f"({int(mask.sum())} voxels). Features would not be comparable with other machines: "
            "type `pip install nilearn==0.14.1`, or report this with the versions of nilearn "
            "and SciPy."
        )
    return mask
