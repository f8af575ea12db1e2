"""The contract of an extractor, and the check of volumes that all extractors share.

This module does not import torch: `synthbench list extractors` builds every extractor without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jaxtyping import Float32

from synthbench.errors import MetricError
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from torch import Tensor


ZSCORE_NONZERO_ZEROS = "zscore-nonzero-zeros-v1"
"""The name and version of `zscore_nonzero_zeros`, for `Extractor.preprocessing`."""


@runtime_checkable
class Extractor(Protocol):
    """A network or formula that turns a volume into a feature vector.

    Constructing one is cheap. The first call of `features` imports torch, and reads and verifies
    the weights. An extractor with weights may have a method `load()` that does so earlier. One with
    random weights says so by an attribute `trained` that is False: scorecards and reports tell it.
    One whose features are measures that a person can name has their names in `measures` and their
    unit in `unit`: regional morphometry reports each of them.

    Attributes
    ----------
    name
        The key in the registry, in the protocol and next to every distance.
    dim
        Number of features of a volume.
    weights_sha256
        SHA-256 of the weights, lower-case hexadecimal; of the file where they are one file. None
        for a formula without weights, and while the hash of a file is not known yet.
    space
        The grid of the volumes that `features` takes, RAS+, in millimetres of MNI152. None: any
        grid, so the protocol's. `synthbench.volumes.grid.resample` brings volumes from the
        protocol's common grid to it, antialiased, so real and synthetic ones lose the same detail.
    preprocessing
        Name and version of the steps before the network, such as "zscore-nonzero-zeros-v1". A
        change that moves a feature needs a new version.
    layer
        The layer of the network that gives the features.
    summary
        One sentence for `synthbench list extractors`.
    needs
        What the user must install or fetch first: "nothing", or "fetch: 185 MB".
    """

    name: str
    dim: int
    weights_sha256: str | None
    space: Space | None
    preprocessing: str
    layer: str
    summary: str
    needs: str

    def features(self, volumes: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b dim"]:
        """Return one row of features per volume, on the device of the volumes.

        Row i depends on volume i only, not on the rest of the batch.

        Parameters
        ----------
        volumes
            RAS+, intensities in [0, 1], background zero; on the grid `space` where it is not None.
        """
        ...


def check_volumes(extractor: str, volumes: Float32[Tensor, "b 1 d h w"]) -> None:
    """Check that volumes fit the contract of `Extractor.features`.

    Raises
    ------
    MetricError
        The tensor is not float32 of shape (b, 1, d, h, w), is empty, or holds NaN, infinity or
        an intensity outside [0, 1].
    """
    if volumes.ndim != 5 or volumes.shape[1] != 1 or volumes.numel() == 0:
        raise MetricError(
            f"{extractor}: volumes must have the shape (b, 1, d, h, w), none of them zero; "
            f"found {tuple(volumes.shape)}. Stack the volumes and keep their channel axis."
        )
    if str(volumes.dtype) != "torch.float32":
        raise MetricError(
            f"{extractor}: volumes must be float32; found {volumes.dtype}. "
            "Convert them with volumes.float()."
        )
    for index, volume in enumerate(volumes):
        low, high = (float(bound) for bound in volume.aminmax())
        # A comparison with NaN is false, so this refuses NaN too.
        if not (low >= 0.0 and high <= 1.0):
            raise MetricError(
                f"{extractor}: intensities must be finite and lie in [0, 1]; volume {index} "
                f"spans [{low:g}, {high:g}]. Bring it to the protocol's space first.",
                "intensities",
            )


def zscore_nonzero_zeros(volume: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Standardise the voxels above zero of one volume; the others become zero.

    MedicalNet's own code (Chen et al. 2019, arXiv:1904.00625) standardises in the same way, but
    fills the background with N(0, 1) noise. So its features differ from call to call; zero is the
    mean of that noise. The moments are computed in float64, and the variance has the number of
    voxels as its divisor.

    Parameters
    ----------
    volume
        Intensities of one volume, at least zero.

    Raises
    ------
    MetricError
        There are fewer than two different intensities above zero, so the deviation is zero.
    """
    foreground = volume > 0
    voxels = volume[foreground].double()
    if voxels.numel() == 0 or bool(voxels.min() == voxels.max()):
        found = f"{voxels.numel()} voxels, all {float(voxels[0]):g}" if voxels.numel() else "none"
        raise MetricError(
            "a volume is standardised by its voxels above zero, which must differ; found "
            f"{found}. Check the volume, then remove it or sample it again.",
            "blank volume",
        )
    standardised = (volume.double() - voxels.mean()) / voxels.std(correction=0)
    return standardised.masked_fill(~foreground, 0.0).float()
