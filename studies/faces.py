"""How often `data info` says that a head has a face: of heads as they are, and with it removed.

    python studies/faces.py WHOLE_HEADS BRAINS

WHOLE_HEADS are T1-weighted whole heads with faces, BRAINS skull-stripped volumes. From each head
the face is removed in several ways. What is removed is found from the place of the brain, by the
same registration as in the rule; how deep and how far differs. Prints the table of
docs/privacy.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage
from scipy.stats import binomtest

from synthbench.cohorts.cohort import read_volume
from synthbench.cohorts.inspection import Inspection, inspect
from synthbench.cohorts.preflight.faces import Face, face_of
from synthbench.cohorts.preflight.survey import inspection_of
from synthbench.cohorts.reading import examine


def removals(
    volume: Float32[np.ndarray, "d h w"], inspection: Inspection, face: Face
) -> Mapping[str, Bool[np.ndarray, "d h w"]]:
    """Return the voxels that each way of defacing removes, by its name."""
    grid = inspection.grid
    assert face.to_mni is not None
    to_mni = face.to_mni @ grid.matrix
    voxels = np.indices(grid.shape).reshape(3, -1)
    _, y, z = (to_mni[:3, :3] @ voxels + to_mni[:3, 3:]).reshape(3, *grid.shape)
    floor = inspection.background[1]
    head = volume > floor + 0.1 * (inspection.scale - floor)
    head = ndimage.binary_fill_holes(ndimage.binary_closing(head, iterations=3))
    depth = ndimage.distance_transform_edt(head, sampling=grid.spacing)
    slanted = 0.68 * y - 0.73 * z  # the plane in front of and below the brain
    front = (y > 20) & (z < -10)
    return {
        "a plane that touches the brain (quickshear)": slanted > 51,
        "the plane, 10 mm in front of it": slanted > 61,
        "all more than 40 mm in front, up to the eyes": (y > 40) & (z < -15),
        "all more than 50 mm in front, up to the eyes": (y > 50) & (z < -15),
        "all more than 60 mm in front, up to the eyes": (y > 60) & (z < -15),
        "the outer 30 mm of the face": front & (depth <= 30),
        "the outer 20 mm of the face": front & (depth <= 20),
        "the outer 10 mm of the face": front & (depth <= 10),
        "the eyes only, a band of 30 mm": (y > 30) & (np.abs(z + 35) < 15),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heads", type=Path)
    parser.add_argument("brains", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[Face]] = {"as they are": []}
    examined = examine(arguments.heads)
    assert examined.cohort is not None
    for entry in (*examined.cohort.entries, *examined.elsewhere):
        volume, inspection = read_volume(entry), inspection_of(entry)
        face = face_of(inspection)
        found["as they are"].append(face)
        if face.to_mni is None:
            continue
        for name, removed in removals(volume, inspection, face).items():
            without = np.where(removed, np.float32(0), volume)
            measured = inspect(without, inspection.grid, inspection.grid, dtype="float32")
            found.setdefault(name, []).append(face_of(measured))
    of_brains = examine(arguments.brains).cohort
    assert of_brains is not None
    brains = [inspection_of(entry) for entry in of_brains.entries]
    found["brains, taken for heads"] = [face_of(inspection) for inspection in brains]
    stripped = sum(inspection.placement.stripped is True for inspection in brains)
    print("heads | n | said to have a face | 95% CI | mL, least to greatest | fit, least")
    for name, faces in found.items():
        said = sum(face.there is True for face in faces)
        low, high = binomtest(said, len(faces)).proportion_ci(method="exact")
        volumes = [face.foreground_ml for face in faces]
        print(
            f"{name} | {len(faces)} | {said} | {low:.0%} to {high:.0%} | "
            f"{np.nanmin(volumes):.0f} to {np.nanmax(volumes):.0f} | "
            f"{min(face.fit for face in faces):.2f}"
        )
    print(f"brains that are not looked at, as they are known to be stripped: {stripped}")


if __name__ == "__main__":
    main()
