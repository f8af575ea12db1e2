"""Cohorts in shards: the same cohort as of single files, and what damage takes from it."""

from __future__ import annotations

import json

import pytest

from synthbench.cohorts.preflight import check
from synthbench.cohorts.reading import examine, read_cohort
from synthbench.cohorts.split import split
from synthbench.errors import CohortError
from synthbench.runtime import tar
from synthbench.runtime.files import sha256_file


@pytest.fixture
def folders(make_cohort, tmp_path):
    """Return four volumes as files, the same in two shards, and a function that writes a table."""
    single, shards = make_cohort("single", n=4, seed=3), tmp_path / "shards"
    shards.mkdir()
    files = sorted(single.glob("*.nii.gz"))
    for name, held in (("a.tar", files[:2]), ("b.tar", files[2:])):
        entries = [tar.entry(file.name, file.read_bytes()) for file in held]
        entries.insert(1, tar.entry("sub-000.json", b"{}"))
        (shards / name).write_bytes(b"".join(entries) + tar.END)

    def table() -> None:
        rows = ["path\tsha256"]
        for name, held in (("a.tar", files[:2]), ("b.tar", files[2:])):
            rows += [f"{name}/{file.name}\t{sha256_file(file)}" for file in held]
        (shards / "shards.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    return single, shards, table


def cut(shard):
    """Cut a shard in its last volume."""
    shard.write_bytes(shard.read_bytes()[:-2000])


def test_a_cohort_in_shards_is_the_cohort_of_its_files(folders):
    """With and without the table, by the table, and by a list of paths."""
    single, shards, table = folders
    one, without = read_cohort(single), read_cohort(shards)
    table()
    paths = [entry.path for entry in without.entries]
    for other in (without, read_cohort(shards), read_cohort(shards / "shards.tsv"),
                  read_cohort(paths)):  # fmt: skip
        assert other.fingerprint == one.fingerprint
        assert other.subjects.tolist() == one.subjects.tolist()
        assert (other.load(2) == one.load(2)).all()
    assert {entry.name for entry in without.entries} >= {"a.tar/sub-000.nii.gz"}


def test_a_table_of_participants_beside_the_shards_is_read(folders):
    _, shards, _ = folders
    (shards / "participants.tsv").write_text(
        "participant_id\tage\nsub-000\t30\nsub-003\t40\n", encoding="utf-8"
    )
    cohort = read_cohort(shards)
    ages = dict(zip([e.subject for e in cohort.entries], cohort.covariates["age"], strict=True))
    assert (ages["sub-000"], ages["sub-003"]) == (30, 40)


def test_a_split_of_shards_is_read_from_its_manifests(folders, tmp_path):
    _, shards, _ = folders
    split(shards, {"train": 3, "holdout": 1}, tmp_path / "split")
    parts = [read_cohort(tmp_path / "split" / f"{part}.tsv") for part in ("train", "holdout")]
    assert [len(part) for part in parts] == [3, 1]
    digests = {entry.digest for part in parts for entry in part.entries}
    assert digests == {entry.digest for entry in read_cohort(shards).entries}


def test_a_truncated_shard_names_its_volumes_and_nothing_else_is_lost(folders, tmp_path):
    single, shards, table = folders
    table()
    cut(shards / "a.tar")
    found = examine(shards)
    assert list(found.problems) == ["a.tar/sub-001.nii.gz"]
    assert "truncated" in found.problems["a.tar/sub-001.nii.gz"]
    with pytest.raises(CohortError, match=r"a\.tar/sub-001\.nii\.gz"):
        read_cohort(shards)
    with pytest.raises(CohortError, match="cannot be counted as a failure"):
        read_cohort(shards, role="synth", count_failures=True)
    assert found.cohort is not None
    manifest = tmp_path / "whole.csv"
    whole = ["path", *(f"shards/{entry.name}" for entry in found.cohort.entries)]
    manifest.write_text("\n".join(whole), encoding="utf-8")
    kept = {e.digest for e in read_cohort(single).entries if e.name != "sub-001.nii.gz"}
    assert {e.digest for e in read_cohort(manifest).entries} == kept


def test_a_missing_shard_names_its_volumes(folders):
    _, shards, table = folders
    table()
    (shards / "b.tar").unlink()
    assert sorted(examine(shards).problems) == ["b.tar/sub-002.nii.gz", "b.tar/sub-003.nii.gz"]


def test_without_a_table_a_truncated_shard_is_refused(folders):
    """Nobody knows what it held."""
    _, shards, _ = folders
    cut(shards / "a.tar")
    with pytest.raises(CohortError, match=r"a\.tar: it is truncated: it ends in sub-001\.nii\.gz"):
        read_cohort(shards)


def test_a_volume_with_other_bytes_than_its_table_states_is_refused(folders):
    _, shards, table = folders
    table()
    rows = (shards / "shards.tsv").read_text(encoding="utf-8").splitlines()
    rows[2] = rows[2].split("\t")[0] + "\t" + "0" * 64
    (shards / "shards.tsv").write_text("\n".join(rows), encoding="utf-8")
    found = examine(shards)
    assert list(found.problems) == ["a.tar/sub-001.nii.gz"]
    assert "sha256" in found.problems["a.tar/sub-001.nii.gz"]


@pytest.mark.parametrize(
    ("row", "message"),
    [("../single/sub-000.nii.gz\tx", "no volume in a shard"), ("a.tar/sub-000.nii.gz\tx", "twice"),
     ("sub-000.nii.gz\tx", "no volume in a shard")],
)  # fmt: skip
def test_a_table_that_names_other_files_is_refused(folders, row, message):
    _, shards, table = folders
    table()
    with (shards / "shards.tsv").open("a", encoding="utf-8") as file:
        file.write(f"{row}\n")
    with pytest.raises(CohortError, match=message):
        read_cohort(shards)


def test_shards_that_are_not_finished_or_not_in_the_table_are_refused(folders):
    _, shards, table = folders
    table()
    (shards / "c.tar").write_bytes((shards / "a.tar").read_bytes())
    with pytest.raises(CohortError, match=r"1 shards are not in shards\.tsv \(first: c\.tar\)"):
        read_cohort(shards)
    (shards / "c.tar").rename(shards / "c.partial.tar")
    with pytest.raises(CohortError, match="not finished"):
        read_cohort(shards)


def test_a_file_that_is_no_tar_file_is_refused_by_name(folders):
    _, shards, _ = folders
    (shards / "c.tar").write_text("no archive", encoding="utf-8")
    with pytest.raises(CohortError, match=r"c\.tar: cannot be read: it is no tar file"):
        read_cohort(shards)


def test_a_tar_file_beside_volumes_is_left_out_and_counted(folders):
    """As a download lies beside the files that were unpacked from it."""
    single, shards, _ = folders
    (shards / "a.tar").rename(single / "download.tar")
    cohort = read_cohort(single)
    assert len(cohort) == 4
    assert cohort.notes == ("1 tar files left out, because volumes lie beside them",)


def test_what_sidecars_in_shards_tell_of_persons_is_found(folders):
    _, shards, _ = folders
    about = json.dumps({"PatientName": "Anna Schmidt"}).encode()
    content = (shards / "b.tar").read_bytes()[: -len(tar.END)]
    (shards / "b.tar").write_bytes(content + tar.entry("sub-003.json", about) + tar.END)
    found = [f for f in check.report(shards).findings if f.rule == "identifying-table"]
    assert len(found) == 1
    assert "b.tar/sub-003.json" in found[0].message
