"""The contract of an extractor, and what every extractor asks of the volumes it is given.

This module needs no torch: `synthbench list extractors` builds every extractor without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jaxtyping import Float32

from synthbench.errors import MetricError
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from torch import Tensor


ZSCORE_NONZERO_ZEROS = "zscore-nonzero-zeros-v1"


@runtime_checkable
class Extractor(Protocol):
    """A network or formula that turns a volume into a feature vector.

    Constructing one is cheap: torch is imported, and weights are read and verified, at the first
    call of `features`. An extractor with weights may offer `load()` to do so earlier.

    Attributes
    ----------
    name
        The key in the registry, in the protocol and beside every distance.
    dim
        Number of features of a volume.
    weights_sha256
        SHA-256 of the weights, lower-case hexadecimal: of their file where they come as one.
        None for a formula without weights, and while the hash of a file is not known yet.
    space
        The grid that `features` takes its volumes on, RAS+, in millimetres of MNI152; None: any
        grid, so the protocol's. Volumes reach it from the protocol's common grid, antialiased,
        with `synthbench.volumes.grid.resample`: real and synthetic ones lose the same detail.
    preprocessing
        Name and version of what is done to a volume before the network sees it, such as
        "zscore-nonzero-zeros-v1". A change that moves a feature is a new version.
    layer
        Where in the network the features are taken.
    summary
        One sentence for `synthbench list extractors`.
    needs
        What must be had first: "nothing", or "fetch: 185 MB".
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
        """Return one row of features a volume, on the device that holds the volumes.

        Row i depends on volume i only, not on the rest of the batch.

        Parameters
        ----------
        volumes
            RAS+, intensities in [0, 1], background zero; on the grid `space`, where it is one.
        """
        ...


def check_volumes(extractor: str, volumes: Float32[Tensor, "b 1 d h w"]) -> None:
    """Refuse volumes that do not fit the contract of `Extractor.features`.

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
                f"spans [{low:g}, {high:g}]. Bring it to the protocol's space first."
            )


def zscore_nonzero_zeros(volume: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Standardise the voxels above zero of one volume; the others become zero.

    This is the variant `ZSCORE_NONZERO_ZEROS`. MedicalNet's own code (Chen et al. 2019,
    arXiv:1904.00625) standardises the same way but fills the background with N(0, 1) noise,
    so that its features differ from call to call; zero is the mean of that noise. The moments
    are accumulated in float64, and the variance is divided by the number of voxels.

    Parameters
    ----------
    volume
        Intensities of one volume, at least zero.

    Raises
    ------
    MetricError
        Fewer than two distinct intensities above zero: there is no scale to divide by.
    """
    foreground = volume > 0
    voxels = volume[foreground].double()
    if voxels.numel() == 0 or bool(voxels.min() == voxels.max()):
        found = f"{voxels.numel()} voxels, all {float(voxels[0]):g}" if voxels.numel() else "none"
        raise MetricError(
            "a volume is standardised by its voxels above zero, which must differ; found "
            f"{found}. Look at the volume, then remove it or sample it again."
        )
    standardised = (volume.double() - voxels.mean()) / voxels.std(correction=0)
    return standardised.masked_fill(~foreground, 0.0).float()
