"""The participants of a cohort, from participants.tsv and from manifests."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest

from synthbench.cohorts.conditions import rows_of
from synthbench.cohorts.preflight.check import findings_between
from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.tables.participants import read_participants
from synthbench.errors import CohortError
from tests.cohorts.files import save
from tests.conftest import blob


@pytest.fixture
def bids(tmp_path):
    """Return a function that writes a table beside four subjects."""
    for i in range(1, 5):
        anat = tmp_path / f"sub-00{i}" / "anat"
        anat.mkdir(parents=True)
        save(blob(i), anat / f"sub-00{i}_T1w.nii.gz")
    (tmp_path / "dataset_description.json").write_text("{}", encoding="utf-8")

    def write(text, name="participants.tsv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.mark.parametrize("spelling", ["{:03d}", "{}", "sub-{}", "SUB-{:02d}", "{}.0"])
def test_ids_are_matched_in_any_spelling_and_it_is_said(bids, spelling):
    rows = "".join(f"{spelling.format(i)}\t{20 + i}\n" for i in range(1, 5))
    root = bids("participant_id\tage\n" + rows).parent
    cohort = read_cohort(root)
    assert [row["age"] for row in sorted(rows_of(cohort, ["age"]), key=str)] == [21, 22, 23, 24]
    exact = spelling in ("{:03d}", "sub-{:03d}")
    (remark,) = cohort.remarks
    assert "4 of 4 subjects were matched" in remark.message
    assert exact == ("first: '001'" in remark.message)


def test_a_table_of_nobody_is_refused(bids):
    root = bids("participant_id\tage\nA\t1\nB\t2\n").parent
    with pytest.raises(CohortError, match="0 of 4 subjects are matched"):
        read_cohort(root)


def test_a_flat_folder_is_matched_by_the_names_of_its_files(make_cohort):
    folder = make_cohort("c", n=2)
    for i in range(2):
        (folder / f"sub-00{i}.nii.gz").rename(folder / f"PAT{i}.nii.gz")
    (folder / "participants.tsv").write_text(
        "participant_id\tage\npat_0\t30\npat_1\t40\n", encoding="utf-8"
    )
    cohort = read_cohort(folder)
    assert {e.subject for e in cohort.entries} == {"pat_0", "pat_1"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("1\t20\n1\t77\n", r"more than one row \(lines 2, 3\).*'age' is 20 and 77"),
        ("1\t20\nsub-01\t20\n", "one person or two"),
        ("n/a\t20\n", "line 2, column 'participant_id'"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(bids, rows, words):
    with pytest.raises(CohortError, match=words):
        read_participants(bids("participant_id\tage\n" + rows))


def test_a_repeated_row_is_one_row(bids):
    found = read_participants(bids("participant_id\tage\n1\t20\n2\t30\n1\t20.0\n"))
    assert found.table["age"].tolist() == [20, 30]
    assert "1 rows repeat" in found.notes[0]


MANIFEST = "path,participant_id,session,age,sex\n"


def test_a_manifest_may_give_each_visit_its_age(bids):
    rows = [f"sub-00{i}/anat/sub-00{i}_T1w.nii.gz" for i in range(1, 5)]
    text = f"{rows[0]},a,1,70,F\n{rows[1]},a,2,72.5,F\n{rows[2]},b,1,60,M\n{rows[3]},c,1,50,M\n"
    cohort = read_cohort(bids(MANIFEST + text, "m.csv"))
    ages = {e.name: r["age"] for e, r in zip(cohort.entries, rows_of(cohort, ["age"]), strict=True)}
    assert [ages[name] for name in rows] == [70, 72.5, 60, 50]
    assert cohort.participants.loc["a", "age"] == 70
    for wrong in (text.replace("72.5,F", "72.5,M"), text.replace("a,2,", "a,1,")):
        with pytest.raises(CohortError, match=r"contradict each other \(lines 2, 3"):
            read_cohort(bids(MANIFEST + wrong, "m.csv"))


def test_an_empty_id_in_a_manifest_is_nobody(bids):
    text = "path,participant_id\nsub-001/anat/sub-001_T1w.nii.gz,\n"
    with pytest.raises(CohortError, match="every row needs an id"):
        read_cohort(bids(text, "m.csv"))


def test_a_person_spelt_in_two_ways_on_two_sides_is_found(bids):
    rows = [f"sub-00{i}/anat/sub-00{i}_T1w.nii.gz" for i in range(1, 5)]
    real = bids(f"path,participant_id\n{rows[0]},sub-01\n{rows[1]},sub-02\n", "real.csv")
    train = bids(f"path,participant_id\n{rows[2]},1\n{rows[3]},3\n", "train.csv")
    cohorts = {"real": read_cohort(real), "train": read_cohort(train)}
    (found,) = [f for f in findings_between(cohorts) if f.rule == "subjects"]
    assert found.volumes == (rows[0],)


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_time_of_a_large_table_grows_with_its_rows_alone(repeats, tmp_path):
    """Of 30,000 ages, or 15,000 pairs of rows, all pairs would take more than a minute."""
    rows = [f"p{i // repeats}\t{20 + i // repeats * 1e-3:.3f}\n" for i in range(30_000)]
    file = tmp_path / "participants.tsv"
    file.write_text(f"participant_id\tage\n{''.join(rows)}", encoding="utf-8")
    began = time.process_time()
    assert len(read_participants(file).table) == 30_000 / repeats
    assert time.process_time() - began < 10


def test_more_columns_than_a_table_of_people_has_are_refused(tmp_path):
    file = tmp_path / "participants.tsv"
    names = "\t".join(f"c{i}" for i in range(5_000))
    file.write_text(f"participant_id\t{names}\n", encoding="utf-8")
    with pytest.raises(CohortError, match="5001 columns"):
        read_participants(file)


@pytest.mark.skipif(
    sys.getfilesystemencoding() != "utf-8", reason="this locale's file names cannot have both"
)
def test_an_accent_in_one_character_or_two_is_the_same_person(make_cohort):
    """Some file systems write the accent of a file's name as a character of its own."""
    one, two = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    folder = make_cohort("c", n=3)
    (folder / "sub-000.nii.gz").rename(folder / f"{one}.nii.gz")
    (folder / "sub-001.nii.gz").rename(folder / f"{two}.nii.gz")
    assert len({entry.subject for entry in read_cohort(folder).entries}) == 2
    table = folder.parent / "people.csv"
    rows = [f"c/{name}.nii.gz,{name}\n" for name in (one, two, "sub-002")]
    table.write_text(f"path,participant_id\n{''.join(rows)}", encoding="utf-8")
    with pytest.raises(CohortError, match="one person or two"):
        read_cohort(table)
