"""Reading one scan."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.preparation.image import read_image
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space


def test_axes_are_turned_to_ras_whatever_the_file_says(tmp_path):
    """The one bright voxel lies 3 to the right, 5 to the front, 7 up, whichever axes are stored."""
    volume = np.zeros((10, 12, 14), np.float32)
    volume[3, 5, 7] = 1
    image = nib.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0]))
    lsp = nib.orientations.axcodes2ornt(("L", "S", "P"))
    now = nib.orientations.io_orientation(image.affine)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(now, lsp)), tmp_path / "a.nii.gz")
    read = read_image(tmp_path / "a.nii.gz")
    assert np.array_equal(read.volume, volume)
    assert read.space.same_grid(Space.of(volume.shape, image.affine))


def test_axes_that_no_header_can_say_are_taken_from_the_layout(tmp_path):
    """ANALYZE stores voxel sizes only. ASL: the stored axes run to the front, the top, the left."""
    stored = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    image = nib.AnalyzeImage(stored, np.diag([1.0, 2.0, 3.0, 1.0]))
    nib.save(image, tmp_path / "a.hdr")
    read = read_image(tmp_path / "a.hdr", "ASL")
    assert np.array_equal(read.volume, stored.transpose(2, 0, 1)[::-1])
    assert read.space.spacing == pytest.approx((3, 1, 2))
    with pytest.raises(CohortError, match="axes"):
        read_image(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (np.zeros((4, 4, 4)), "not all equal"),
        (np.full((4, 4, 4), np.nan), "64 of 64 voxels of NaN"),
        (np.ones((4, 4, 4, 2)), "one 3-D volume"),
    ],
    ids=["constant", "nan", "4-D"],
)
def test_what_is_no_scan_is_refused(volume, words, tmp_path):
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.diag([2, 2, 2, 1])), tmp_path / "a.nii")
    with pytest.raises(CohortError, match=words):
        read_image(tmp_path / "a.nii")
