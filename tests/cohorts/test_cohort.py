from __future__ import annotations

import gzip
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from synthbench.cohorts.cohort import Cohort, check_intensities, majority_mask, overlap, read_volume
from synthbench.cohorts.datasets.selection import chosen_scans
from synthbench.cohorts.reading import examine, read_cohort
from synthbench.errors import CohortError
from tests.conftest import AFFINE, blob


def save(volume, file, affine=AFFINE):
    nib.save(nib.Nifti1Image(volume, affine), file)


def test_a_folder_is_read_at_any_depth_in_every_format(make_cohort):
    folder = make_cohort("c", n=2)
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    nib.save(nib.MGHImage(blob(77), AFFINE), deep / "x.mgz")
    save(blob(78), deep / "y.nii")
    np.save(deep / "z.npy", blob(79))
    cohort = read_cohort(folder, assume_grid=4.0)
    assert {e.name for e in cohort.entries} == {
        "sub-000.nii.gz", "sub-001.nii.gz", "a/b/x.mgz", "a/b/y.nii", "a/b/z.npy",
    }  # fmt: skip
    assert cohort.grid.shape == (24, 24, 24)


def test_bids_takes_the_t1w_volumes_and_says_what_it_passed_over(tmp_path):
    for i in range(3):
        anat = tmp_path / f"sub-{i}" / "anat"
        anat.mkdir(parents=True)
        save(blob(i), anat / f"sub-{i}_T1w.nii.gz")
        save(blob(i + 50), anat / f"sub-{i}_desc-brain_mask.nii.gz")
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-0\t30\nsub-1\tn/a\n")
    cohort = read_cohort(tmp_path)
    assert len(cohort) == 3
    assert {e.subject for e in cohort.entries} == {"sub-0", "sub-1", "sub-2"}
    assert cohort.participants.loc["sub-0", "age"] == 30
    assert cohort.notes == ("BIDS folder: 3 T1w volumes used, 3 other images skipped",)


def test_a_manifest_gives_paths_subjects_and_covariates(make_cohort, tmp_path):
    make_cohort("c", n=4)
    table = pd.DataFrame(
        {
            "path": [f"c/sub-{i:03d}.nii.gz" for i in range(4)],
            "participant_id": ["a", "a", "b", "c"],
            "age": [1, 1, 2, 3],
        }
    )
    table.to_csv(tmp_path / "m.csv", index=False)
    cohort = read_cohort(tmp_path / "m.csv")
    by_name = {e.name: s for e, s in zip(cohort.entries, cohort.subjects, strict=True)}
    assert by_name["c/sub-000.nii.gz"] == by_name["c/sub-001.nii.gz"]
    assert len(set(cohort.subjects)) == 3
    assert cohort.participants.loc["c", "age"] == 3


def test_the_fingerprint_depends_on_content_alone(make_cohort, tmp_path):
    folder = make_cohort("c", n=4)
    before = read_cohort(folder)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for i, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, renamed / f"x{9 - i}.nii.gz")
    after = read_cohort(renamed)
    assert after.fingerprint == before.fingerprint
    assert [e.digest for e in after.entries] == [e.digest for e in before.entries]
    changed = nib.load(renamed / "x9.nii.gz")
    data = changed.get_fdata(dtype=np.float32)
    data[12, 12, 12] += 1e-3
    save(data, renamed / "x9.nii.gz")
    assert read_cohort(renamed).fingerprint != before.fingerprint


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


def broken(kind, file):
    volume = blob(99)
    if kind == "nan":
        volume[3, 3, 3] = np.nan
    elif kind == "constant":
        volume[:] = 0
    elif kind == "4-D":
        volume = np.stack([volume, volume], axis=-1)
    elif kind == "complex":
        volume = volume.astype(np.complex64)
    elif kind == "singular":
        image = nib.Nifti1Image(volume, AFFINE)
        image.header["srow_z"] = 0
        image.header["sform_code"], image.header["qform_code"] = 2, 0
        file.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + volume.tobytes()))
        return
    elif kind == "other grid":
        volume = volume[:-1]
    save(volume, file)
    if kind == "truncated":
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    elif kind == "no image":
        file.write_bytes(gzip.compress(b"not an image at all" * 40))


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


