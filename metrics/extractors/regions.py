"""`regions`: the volumes of 85 regions of the brain, as shares of the intracranial volume.

Each is the tissue (`synthbench.metrics.extractors.tissue`) in the region's territory
(`synthbench.metrics.extractors.parcels`): grey matter of 68 gyri and 12 nuclei, grey and white
matter of the brainstem and of both halves of the cerebellum. The lateral ventricles are those of
the extractor `anatomy`, left and right of the plane x = 0. The intracranial volume is that of the
skull-stripped head: all tissue and fluid.

This is no segmentation by a network that has learned what brains look like: it invents nothing
that is not in the intensities. The price is that territories follow the template and not the
person's folds, so a difference between two people in one gyrus is seen only as far as the affine
registration brings the gyri to one place. And a nucleus counts as far as it is grey on the scan:
the globus pallidus, which is as bright as white matter, is left out, and thalamus and putamen count
in part.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64

from synthbench.errors import MetricError
from synthbench.metrics.extractors.anatomy import ventricle_fractions
from synthbench.metrics.extractors.extractor import check_volumes
from synthbench.metrics.extractors.parcels import ATLAS_SHA256, Parcels, parcels
from synthbench.metrics.extractors.tissue import (
    GREY,
    MAPS_SHA256,
    MNI152_2MM,
    WHITE,
    Tissues,
    tissues_of,
)
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from torch import Tensor

SCALES: dict[str, tuple[float, float]] = {
    "bankssts_left": (1.57, 0.24),
    "caudalanteriorcingulate_left": (1.55, 0.21),
    "caudalmiddlefrontal_left": (4.54, 0.42),
    "cuneus_left": (2.48, 0.29),
    "entorhinal_left": (1.16, 0.14),
    "fusiform_left": (7.97, 0.7),
    "inferiorparietal_left": (7.58, 0.63),
    "inferiortemporal_left": (6.69, 0.64),
    "isthmuscingulate_left": (1.78, 0.25),
    "lateraloccipital_left": (6.38, 0.67),
    "lateralorbitofrontal_left": (5.08, 0.38),
    "lingual_left": (6.46, 0.56),
    "medialorbitofrontal_left": (2.81, 0.29),
    "middletemporal_left": (7.76, 0.67),
    "parahippocampal_left": (1.28, 0.15),
    "paracentral_left": (2.3, 0.34),
    "parsopercularis_left": (3.15, 0.29),
    "parsorbitalis_left": (1.25, 0.2),
    "parstriangularis_left": (2.33, 0.25),
    "pericalcarine_left": (1.43, 0.23),
    "postcentral_left": (6.44, 0.54),
    "posteriorcingulate_left": (2.61, 0.3),
    "precentral_left": (7.35, 0.63),
    "precuneus_left": (7.11, 0.56),
    "rostralanteriorcingulate_left": (2.13, 0.26),
    "rostralmiddlefrontal_left": (9.87, 0.84),
    "superiorfrontal_left": (15.5, 1.5),
    "superiorparietal_left": (9.1, 0.75),
    "superiortemporal_left": (8.06, 0.64),
    "supramarginal_left": (6.61, 0.64),
    "frontalpole_left": (0.419, 0.12),
    "temporalpole_left": (1.49, 0.3),
    "transversetemporal_left": (0.809, 0.12),
    "insula_left": (4.92, 0.55),
    "thalamusproper_left": (2.22, 0.36),
    "caudate_left": (2.08, 0.28),
    "putamen_left": (1.84, 0.38),
    "accumbensarea_left": (0.958, 0.088),
    "hippocampus_left": (3.45, 0.25),
    "amygdala_left": (1.64, 0.13),
    "bankssts_right": (1.32, 0.22),
    "caudalanteriorcingulate_right": (1.4, 0.2),
    "caudalmiddlefrontal_right": (4.22, 0.38),
    "cuneus_right": (2.13, 0.24),
    "entorhinal_right": (1.29, 0.14),
    "fusiform_right": (8.26, 0.72),
    "inferiorparietal_right": (7.44, 0.57),
    "inferiortemporal_right": (6.65, 0.68),
    "isthmuscingulate_right": (1.67, 0.23),
    "lateraloccipital_right": (6.66, 0.62),
    "lateralorbitofrontal_right": (4.61, 0.35),
    "lingual_right": (5.88, 0.54),
    "medialorbitofrontal_right": (3.45, 0.33),
    "middletemporal_right": (8.07, 0.63),
    "parahippocampal_right": (1.53, 0.18),
    "paracentral_right": (3.03, 0.37),
    "parsopercularis_right": (2.71, 0.23),
    "parsorbitalis_right": (1.49, 0.22),
    "parstriangularis_right": (2.9, 0.32),
    "pericalcarine_right": (1.59, 0.25),
    "postcentral_right": (6.25, 0.59),
    "posteriorcingulate_right": (2.15, 0.28),
    "precentral_right": (7.65, 0.58),
    "precuneus_right": (6.81, 0.55),
    "rostralanteriorcingulate_right": (1.54, 0.19),
    "rostralmiddlefrontal_right": (10.9, 0.88),
    "superiorfrontal_right": (15.3, 1.5),
    "superiorparietal_right": (9.14, 0.81),
    "superiortemporal_right": (7.71, 0.6),
    "supramarginal_right": (7.83, 0.71),
    "frontalpole_right": (0.512, 0.14),
    "temporalpole_right": (1.43, 0.27),
    "transversetemporal_right": (0.768, 0.12),
    "insula_right": (4.54, 0.54),
    "thalamusproper_right": (2.5, 0.28),
    "caudate_right": (2.32, 0.33),
    "putamen_right": (1.64, 0.41),
    "accumbensarea_right": (0.704, 0.083),
    "hippocampus_right": (3.1, 0.22),
    "amygdala_right": (1.79, 0.13),
    "brainstem": (16.7, 1.2),
    "cerebellum_left": (38.2, 2.2),
    "cerebellum_right": (38.8, 2.2),
    "lateral_ventricle_left": (5.47, 3.5),
    "lateral_ventricle_right": (5.33, 3.5),
}
"""Typical share of the intracranial volume in per mille, and its spread between people.

