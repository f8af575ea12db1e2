from __future__ import annotations

import pytest

from synthbench.runtime.walk import dicom_advice, files_below, is_dicom


def touch(file, content=b""):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def names(root):
    return [file.relative_to(root).as_posix() for file in files_below(root)]


def test_linked_folders_are_listed_under_the_links_names(tmp_path):
    touch(tmp_path / "store" / "a" / "anat" / "x.nii")
    root = tmp_path / "root"
    touch(root / "b.nii")
    (root / "sub-a").symlink_to(tmp_path / "store" / "a")
    (root / "c.nii").symlink_to(tmp_path / "store" / "a" / "anat" / "x.nii")
    assert names(root) == ["b.nii", "c.nii", "sub-a/anat/x.nii"]


def test_loops_end_and_every_folder_is_listed_once_by_its_own_name(tmp_path):
    touch(tmp_path / "z" / "x.nii")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "z" / "up").symlink_to(tmp_path)
    (tmp_path / "z" / "self").symlink_to(".")
    assert names(tmp_path) == ["z/x.nii"]


def test_a_link_to_what_lies_above_adds_nothing(tmp_path):
    """It would add the folders beside the root, or the whole disk."""
    touch(tmp_path / "beside" / "x.nii")
    touch(tmp_path / "root" / "a" / "y.nii")
    (tmp_path / "root" / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "root" / "disk").symlink_to("/")
    assert names(tmp_path / "root") == ["a/y.nii"]


def test_hidden_folders_are_passed_over_unless_a_link_leads_there(tmp_path):
    touch(tmp_path / ".git" / "annex" / "x.nii")
    assert names(tmp_path) == []
    (tmp_path / "sub-a").symlink_to(tmp_path / ".git" / "annex")
    assert names(tmp_path) == ["sub-a/x.nii"]


def test_a_link_to_a_file_that_is_not_there_is_listed(tmp_path):
    (tmp_path / "x.nii").symlink_to("nowhere")
    assert names(tmp_path) == ["x.nii"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("IM0001", bytes(128) + b"DICM" + bytes(8), True),
        ("a.dcm", b"", True),
        ("a.DCM", b"", True),
        ("IM0002", bytes(200), False),
        ("short", b"DICM", False),
    ],
)
def test_dicom_is_told_by_its_name_or_by_its_magic_word(tmp_path, name, content, expected):
    """DICOM PS3.10: a preamble of 128 bytes, then the four letters DICM."""
    assert is_dicom(touch(tmp_path / name, content)) is expected


def test_the_advice_names_a_file_and_quotes_the_folder(tmp_path):
    folder = tmp_path / "my scans"
    touch(folder / "notes.txt")
    assert dicom_advice(folder, files_below(folder)) is None
    touch(folder / "IM0001", bytes(128) + b"DICM")
    advice = dicom_advice(folder, files_below(folder))
    assert advice is not None
    assert str(folder / "IM0001") in advice
    assert advice.endswith(f"dcm2niix -z y -o OUT '{folder}'")
