"""Cohorts of spheres, whose size and brightness depend on sex and age."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from tests.conftest import AFFINE, blob

SHAPE = (16, 16, 16)
ACCEPT = ("registered", "registered-mismatch", "skull", "size", "subjects")
COMMON: dict[str, Any] = {"extractor": "voxels", "accept": ACCEPT, "cache": False, "refits": 6}


def write(folder: Path, n: int, seed: int, table: str = "participants.tsv") -> Path:
    """Spheres: those of class M are larger, and age is brightness."""
    folder.mkdir()
    (folder / "dataset_description.json").write_text("{}", encoding="utf-8")
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        sex = "FM"[i % 2]
        age = float(rng.uniform(20, 80))
        volume = blob(1000 * seed + i, SHAPE, 0.8 + 0.06 * (i % 2) + 0.05 * rng.standard_normal())
        volume *= 0.4 + age / 160
        nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"sub-{i:02d}_T1w.nii.gz")
        rows.append({"participant_id": f"sub-{i:02d}", "age": age, "sex": sex})
    frame = pd.DataFrame(rows)
    if table == "participants.tsv":
        frame["height"] = [150.0 + i for i in range(n)]
    if table == "conditions.tsv":
        frame = frame.rename(columns={"participant_id": "file"})
        frame["file"] += "_T1w.nii.gz"
    frame.to_csv(folder / table, sep="\t", index=False)
    return folder