def test_all_bad_files_are_named_at_once(make_cohort):
    folder = make_cohort("c", n=2)
    broken("nan", folder / "bad1.nii.gz")
    broken("constant", folder / "bad2.nii.gz")
    with pytest.raises(CohortError, match="2 of 4 volumes") as caught:
        read_cohort(folder)
    assert "bad1" in str(caught.value)
    assert "bad2" in str(caught.value)


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("paths\nx.nii\n", "did you mean 'paths'"),
        ("path\nmissing.nii.gz\n", "1 of 1 listed files do not exist"),
        ("path\nc/sub-000.nii.gz\nc/sub-000.nii.gz\n", "listed more than once"),
    ],
)
def test_bad_manifests_are_explained(make_cohort, tmp_path, content, words):
    make_cohort("c", n=1)
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(CohortError, match=words):
        read_cohort(tmp_path / "m.csv")


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(CohortError, match="holds no volumes"):
        read_cohort(tmp_path)
    with pytest.raises(CohortError, match="no such path"):
        read_cohort(tmp_path / "nowhere")


def test_reading_ahead_changes_nothing(make_cohort):
    cohort = read_cohort(make_cohort("c", n=5))
    one = list(cohort.volumes(workers=1))
    three = list(cohort.volumes(workers=3))
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))


def test_reading_ahead_waits_for_the_reader(make_cohort, monkeypatch):
    """Memory must not grow with the cohort: two workers hold at most four volumes and the next."""
    cohort = read_cohort(make_cohort("c", n=12))
    read: list[int] = []
    load = Cohort.load

    def counted(self, index):
        read.append(index)
        return load(self, index)

    monkeypatch.setattr(Cohort, "load", counted)
    volumes = iter(cohort.volumes(workers=2))
    next(volumes)
    time.sleep(0.3)
    assert len(read) <= 5
    assert len(list(volumes)) == 11


def test_the_majority_mask_by_hand(tmp_path):
    """A voxel lit in two of three volumes is in, in one of three out; a hole is filled."""
    base = np.zeros((8, 8, 8), np.float32)
    base[2:7, 2:7, 2:7] = 1
    base[4, 4, 4] = 0
    for i in range(3):
        volume = base.copy()
        volume[0, 0, 0] = i < 2
        volume[7, 7, 7] = i < 1
        volume[2, 2, 2] = 1 - 0.001 * i
        save(volume, tmp_path / f"{i}.nii")
    expected = base > 0
    expected[4, 4, 4] = True
    expected[0, 0, 0] = True
    assert np.array_equal(majority_mask(read_cohort(tmp_path).volumes()), expected)


def test_the_brain_centre_is_the_middle_of_the_common_box(tmp_path):
    """Voxels 2 to 5 along x: the middle is 3.5, at 4 * 3.5 - 46 mm."""
    volume = np.zeros((24, 24, 24), np.float32)
    volume[2:6, 8:11, 20:23] = 1
    for i in range(3):
        save(volume * (1 - 0.1 * i), tmp_path / f"{i}.nii")
    expected = (4 * 3.5 - 46, 4 * 9 - 46, 4 * 21 - 46)
    assert read_cohort(tmp_path).brain_centre() == pytest.approx(expected)


def test_examine_keeps_what_is_usable_and_says_what_is_wrong_with_the_rest(make_cohort):
    folder = make_cohort("c", n=4)
    moved = AFFINE.copy()
    moved[0, 3] += 10
    save(blob(50), folder / "moved.nii.gz", moved)
    save(np.stack([blob(51)] * 2, axis=-1), folder / "four.nii.gz")
    found = examine(folder)
    assert found.listed == 6
    assert found.cohort is not None
    assert len(found.cohort) == 4
    assert [entry.name for entry in found.elsewhere] == ["moved.nii.gz"]
    assert found.problems.keys() == {"moved.nii.gz", "four.nii.gz"}


def test_what_was_measured_is_kept_and_is_no_part_of_an_entrys_identity(make_cohort):
    folder = make_cohort("c", n=4)
    first, again = read_cohort(folder), read_cohort(folder)
    assert first.entries == again.entries
    assert hash(first.entries[0]) == hash(again.entries[0])
    measured = first.entries[0].inspection
    assert measured is not None
    assert measured is not again.entries[0].inspection
    assert (measured.grid, measured.stored, measured.dtype) == (first.grid, first.grid, "float32")
    assert "inspection" not in repr(first.entries[0])


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


