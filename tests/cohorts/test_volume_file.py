"""One volume file: formats, geometry, and faults."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.volume_file import read
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


# ---------------------------------------------------------------- units and sizes


def in_unit(unit, factor, file, spacing=4.0):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -11.5 * spacing
    affine[:3] *= factor
    image = nib.Nifti1Image(blob(7), affine)
    image.header["xyzt_units"] = unit
    nib.save(image, file)
    return file


@pytest.mark.parametrize(("unit", "factor"), [(1, 0.001), (3, 1000)])
def test_lengths_in_metres_and_micrometres_are_converted_and_noted(unit, factor, tmp_path):
    metric = read(in_unit(2, 1, tmp_path / "mm.nii.gz"), None)
    found = read(in_unit(unit, factor, tmp_path / "a.nii.gz"), None)
    assert found.grid.same_grid(metric.grid, tolerance_mm=1e-4)
    assert np.array_equal(found.data, metric.data)
    assert [remark.rule for remark in found.remarks] == ["units"]
    assert metric.remarks == ()


@pytest.mark.parametrize(
    ("unit", "factor", "words"),
    [
        (3, 1, "lengths in micrometres"),  # the lengths are in mm, whatever the header says
        (1, 1, "lengths in metres"),
        (2, 1000, "96000 mm long"),
        (0, 1000, "96000 mm long"),
        (2, 10.5, "1008 mm long"),
    ],
)
def test_lengths_that_no_head_has_are_refused_before_anything_is_measured(
    unit, factor, words, tmp_path
):
    file = in_unit(unit, factor, tmp_path / "a.nii.gz")
    with pytest.raises(CohortError, match=f"{words}.*--assume-grid"):
        read(file, None)
    assert read(file, 4.0).grid.spacing == pytest.approx((4, 4, 4))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((4, 4, 0.09), "4 x 4 x 0.09 mm"),
        ((4, 1e-3, 4), "4 x 0.001 x 4 mm"),
        ((20.1, 4, 4), "20.1 x 4 x 4 mm"),
        ((4, 4, 25), "4 x 4 x 25 mm"),
    ],
)
def test_voxels_of_a_size_that_no_scan_has_are_refused(sizes, words, tmp_path):
    affine = AFFINE.copy()
    affine[:3, :3] = np.diag(sizes)
    save(blob(1), tmp_path / "a.nii", affine)
    with pytest.raises(CohortError, match=f"{words}; those of a head are between 0.1 and 20 mm"):
        read(tmp_path / "a.nii", None)
    assert read(tmp_path / "a.nii", 4.0).grid.spacing == pytest.approx((4, 4, 4))


@pytest.mark.parametrize("size", [0.1, 20.0])
def test_voxels_of_a_size_that_a_scan_may_have_are_read(size, tmp_path):
    affine = AFFINE.copy()
    affine[:3, :3] = np.diag([size, 4, 4])
    save(blob(1), tmp_path / "a.nii", affine)
    assert read(tmp_path / "a.nii", None).grid.spacing == pytest.approx((size, 4, 4), rel=1e-5)


def test_a_volume_far_from_the_origin_is_refused(tmp_path):
    affine = AFFINE.copy()
    affine[0, 3] = 1e7
    save(blob(1), tmp_path / "a.nii", affine)
    with pytest.raises(CohortError, match=r"1e\+07 mm away from the origin"):
        read(tmp_path / "a.nii", None)


def test_a_long_axis_allocates_nothing(tmp_path):
    """A voxel of 100 km: the coarse copy would need 10^12 cells."""
    affine = AFFINE.copy()
    affine[0, 0] = 1e8
    save(blob(1), tmp_path / "a.nii", affine)
    with pytest.raises(CohortError, match="mm long"):
        read(tmp_path / "a.nii", None)


# ---------------------------------------------------------------- assumed grids


def test_an_assumed_grid_overrules_affines_that_are_wrong(make_cohort, tmp_path):
    """Origin lost, spacing lost, metres, moved: the voxels lie as in the real files."""
    real = read_cohort(make_cohort("real", n=2))
    folder = tmp_path / "wrong"
    folder.mkdir()
    moved, metres, spacing = AFFINE.copy(), AFFINE.copy(), np.eye(4)
    moved[0, 3] += 7
    metres[:3] /= 1000
    spacing[:3, 3] = AFFINE[:3, 3]
    affines = {
        "origin": np.diag([4.0, 4, 4, 1]), "spacing": spacing, "metres": metres, "moved": moved,
        "right": AFFINE,
    }  # fmt: skip
    for seed, (name, affine) in enumerate(affines.items()):
        save(blob(seed), folder / f"{name}.nii.gz", affine)
    cohort = read_cohort(folder, assume_grid=real.stored_grid)
    assert cohort.grid == real.grid
    replaced = {e.name for e in cohort.entries if e.inspection and e.inspection.remarks}
    assert replaced == {f"{name}.nii.gz" for name in affines if name != "right"}
    assert cohort.notes == ()
    for entry, index in zip(cohort.entries, range(5), strict=True):
        seed = list(affines).index(entry.name.removesuffix(".nii.gz"))
        assert np.array_equal(cohort.load(index), blob(seed))


def test_an_assumed_grid_does_not_mirror_files_with_other_axes(make_cohort, tmp_path):
    """The same brain stored L, A, S with its right affine: it stays as it is."""
    real = read_cohort(make_cohort("real", n=1))
    image = nib.Nifti1Image(blob(0), AFFINE)
    nib.save(image.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]])), tmp_path / "a.nii")
    found = read(tmp_path / "a.nii", real.stored_grid)
    assert found.assumed is None
    assert np.array_equal(found.data, blob(0))


def test_an_assumed_voxel_size_keeps_the_directions_of_a_wrong_affine(tmp_path):
    """1 mm where 4 were, axes P, S, R."""
    image = nib.Nifti1Image(blob(0), np.diag([1.0, 1, 1, 1]))
    image.affine[:3, 3] = -10
    to_psr = nib.orientations.axcodes2ornt("PSR")
    ras = nib.io_orientation(image.affine)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(ras, to_psr)), tmp_path / "a.nii")
    found = read(tmp_path / "a.nii", 4.0)
    assert np.array_equal(found.data, blob(0))
    assert found.grid.spacing == pytest.approx((4, 4, 4))
    assert [remark.rule for remark in found.remarks] == ["assumed-grid"]
    nib.save(image, tmp_path / "b.nii")
    cohort = read_cohort(tmp_path, assume_grid=4.0)
    assert all(np.array_equal(cohort.load(index), blob(0)) for index in range(2))


@pytest.mark.parametrize("size", [0.0, -2.0, float("nan"), 1e6])
def test_an_assumed_voxel_size_is_a_size(size, tmp_path):
    np.save(tmp_path / "a.npy", blob(0))
    with pytest.raises(CohortError, match="--assume-grid"):
        read(tmp_path / "a.npy", size)


# ---------------------------------------------------------------- voxels


def solid():
    """A sphere without a zero inside."""
    inside = ndimage.binary_fill_holes(blob(4) > 0)
    return np.where(inside, np.maximum(blob(4), 0.1), 0).astype(np.float32)


def test_a_background_of_nan_is_zero_and_said(tmp_path):
    volume = solid()
    save(np.where(volume > 0, volume, np.nan), tmp_path / "a.nii")
    found = read(tmp_path / "a.nii", None)
    assert np.array_equal(found.data, volume)
    assert [remark.rule for remark in found.remarks] == ["nan-background"]


def hole(volume):
    volume[12, 12, 12] = np.nan


def infinite(volume):
    volume[0, 0, 0] = np.inf


def rim(volume):
    volume[np.isnan(volume)] = 0
    volume[0] = np.nan  # one face of six: a slice that failed, not a background


@pytest.mark.parametrize("damage", [hole, infinite, rim])
def test_other_voxels_that_are_not_finite_are_refused(damage, tmp_path):
    volume = np.where(solid() > 0, solid(), np.nan)
    damage(volume)
    save(volume, tmp_path / "a.nii")
    with pytest.raises(CohortError, match=r"voxels are NaN or infinite"):
        read(tmp_path / "a.nii", None)


@pytest.mark.parametrize(("factor", "words"), [(1e300, "1e.300"), (1e20, "reach"), (1e-50, "only")])
def test_values_beyond_32_bit_floats_are_refused_by_their_size(factor, words, tmp_path):
    volume = (blob(4).astype(np.float64) / blob(4).max()) * factor
    save(volume, tmp_path / "a.nii")
    with pytest.raises(CohortError, match=words):
        read(tmp_path / "a.nii", None)


def test_a_scaling_rule_that_is_not_set_is_noted(tmp_path):
    """The header that nibabel keeps in memory has NaN in both fields; some write it as it is."""
    image = nib.Nifti1Image(blob(4), AFFINE)
    image.header["vox_offset"] = 352
    content = image.header.binaryblock + bytes(4) + blob(4).tobytes(order="F")
    (tmp_path / "a.nii").write_bytes(content)
    found = read(tmp_path / "a.nii", None)
    assert np.array_equal(found.data, blob(4))
    assert [remark.rule for remark in found.remarks] == ["scaling"]