They are about the mean and the standard deviation of healthy adults (IXI, Hammersmith 3 T),
rounded: they need not be exact, but they are fixed. A feature is in units of its spread, or else
the cerebellum would decide every distance."""


WHOLE = ("brainstem", "cerebellum")
"""Kinds of regions whose grey and white matter count together."""


class Regions:
    """Volumes of regions over the intracranial volume, one row of `SCALES` per volume.

    Each is centred and scaled to units of its spread between people (`SCALES`); `shares_of`
    returns the shares themselves.

    Attributes
    ----------
    measures, unit
        The names of the features, and what their differences are of.
    """

    def __init__(self) -> None:
        self.name = "regions"
        self.dim = len(SCALES)
        self.measures = tuple(SCALES)
        self.unit = "volumes over the intracranial volume"
        self.weights_sha256: str | None = hashlib.sha256(
            f"{MAPS_SHA256} {ATLAS_SHA256}".encode()
        ).hexdigest()
        self.space: Space | None = MNI152_2MM
        self.preprocessing = "tissue-mixture-v1, desikan-killiany-v1"
        self.layer = "volumes of 85 regions over the intracranial volume"
        self.summary = "volumes of 85 regions of the brain over the intracranial volume"
        self.needs = "nothing"

    def load(self) -> Parcels:
        """Read and verify the atlas and the template once, and return the territories.

        Raises
        ------
        WeightsError
            The atlas or nilearn's maps are not the pinned ones.
        """
        return parcels()

    def features(self, volumes: Float32[Tensor, "b 1 91 109 91"]) -> Float32[Tensor, "b 85"]:
        """Measure each volume, and return one row per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract, are on another grid, or one of them is blank or
            constant.
        WeightsError
            The atlas or nilearn's maps are not the pinned ones.
        """
        import torch

        check_volumes(self.name, volumes)
        rows = []
        for index, volume in enumerate(volumes[:, 0].cpu().numpy()):
            try:
                rows.append(scaled(shares_of(volume)))
            except MetricError as error:
                raise error.at(f"{self.name}: volume {index}") from error
        return torch.tensor(np.stack(rows), dtype=torch.float32, device=volumes.device)


def scaled(shares: dict[str, float]) -> Float64[np.ndarray, " 85"]:
    """Return the shares of a volume in the order and units of `SCALES`."""
    return np.array([(1000 * shares[n] - typical) / sd for n, (typical, sd) in SCALES.items()])


def shares_of(volume: Float32[np.ndarray, "91 109 91"]) -> dict[str, float]:
    """Measure one volume, and return each region's share of the intracranial volume by name.

    Parameters
    ----------
    volume
        Skull-stripped T1 on the grid of `Regions`, intensities of at least 0, background zero. A
        factor on the intensities changes nothing.

    Returns
    -------
    Shares in [0, 1]. They do not sum to 1: white matter of the hemispheres and the fluid outside
    the lateral ventricles belong to no region.

    Raises
    ------
    MetricError
        The volume is on another grid, is blank or constant, or holds no head.
    WeightsError
        The atlas or nilearn's maps are not the pinned ones.
    """
    if volume.shape != MNI152_2MM.shape:
        raise MetricError(
            f"the volume must be on the grid {MNI152_2MM}; found the shape {volume.shape}. Bring "
            "it there with synthbench.volumes.grid.resample.",
            "another grid",
        )
    return shares_of_tissues(tissues_of(volume))


def shares_of_tissues(tissues: Tissues) -> dict[str, float]:
    """Return each region's share of the intracranial volume, from the tissues of a volume."""
    atlas = parcels()
    grey, white = (
        np.bincount(atlas.labels.ravel(), tissues.fractions[tissue].ravel(), len(atlas.names) + 1)
        for tissue in (GREY, WHITE)
    )
    head = float(tissues.head.sum())
    shares = {
        name: float(grey[label] + white[label] * (kind in WHOLE)) / head
        for label, (name, kind) in enumerate(zip(atlas.names, atlas.kinds, strict=True), start=1)
        if name in SCALES
    }
    ventricles = ventricle_fractions(tissues).sum(axis=(1, 2))
    middle = len(ventricles) // 2
    half = ventricles[middle] / 2
    shares["lateral_ventricle_left"] = float(ventricles[:middle].sum() + half) / head
    shares["lateral_ventricle_right"] = float(ventricles[middle + 1 :].sum() + half) / head
    return shares
