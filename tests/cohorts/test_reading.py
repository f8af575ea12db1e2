"""Reading a cohort from a folder, a BIDS folder or a manifest."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from synthbench.cohorts.datasets.selection import chosen_scans
from synthbench.cohorts.reading import examine, read_cohort
from synthbench.errors import CohortError
from tests.cohorts.files import broken, save
from tests.conftest import AFFINE, blob


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
    (tmp_path / "dataset_description.json").write_text("{}", encoding="utf-8")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\nsub-0\t30\nsub-1\tn/a\n", encoding="utf-8"
    )
    cohort = read_cohort(tmp_path)
    assert len(cohort) == 3
    assert {e.subject for e in cohort.entries} == {"sub-0", "sub-1", "sub-2"}
    assert cohort.participants.loc["sub-0", "age"] == 30
    assert cohort.notes == ("3 files left out: masks, label maps and other maps",)
    assert "sub-0_desc-brain_mask.nii.gz" in cohort.remarks[0].message


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


def test_all_bad_files_are_named_at_once(make_cohort):
    folder = make_cohort("c", n=2)
    broken("nan", folder / "bad1.nii.gz")
    broken("constant", folder / "bad2.nii.gz")
    with pytest.raises(CohortError, match="2 of 4 volumes") as caught:
        read_cohort(folder)
    assert "bad1" in str(caught.value)
    assert "bad2" in str(caught.value)


def test_whatever_is_wrong_with_a_header_the_others_are_read_on(make_cohort):
    """One file each of 28 other data types, which is one fault, and 25 other faults."""
    folder = make_cohort("c", n=2)
    content = (folder / "sub-000.nii.gz").read_bytes()
    header = gzip.decompress(content)
    for i in range(28):
        damaged = header[:70] + (1000 + i).to_bytes(2, "little") + header[72:]
        (folder / f"type-{i:02}.nii").write_bytes(damaged)
    for i in range(25):
        (folder / f"cut-{i:02}.nii").write_bytes(header[: 400 + i])
    with pytest.raises(CohortError, match="53 of 55 volumes") as caught:
        read_cohort(folder)
    words = str(caught.value)
    assert "type-00.nii" in words
    assert words.count("cannot be read") == 20
    assert "and 33 more faults" in words


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
    (tmp_path / "m.csv").write_text(content, encoding="utf-8")
    with pytest.raises(CohortError, match=words):
        read_cohort(tmp_path / "m.csv")


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(CohortError, match="holds no volumes"):
        read_cohort(tmp_path)
    with pytest.raises(CohortError, match="no such path"):
        read_cohort(tmp_path / "nowhere")


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


def test_a_folder_of_dicom_is_answered_with_what_converts_it(tmp_path):
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(CohortError, match=f"holds no volumes.*dcm2niix -z y -o OUT {tmp_path}"):
        read_cohort(tmp_path)


def test_scans_on_grids_of_their_own_are_sent_to_preparation(tmp_path):
    for i in range(3):
        save(blob(i, (20 + i, 20, 20)), tmp_path / f"{i}.nii")
    with pytest.raises(CohortError, match="synthbench data prepare DIR --out PREPARED"):
        read_cohort(tmp_path)
