"""The segmentation study: Dice, and a network that learns label maps."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthbench.errors import CohortError
from synthbench.utility.segmentation import SegmentationSettings, dice_scores, segmentation_utility
from synthbench.utility.settings import StudySettings
from tests.conftest import AFFINE
from tests.utility.spheres import ACCEPT, write

pytestmark = pytest.mark.slow

LENIENT = StudySettings(accept=ACCEPT)


def test_dice_by_hand():
    """Label 1: 2 voxels each, 1 shared, 2/4; label 2: absent from both; label 3: 0 of 1."""
    found = np.array([1, 1, 0, 0], dtype=np.uint8).reshape(1, 2, 2)
    truth = np.array([1, 0, 1, 3], dtype=np.uint8).reshape(1, 2, 2)
    np.testing.assert_array_equal(dice_scores(found, truth, (1, 2, 3)), [0.5, 1.0, 0.0])


def relabelled(folder: Path, numbers: dict[int, int]) -> None:
    for file in folder.glob("*_dseg.nii.gz"):
        labels = np.asarray(nib.load(file).dataobj)
        for old, new in numbers.items():
            labels = np.where(labels == old, np.uint8(new), labels)
        nib.save(nib.Nifti1Image(labels, AFFINE), file)


def test_segmentation_learns_what_is_bright(tmp_path):
    """Two shells of different brightness: after some steps most of both is found."""
    folders = []
    for seed, n in ((1, 4), (2, 4), (3, 4)):
        folder = write(tmp_path / f"s{seed}", n, seed)
        for file in folder.glob("*_T1w.nii.gz"):
            labels = (nib.load(file).get_fdata() > 0.1).astype(np.uint8)
            labels[:, :, 8:] *= 2
            name = file.name.replace("_T1w.", "_dseg.")
            nib.save(nib.Nifti1Image(labels, AFFINE), folder / name)
        folders.append(folder)
    found = segmentation_utility(
        *folders, settings=SegmentationSettings(channels=(4, 8), seeds=2, epochs=8), study=LENIENT
    )
    assert set(found.arms[0].values) == {"dice", "dice_1", "dice_2"}
    assert all(arm.values["dice"].value > 0.5 for arm in found.arms)
    relabelled(folders[1], {2: 7})
    words = ["synth: labels that are not in the real maps count as background: 7",
             "synth: labels of the real maps that are missing here: 2"]  # fmt: skip
    short = SegmentationSettings(channels=(4, 8), seeds=1, epochs=1)
    noted = segmentation_utility(*folders, settings=short, study=LENIENT).notes
    assert any("--seeds 1" in note for note in noted)
    assert [note for note in noted if "labels" in note] == words
    relabelled(folders[1], {1: 6})
    with pytest.raises(CohortError, match=r"synth: the label maps have 6, 7, .* cohort 1, 2"):
        segmentation_utility(*folders, study=LENIENT)
    (folders[1] / "sub-00_dseg.nii.gz").unlink()
    with pytest.raises(CohortError, match="1 of 4 volumes have no label map"):
        segmentation_utility(*folders, study=LENIENT)
