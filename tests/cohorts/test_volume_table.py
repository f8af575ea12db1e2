"""Tables with a row a volume: how rows are found, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthbench.cohorts.volume_table import VolumeTable, typed
from synthbench.errors import UsageError
from tests.named_cohorts import named_cohort


def write(folder: Path, text: str, name: str = "table.csv") -> VolumeTable:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return VolumeTable.read(file, "--measures")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("file,age\nb/sub-2_T1w.nii.gz,2\na/sub-1_T1w.nii.gz,1\n", id="path"),
        pytest.param("file,age\nsub-2_T1w.nii.gz,2\nsub-1_T1w.nii.gz,1\n", id="file name"),
        pytest.param("subject,age\nsub-2_T1w,2\nsub-1_T1w,1\n", id="as SynthSeg writes"),
        pytest.param("age,participant_id\n2,sub-2\n1,sub-1\n", id="participant"),
        pytest.param("Measure:volume\tage\nsub-2\t2\nsub-1\t1\n", id="as FreeSurfer writes"),
        pytest.param("scan,age\nsub-2, 2\nsub-1, 1\nsub-3, 3\n", id="first column, one row more"),
    ],
)
def test_rows_are_found_by_any_name_of_a_volume(tmp_path, text):
    table = write(tmp_path, text)
    cohort = named_cohort(["a/sub-1_T1w.nii.gz", "b/sub-2_T1w.nii.gz"],
                          subjects=["sub-1", "sub-2"])  # fmt: skip
    rows = table.rows(cohort, "real")
    assert rows is not None
    assert table.values("age", rows) == [1, 2]


def test_a_file_name_that_two_volumes_share_names_neither(tmp_path):
    table = write(tmp_path, "file,age\nT1w.nii.gz,1\n")
    cohort = named_cohort(["a/T1w.nii.gz", "b/T1w.nii.gz"], subjects=["a", "b"])
    assert table.rows(cohort, "real") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("file,age\na,1\n", "no row for 1 of the 2 synth volumes .first: b", id="none"),
        pytest.param("file,age\na,1\nb,1\nb,2\n", "names b in more than one row", id="two"),
    ],
)
def test_volumes_without_a_row_of_their_own_are_refused(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        write(tmp_path, text).rows(named_cohort(["a.nii", "b.nii"]), "synth")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("file\na\n", "needs one row per volume.* one with values", id="no column"),
        pytest.param("file,age\n", "found 0 rows", id="no rows"),
        pytest.param("", "cannot be read", id="empty"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        write(tmp_path, text)


def test_a_table_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(UsageError, match=r"--measures .*none.csv: cannot be read: No such file"):
        VolumeTable.read(tmp_path / "none.csv", "--measures")


def test_a_wrong_column_is_answered_with_the_nearest(tmp_path):
    table = write(tmp_path, "file,ventricles\na,1\n")
    with pytest.raises(UsageError, match="did you mean 'ventricles'"):
        table.values("ventricle", [0])


def test_cells_are_numbers_unless_one_is_none():
    assert typed(["1", "2.5", "n/a"]) == [1.0, 2.5, None]
    assert typed(["1", "F", ""]) == ["1", "F", None]
