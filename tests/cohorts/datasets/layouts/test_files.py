"""Loose files, in no known layout."""

from __future__ import annotations

import pytest

from synthbench.cohorts.datasets.find import find_scans
from synthbench.errors import CohortError


def touch(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_each_image_is_a_scan_of_the_person_that_its_name_gives(tmp_path):
    touch(tmp_path, "P_01.nii.gz", "sub-2.nii", "brain_mask.nii.gz", "a.npy", "below/x.nii.gz")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\nsub-2\t40\nP_01\t50\n", encoding="utf-8"
    )
    found = find_scans(tmp_path)
    assert found.layout == "files"
    assert {s.participant_id: s.path.name for s in found.scans} == {
        "sub-P01": "P_01.nii.gz", "sub-2": "sub-2.nii",
    }  # fmt: skip
    assert found.participants["age"].to_dict() == {"sub-P01": 50, "sub-2": 40}
    notes = " ".join(found.notes)
    assert "the layout is not known" in notes
    assert "2 files in folders below, or of another format, are left out" in notes


def test_a_known_layout_goes_first(tmp_path):
    touch(tmp_path, "IXI002-Guys-0828-T1.nii.gz", "other.nii.gz")
    assert find_scans(tmp_path).layout == "ixi"
    assert find_scans(tmp_path, "files").layout == "files"


def test_two_names_of_one_person_are_refused(tmp_path):
    touch(tmp_path, "a-1.nii.gz", "a1.nii.gz")
    with pytest.raises(CohortError, match=r"a1\.nii\.gz would both be sub-a1\. List the scans"):
        find_scans(tmp_path)