def test_a_volume_is_read_again_on_the_grid_that_was_assumed_for_it(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", blob(i))
    cohort = read_cohort(tmp_path, assume_grid=4.0)
    np.testing.assert_array_equal(read_volume(cohort.entries[0]), cohort.load(0))


def test_overlap_is_by_content_or_by_named_person_of_one_dataset(make_cohort, tmp_path):
    """`sub-000` to `sub-003` are persons of whichever dataset lies above the files, if any."""
    make_cohort("one", n=4)
    make_cohort("two", n=2, seed=1)
    one, two = read_cohort(tmp_path / "one"), read_cohort(tmp_path / "two")
    assert sorted(overlap(two, one)) == ["sub-000.nii.gz", "sub-001.nii.gz"]
    for name in ("one", "two"):
        (tmp_path / name / "dataset_description.json").write_text("{}")
    assert overlap(two, one) == []
    shutil.copy(tmp_path / "one" / "sub-003.nii.gz", tmp_path / "two" / "sub-777.nii.gz")
    assert overlap(read_cohort(tmp_path / "two"), one) == ["sub-777.nii.gz"]


def test_linked_subjects_are_read_as_select_lists_them(tmp_path):
    """A BIDS folder whose subjects are links, one of which goes round in a circle."""
    store, root = tmp_path / "store", tmp_path / "root"
    root.mkdir()
    for i in range(3):
        anat = store / f"sub-{i}" / "anat"
        anat.mkdir(parents=True)
        save(blob(i), anat / f"sub-{i}_T1w.nii.gz")
        (root / f"sub-{i}").symlink_to(store / f"sub-{i}")
    (store / "sub-0" / "again").symlink_to(store / "sub-0")
    listed = sorted(Path(path).name for path in chosen_scans(root).rows["path"])
    read = read_cohort(root)
    assert sorted(entry.path.name for entry in read.entries) == listed
    assert {entry.subject for entry in read.entries} == {"sub-0", "sub-1", "sub-2"}


def test_a_link_to_a_volume_that_was_not_fetched_is_named(make_cohort):
    folder = make_cohort("c", n=3)
    (folder / "sub-900.nii.gz").symlink_to("../annex/MD5E-s9.nii.gz")
    with pytest.raises(CohortError, match=r"sub-900.*MD5E-s9\.nii\.gz, which is not there. Fetch"):
        read_cohort(folder)


def test_a_folder_of_dicom_is_answered_with_what_converts_it(tmp_path):
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(CohortError, match=f"holds no volumes.*dcm2niix -z y -o OUT {tmp_path}"):
        read_cohort(tmp_path)


def test_scans_on_grids_of_their_own_are_sent_to_preparation(tmp_path):
    for i in range(3):
        save(blob(i, (20 + i, 20, 20)), tmp_path / f"{i}.nii")
    with pytest.raises(CohortError, match="synthbench data prepare DIR --out PREPARED"):
        read_cohort(tmp_path)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("unit", r"'unit'\. sub-00[13].*found 0 to "),
        ("constant:10:mm", r"'constant:10:mm'\. sub-00[13].*between 0.1 and 10 mm"),
    ],
)
def test_volumes_that_break_an_intensity_rule_are_counted_on_their_side(make_cohort, rule, words):
    """Two of five volumes, of at most 1, are a hundred times as bright."""
    folder = make_cohort("c", n=5)
    for i in (1, 3):
        file = folder / f"sub-00{i}.nii.gz"
        save(100 * nib.load(file).get_fdata(dtype=np.float32), file)
    with pytest.raises(CohortError, match=rf"synth: 2 of 5 volumes break .*{words}"):
        check_intensities(read_cohort(folder), rule, "synth")
    check_intensities(read_cohort(folder), "percentile", "synth")


def test_a_volume_that_breaks_the_rule_on_the_common_grid_is_named_with_its_side(make_cohort):
    volumes = read_cohort(make_cohort("c", n=2)).volumes(intensity="constant:0.1:mm", role="real")
    with pytest.raises(CohortError, match=r"^real: sub-00\d.nii.gz: the 99.9th percentile"):
        volumes[0]
