"""`anatomy`: volumes of the brain's tissues and of the lateral ventricles, in millilitres.

A formula without weights. Tissues come from a mixture model of the volume's own intensities with
the MNI152 maps as prior (`synthbench.metrics.extractors.tissue`). The lateral ventricles are the
fluid that is connected to the place of the template's ventricles and lies in their territory. The
territory holds the voxels that are nearer to the template's ventricles than to the fluid around
the brain. It is widened in favour of the ventricles, since the ventricles of a person may be larger
than the template's.

Volumes are measured in MNI152 space: after an affine registration they do not depend on head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from synthbench.errors import MetricError
from synthbench.metrics.extractors.extractor import check_volumes
from synthbench.metrics.extractors.tissue import (
    FLUID,
    GREY,
    MAPS_SHA256,
    MNI152_2MM,
    WHITE,
    Tissues,
    pinned_template,
    tissues_of,
)
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.mni152 import TemplateMap, lateral_ventricles

if TYPE_CHECKING:
    from torch import Tensor


MEASURES = (
    "brain_volume",
    "grey_matter_volume",
    "white_matter_volume",
    "csf_volume",
    "ventricle_volume",
    "ventricle_asymmetry",
)
"""The features of a volume, all in mL of MNI152 space.

`brain_volume` is grey plus white matter; `csf_volume` is all fluid inside the skull-stripped head,
including the ventricles; `ventricle_volume` is both lateral ventricles; `ventricle_asymmetry` is
the left ventricle minus the right one.
"""

TYPICAL_ML = (1700.0, 900.0, 800.0, 600.0, 20.0, 0.0)
SPREAD_ML = (70.0, 50.0, 40.0, 60.0, 15.0, 2.5)
"""`features` subtracts the typical value from each of `MEASURES` and divides by the spread. They
are about the mean and the standard deviation between healthy adults (IXI, at 4 mm), rounded: they
need not be exact. Without this, the brain volume alone would decide a distance."""

RATIOS = ("brain_fraction", "hemisphere_asymmetry")
"""Further measures of `AnatomyLimits`, without unit.

`brain_fraction` is grey and white matter as a share of the skull-stripped head;
`hemisphere_asymmetry` is the difference of left and right over their sum, of grey plus white matter
on either side of the plane x = 0 of MNI152.
"""

TERRITORY_FACTOR = 2.0
"""A voxel belongs to the territory where its distance to the template's ventricles is less than
this many times its distance to other fluid: ventricles widen towards a surface that cannot move."""

TERRITORY_REACH_MM = 30.0
"""The territory ends at this distance from the template's ventricles."""

WALL_SIGMA_MM = 6.0
"""Standard deviation of the Gaussian that averages the tissue near a ventricle's wall."""


@dataclass(frozen=True)
class Ventricles:
    """The template's lateral ventricles, and the region in which a person's ventricles may lie.

    Attributes
    ----------
    core
        Voxels that the template's ventricles fill to at least a half.
    territory
        Voxels that may belong to a person's ventricles.
    """

    core: Bool[np.ndarray, "91 109 91"]
    territory: Bool[np.ndarray, "91 109 91"]


class Anatomy:
    """Volumes of tissues and of the lateral ventricles, one row of `MEASURES` per volume.

    Each measure is centred and scaled to units of its spread between people (`TYPICAL_ML`,
    `SPREAD_ML`); `volumes_of` returns millilitres. `measures` names them, and `unit` is theirs.
    Construction needs neither torch nor the template; `load`, or the first call of `features`,
    reads it. `weights_sha256` is the hash of nilearn's MNI152 maps.
    """

    def __init__(self) -> None:
        self.name = "anatomy"
        self.dim = len(MEASURES)
        self.measures: tuple[str, ...] = MEASURES
        self.unit = "mL of MNI152 space"
        self.weights_sha256: str | None = MAPS_SHA256
        self.space: Space | None = MNI152_2MM
        self.preprocessing = "tissue-mixture-v1"
        self.layer = ", ".join(
            f"{name} ({typical:g} ± {spread:g} mL)"
            for name, typical, spread in zip(MEASURES, TYPICAL_ML, SPREAD_ML, strict=True)
        )
        self.summary = "volumes of grey matter, white matter, CSF and lateral ventricles"
        self.needs = "nothing"

    def load(self) -> Ventricles:
        """Read and verify the template once, and return its ventricles.

        Raises
        ------
        WeightsError
            nilearn's maps are not the pinned ones.
        """
        return template_ventricles()

    def features(self, volumes: Float32[Tensor, "b 1 91 109 91"]) -> Float32[Tensor, "b d"]:
        """Measure each volume, and return one row per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract, are on another grid, or one of them is blank or
            constant.
        WeightsError
            nilearn's maps are not the pinned ones.
        """
        import torch

        check_volumes(self.name, volumes)
        rows = []
        for index, volume in enumerate(volumes[:, 0].cpu().numpy()):
            try:
                rows.append(self.row_of(volume))
            except MetricError as error:
                raise error.at(f"{self.name}: volume {index}") from error
        return torch.tensor(np.stack(rows), dtype=torch.float32, device=volumes.device)

    def row_of(self, volume: Float32[np.ndarray, "91 109 91"]) -> Float64[np.ndarray, " d"]:
        """Return the features of one volume."""
        measured = np.array(list(volumes_of(volume).values()))
        return np.asarray((measured - TYPICAL_ML) / SPREAD_ML)


