"""One volume file: formats, geometry, and faults."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError
from tests.cohorts.files import broken, save
from tests.conftest import AFFINE, blob


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "1 voxels are NaN or infinite"),
        ("constant", "every voxel is 0"),
        ("4-D", r"is 4-D, of shape \(24, 24, 24, 2\)"),
        ("complex", "complex64"),
        ("singular", "affine is singular"),
        ("other grid", r"its grid is 23 x 24 x 24 at 4 mm, but 3 of 4 volumes are 24 x 24 x 24"),
        ("truncated", "cannot be read"),
        ("no image", "cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:nibabel")
def test_a_bad_file_is_named_with_what_is_wrong(make_cohort, kind, words):
    folder = make_cohort("c", n=3)
    broken(kind, folder / "bad.nii.gz")
    with pytest.raises(CohortError, match=words) as caught:
        read_cohort(folder, role="synth")
    assert "synth: 1 of 4 volumes cannot be used" in str(caught.value)
    assert "bad.nii.gz: " in str(caught.value)


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1, 1, 1])])
def test_identity_affines_need_an_assumption(make_cohort, affine):
    real = read_cohort(make_cohort("real", n=2))
    folder = make_cohort("synth", n=2, seed=1, affine=affine)
    with pytest.raises(CohortError, match="--assume-grid real"):
        read_cohort(folder)
    assumed = read_cohort(folder, assume_grid=real.stored_grid)
    assert assumed.grid == real.grid
    assert assumed.notes == ("grid assumed for 2 of 2 volumes without geometry",)


def test_an_assumed_grid_must_fit_the_array(make_cohort, tmp_path):
    real = read_cohort(make_cohort("real", n=2))
    (tmp_path / "s").mkdir()
    np.save(tmp_path / "s" / "a.npy", blob(1, (20, 24, 24)))
    with pytest.raises(CohortError, match=r"its shape is \(20, 24, 24\)"):
        read_cohort(tmp_path / "s", assume_grid=real.stored_grid)


def test_single_channel_axes_are_no_fourth_dimension(tmp_path):
    np.save(tmp_path / "a.npy", blob(1)[None])
    save(blob(1)[..., None], tmp_path / "b.nii.gz")
    cohort = read_cohort(tmp_path, assume_grid=4.0)
    assert np.array_equal(cohort.load(0), cohort.load(1))


def test_the_scaling_rule_of_a_file_is_recorded(make_cohort):
    folder = make_cohort("c", n=4)
    image = nib.Nifti1Image((blob(60) * 200).astype(np.uint8), AFFINE)
    image.header.set_slope_inter(0.005, 0)
    nib.save(image, folder / "scaled.nii")
    entry = next(e for e in read_cohort(folder).entries if e.name == "scaled.nii")
    assert entry.inspection is not None
    assert entry.inspection.dtype == "uint8"
    assert entry.inspection.slope == pytest.approx(0.005)
    assert entry.inspection.high <= 1


def test_a_link_to_a_volume_that_was_not_fetched_is_named(make_cohort):
    folder = make_cohort("c", n=3)
    (folder / "sub-900.nii.gz").symlink_to("../annex/MD5E-s9.nii.gz")
    with pytest.raises(CohortError, match=r"sub-900.*MD5E-s9\.nii\.gz, which is not there. Fetch"):
        read_cohort(folder)


def test_orientations_are_brought_to_ras(make_cohort):
    """One brain stored twice, the second time with its axes permuted and mirrored (P, S, R)."""
    folder = make_cohort("c", n=1)
    image = nib.load(folder / "sub-000.nii.gz")
    to_psr = nib.orientations.axcodes2ornt("PSR")
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(image.affine), to_psr)
    )
    nib.save(turned, folder / "sub-001.nii.gz")
    assert nib.aff2axcodes(nib.load(folder / "sub-001.nii.gz").affine) == ("P", "S", "R")
    cohort = read_cohort(folder)
    assert cohort.entries[0].digest == cohort.entries[1].digest
    assert np.array_equal(cohort.load(0), image.get_fdata(dtype=np.float32))
    assert np.array_equal(cohort.load(1), image.get_fdata(dtype=np.float32))
