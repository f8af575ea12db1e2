"""
Find faults before you score
============================

A volume that is mirrored or moved still gives numbers that look normal. `data info`, and every
scoring, look for such faults first.
"""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from synthbench.cohorts.preflight.check import report
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
folder = atlas_cohort(12, work / "real", seed=1, shape=(32, 40, 32))

# %%
# Move one brain by three voxels, and replace another by a copy of its neighbour.
files = sorted(folder.rglob("*.nii.gz"))
image = nib.load(files[0])
moved = np.roll(np.asarray(image.dataobj), 3, axis=1)
nib.save(nib.Nifti1Image(moved, image.affine), files[0])
nib.save(nib.load(files[2]), files[1])

# %%
# Each finding names its rule, the files and what is wrong.
for finding in report(folder).findings:
    print(f"{finding.severity}: {finding.rule}: {finding.message}\n")