class AnatomyLimits(Anatomy):
    """`MEASURES` and `RATIOS`, for limits of what a brain can be (metric `constraints`).

    The six volumes are the features of `Anatomy`; a ratio is its own unit. Order statistics do not
    depend on units; a distance in these features does, so use `Anatomy` for distances.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = "anatomy-limits"
        self.dim = len(MEASURES) + len(RATIOS)
        self.measures = (*MEASURES, *RATIOS)
        self.unit = "mL of MNI152 space, and ratios"
        self.layer = f"{self.layer}, {', '.join(RATIOS)}"
        self.summary = "the volumes of anatomy, brain fraction and asymmetry of the hemispheres"

    def row_of(self, volume: Float32[np.ndarray, "91 109 91"]) -> Float64[np.ndarray, " 8"]:
        """Return the features of one volume."""
        _check(volume, MNI152_2MM)
        tissues = tissues_of(volume)
        measured = tissue_volumes(tissues)
        scaled = (np.array(list(measured.values())) - TYPICAL_ML) / SPREAD_ML
        return np.array([*scaled, brain_fraction(measured), hemisphere_asymmetry(tissues)])


def volumes_of(volume: Float32[np.ndarray, "d h w"], space: Space = MNI152_2MM) -> dict[str, float]:
    """Measure one volume, and return `MEASURES` by name, in mL of MNI152 space.

    Parameters
    ----------
    volume
        Skull-stripped T1, aligned with MNI152, background zero, intensities of at least 0. A
        factor on the intensities changes nothing.
    space
        The grid of the volume. A volume on another grid than `MNI152_2MM` is resampled.

    Raises
    ------
    MetricError
        The volume is blank or constant, does not have the shape of its grid, is not finite, has
        negative values, or holds no head.
    WeightsError
        nilearn's maps are not the pinned ones.
    """
    _check(volume, space)
    return tissue_volumes(tissues_of(resample(volume, space, MNI152_2MM)))


def tissue_volumes(tissues: Tissues) -> dict[str, float]:
    """Return `MEASURES` of the tissues of a volume by name, in mL of MNI152 space."""
    millilitres = float(np.prod(MNI152_2MM.spacing)) / 1000
    fluid, grey, white = tissues.fractions.sum(axis=(1, 2, 3)) * millilitres
    ventricles = ventricle_fractions(tissues) * millilitres
    total = float(ventricles.sum())
    left = float(_left(tissues) @ ventricles.sum(axis=(1, 2)))
    values = (grey + white, grey, white, fluid, total, 2 * left - total)
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}


def brain_fraction(volumes: Mapping[str, float]) -> float:
    """Return grey and white matter as a share of the skull-stripped head, in [0, 1].

    Parameters
    ----------
    volumes
        The volumes by name, from `volumes_of`.
    """
    brain = volumes["brain_volume"]
    return brain / (brain + volumes["csf_volume"])


def hemisphere_asymmetry(tissues: Tissues) -> float:
    """Return (left - right) / (left + right) of grey and white matter, in [-1, 1].

    The hemispheres are the halves on either side of the plane x = 0 of MNI152; left is x below 0.
    A brain that is not aligned with the template has an asymmetry too.
    """
    brain = tissues.fractions[[GREY, WHITE]].sum(axis=(0, 2, 3))
    # The middle plane lies half on either side.
    middle = (len(brain) - 1) // 2
    left, right = brain[:middle].sum(), brain[middle + 1 :].sum()
    return float((left - right) / brain.sum())


def ventricle_fractions(tissues: Tissues) -> Float64[np.ndarray, "91 109 91"]:
    """Return the share of each voxel that the lateral ventricles fill.

    The ventricles are the voxels that are fluid to more than a half, lie in the territory, and are
    connected to the template's ventricles. They and the voxels next to them count by their share
    of fluid. Other fluid in the territory is mostly noise and does not count.
    """
    template = template_ventricles()
    fluid = np.zeros(tissues.head.shape)
    box = _box(template.territory)
    fluid[box] = _fluid_beside_tissue(tissues, box) * template.territory[box]
    labels, _ = ndimage.label(fluid > 0.5)
    connected = np.setdiff1d(labels[template.core], [0])
    ventricles = np.isin(labels, connected)
    with_wall = ndimage.binary_dilation(ventricles, np.ones((3, 3, 3)))
    return np.asarray(fluid * with_wall)


def _fluid_beside_tissue(
    tissues: Tissues, box: tuple[slice, slice, slice]
) -> Float64[np.ndarray, "a b c"]:
    """The share of fluid in each voxel, from its intensity between fluid and the tissue near it.

    A ventricle's wall is white matter in some places and grey matter in others. With one of them
    as the standard everywhere, the share would be wrong next to the other.
    """
    sigma = WALL_SIGMA_MM / np.array(MNI152_2MM.spacing)
    corrected = tissues.corrected[box]
    means = tissues.mixture.means
    tissue = (tissues.head & (tissues.fractions[FLUID] < 0.1))[box].astype(np.float64)
    # Normalised convolution; far from any tissue, the mean of grey and white matter.
    weight = ndimage.gaussian_filter(tissue, sigma) + 1e-3
    near = ndimage.gaussian_filter(tissue * corrected, sigma) + 1e-3 * means[[GREY, WHITE]].mean()
    near /= weight
    share = (near - corrected) / np.maximum(near - means[FLUID], 1e-6)
    return np.asarray(np.clip(share, 0.0, 1.0) * tissues.head[box])


def _left(tissues: Tissues) -> Float64[np.ndarray, " 91"]:
    """The share of each sagittal plane that is left of the middle of the brain."""
    brain = tissues.fractions[[GREY, WHITE]].sum(axis=(0, 2, 3))
    plane = np.arange(len(brain))
    middle = float(brain @ plane / brain.sum())
    return np.asarray(np.clip(middle - plane + 0.5, 0.0, 1.0))


@lru_cache(maxsize=1)
def template_ventricles() -> Ventricles:
    """Return the lateral ventricles of the MNI152 template, and their territory.

    Raises
    ------
    WeightsError
        nilearn's maps are not the pinned ones.
    """
    template = pinned_template()
    ventricles = lateral_ventricles(TemplateMap(template.t1, template.space))
    wall = ndimage.binary_dilation(ventricles, iterations=3)
    core = _share(ventricles, template.space) >= 0.5
    # A sheet of fluid 1 mm thick fills a quarter of both voxels that it runs between.
    around = _share((template.tissues[FLUID] > 0.5) & ~wall, template.space) >= 0.25
    to_core, to_others = (
        ndimage.distance_transform_edt(~mask, sampling=MNI152_2MM.spacing)
        for mask in (core, around)
    )
    territory = (to_core < TERRITORY_FACTOR * to_others) & (to_core < TERRITORY_REACH_MM)
    return Ventricles(core, territory)


def _share(mask: Bool[np.ndarray, "a b c"], space: Space) -> Float32[np.ndarray, "91 109 91"]:
    return resample(mask.astype(np.float32), space, MNI152_2MM)


def _box(mask: Bool[np.ndarray, "d h w"]) -> tuple[slice, slice, slice]:
    """The bounding box of a mask, enlarged by the reach of the Gaussian of `WALL_SIGMA_MM`."""
    margin = int(np.ceil(2 * WALL_SIGMA_MM / min(MNI152_2MM.spacing)))
    (x, y, z) = (
        slice(max(0, int(at.min()) - margin), int(at.max()) + margin + 1) for at in np.nonzero(mask)
    )
    return x, y, z


def _check(volume: Float32[np.ndarray, "d h w"], space: Space) -> None:
    if volume.shape != space.shape:
        raise MetricError(
            f"the volume must be on the grid {space}; found the shape {volume.shape}. Pass its "
            "own grid: volumes_of(volume, space).",
            "another grid",
        )
    low, high = float(volume.min()), float(volume.max())
    # A comparison with NaN is false, so this refuses NaN too.
    if not (low >= 0.0 and high < np.inf):
        raise MetricError(
            f"intensities must be finite and at least 0; found {low:g} to {high:g}. Bring the "
            "volume to [0, 1] with synthbench.volumes.intensity.to_unit.",
            "intensities",
        )
