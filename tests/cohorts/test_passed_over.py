"""Files that look like images, but are not read."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.passed_over import passed_over
from synthbench.cohorts.reading import examine, grouped, read_cohort
from synthbench.errors import CohortError
from synthbench.runtime.walk import files_below
from tests.conftest import AFFINE, blob

UNREAD = {
    "NRRD": "a.nrrd", "MetaImage": "b.MHA", "MINC": "c.mnc", "npz": "d.npz", "AFNI": "e.HEAD",
    "MRtrix": "f.mif.gz", "NIfTI": "g.nii.bz2", "compressed pair": "h.img.gz", "TIFF": "i.tif",
}  # fmt: skip


def test_every_unread_format_is_counted_in_the_notes(make_cohort):
    folder = make_cohort("c", n=2)
    for name in UNREAD.values():
        (folder / name).write_bytes(b"x")
    (folder / "1.2.840.113619").write_bytes(bytes(128) + b"DICM")
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM")
    for name in ("README", "a.json", "a.png", ".b.nrrd", "notes.2"):
        (folder / name).write_bytes(b"x")
    (note,) = read_cohort(folder).notes
    assert note.startswith("11 files left out")
    assert "2 DICOM" in note
    assert all(f"1 {form}" in note for form in UNREAD)


def test_a_folder_of_unread_formats_only_says_so(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004")
    with pytest.raises(CohortError, match=r"holds no volumes.*1 NRRD \(\.nrrd\).*Convert"):
        read_cohort(tmp_path)


def test_what_is_read_is_not_passed_over(make_cohort):
    folder = make_cohort("c", n=1)
    nib.save(nib.MGHImage(blob(77), AFFINE), folder / "x.mgh")
    nib.save(nib.Nifti1Pair(blob(78), AFFINE), folder / "y.img")
    nib.save(nib.Nifti1Image(blob(79), AFFINE), folder / "z.nii.gz")
    (folder / "z.nii.gz").rename(folder / "Z.NII.GZ")
    np.save(folder / "v.NPY", blob(80))
    (folder / "v.NPY.npy").rename(folder / "v.NPY")
    cohort = read_cohort(folder, assume_grid=4.0)
    assert passed_over(files_below(folder)) == []
    assert {e.name for e in cohort.entries} == {
        "sub-000.nii.gz", "x.mgh", "y.hdr", "Z.NII.GZ", "v.NPY",
    }  # fmt: skip


def test_a_folder_named_as_a_volume_is_a_fault_unless_it_holds_one(make_cohort):
    folder = make_cohort("c", n=2)
    (folder / "empty.nii.gz").mkdir()
    inside = folder / "unpacked.nii"
    inside.mkdir()
    (folder / "sub-001.nii.gz").rename(inside / "sub-001.nii.gz")
    found = examine(folder)
    assert found.listed == 3
    assert found.problems.keys() == {"empty.nii.gz"}


def test_files_with_one_fault_are_one_line(make_cohort):
    folder = make_cohort("c", n=2)
    for i in range(30):
        (folder / f"bad{i:02d}.nii.gz").write_bytes(b"/annex/objects/MD5E-s1--0.nii.gz\n")
    (folder / "other.nii").write_bytes(b"")
    with pytest.raises(CohortError, match=r"31 of 33 volumes cannot") as caught:
        read_cohort(folder)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert len(lines) == 2
    assert lines[0].startswith("  30 files (bad00.nii.gz, bad01.nii.gz,")
    assert lines[1].startswith("  other.nii: ")


def test_grouping_keeps_the_order_of_the_first_file():
    faults = {"a": "x", "b": "y", "c": "x"}
    assert grouped(faults) == [("2 files (a, c)", "x"), ("b", "y")]
