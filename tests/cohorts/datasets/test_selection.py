"""Choosing scans by condition; the expected scans are read off the tables that the tests write."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synthbench.cli.app import app
from synthbench.cohorts.datasets.data_use import terms_of
from synthbench.cohorts.datasets.layouts import known_layouts
from synthbench.cohorts.datasets.scans import DataUseTerms
from synthbench.cohorts.datasets.selection import chosen_scans, columns_of, describe, select
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, UsageError

LAYOUTS = known_layouts()
PEOPLE = """participant_id\tage\tsex\tdiagnosis\tM/F
sub-01\t40\tF\tCN\tf
sub-02\t55\tM\tCN\tm
sub-03\t60\tF\tMCI\tf
sub-04\t72\tF\tCN\tf
sub-05\tn/a\tM\tCN\tm
"""


@pytest.fixture
def cohort(tmp_path):
    """Five people; sub-04 has visits 2 and 10, and two runs at the former."""
    root = tmp_path / "cohort"
    names = [f"sub-0{i}/anat/sub-0{i}_T1w.nii.gz" for i in (1, 2, 3, 5)]
    names += [f"sub-04/ses-2/anat/sub-04_ses-2_run-{run}_T1w.nii.gz" for run in (2, 1)]
    names += ["sub-04/ses-10/anat/sub-04_ses-10_T1w.nii.gz"]
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -10
    for seed, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(seed).random((5, 6, 7), dtype=np.float32)
        nib.save(nib.Nifti1Image(voxels, affine), file)
    (root / "participants.tsv").write_text(PEOPLE, encoding="utf-8")
    return root


def names(rows):
    return [Path(path).name.removesuffix("_T1w.nii.gz") for path in rows["path"]]


def test_a_manifest_that_a_cohort_is_read_from(cohort, tmp_path):
    out = tmp_path / "lists" / "old.csv"
    rows = select(cohort, out, where="diagnosis == 'CN' and age > 50")
    expected = ["sub-02", "sub-04_ses-2_run-1", "sub-04_ses-2_run-2", "sub-04_ses-10"]
    assert names(rows) == expected
    assert rows["path"].tolist()[0] == "../cohort/sub-02/anat/sub-02_T1w.nii.gz"
    assert list(rows)[:3] == ["path", "participant_id", "session"]
    read = read_cohort(out)
    assert sorted(e.subject for e in read.entries) == ["sub-02", "sub-04", "sub-04", "sub-04"]
    assert read.participants.loc["sub-02", "age"] == 55
    written = pd.read_csv(out, na_values=["n/a"])
    assert written["session"].fillna("none").tolist() == ["none", "ses-2", "ses-2", "ses-10"]


@pytest.mark.parametrize(
    ("scan", "kept"), [("first", "sub-04_ses-2_run-1"), ("last", "sub-04_ses-10")]
)
def test_one_scan_of_the_first_or_last_visit(cohort, scan, kept):
    chosen = chosen_scans(cohort, where="age > 50", one_scan_per_subject=True, scan=scan)
    assert names(chosen.rows) == ["sub-02", "sub-03", kept]
    # Of seven scans, sub-01's and sub-05's do not fit (one without age), and two of sub-04's go.
    assert chosen.found == 7
    assert chosen.dropped[0] == "2 scans dropped by --where (1 without age)"
    assert chosen.dropped[1].startswith("2 scans skipped by --one-scan-per-subject")
    assert "3 scans of 3 subjects kept" in chosen.account()


@pytest.mark.parametrize(
    ("where", "subjects"),
    [
        ("sex == 'F'", {"01", "03", "04"}),
        ("`M/F` == 'f' and age >= 60", {"03", "04"}),
        ("diagnosis in ['MCI', 'AD'] or age < 50", {"01", "03"}),
        ("not (age > 50)", {"01", "05"}),
        ("age.isna()", {"05"}),
        ("50 < age < 70", {"02", "03"}),
        ("sex == 'F' & age / 2 > 30", {"04"}),
        ("diagnosis.str.startswith('M')", {"03"}),
        ("participant_id != 'sub-04' and age.between(55, 60)", {"02", "03"}),
        ("session == 'ses-10'", {"04"}),
    ],
)
def test_conditions(cohort, where, subjects):
    rows = chosen_scans(cohort, where=where).rows
    assert {name[4:6] for name in rows["participant_id"]} == subjects


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("agee > 50", "no column 'agee'; did you mean 'age'"),
        ("`M/G` == 'f'", "no column 'M/G'; did you mean 'M/F'"),
        ("age > @limit", "'@' is not allowed"),
        ("age.__class__ == 1", "'age.__class__' is not allowed"),
        ("age.to_csv('x')", "'age.to_csv' is not allowed"),
        ("__import__('os').getcwd() == 1", "is not allowed"),
        ("[a for a in age]", "is not allowed"),
        ("age[0] > 1", "is not allowed"),
        ("sex = 'F'", "Compare with =="),
        ("age > 'old'", r"cannot be evaluated.*age \(numbers\)"),
        ("age", "is not a condition"),
        ("3 > 2", "names no column"),
    ],
)
def test_what_is_no_condition_is_refused(cohort, where, message):
    with pytest.raises(UsageError, match=message):
        chosen_scans(cohort, where=where)


def test_no_match_shows_the_values_there_are(cohort):
    with pytest.raises(CohortError, match="none of 7 scans fits") as error:
        chosen_scans(cohort, where="diagnosis == 'AD' and age > 50")
    assert "diagnosis: CN 6, MCI 1" in str(error.value)
    assert "age: 40 to 72, missing 1" in str(error.value)


def test_a_manifest_is_selected_from_again(cohort, tmp_path):
    """The rows are put in order, and paths follow the new manifest."""
    table = pd.DataFrame(
        {
            "path": [f"cohort/sub-04/ses-{s}/anat/sub-04_ses-{s}{r}_T1w.nii.gz"
                     for s, r in ((10, ""), (2, "_run-2"), (2, "_run-1"))],
            "participant_id": "04", "session": ["10", "2", "2"], "run": ["", "10", "9"],
            "age": [75, 72, 72],
        }
    )  # fmt: skip
    table.to_csv(tmp_path / "all.tsv", sep="\t", index=False)
    rows = select(
        tmp_path / "all.tsv", tmp_path / "new" / "one.tsv", where="age < 80",
        one_scan_per_subject=True,
    )  # fmt: skip
    assert rows["path"].tolist() == ["../cohort/sub-04/ses-2/anat/sub-04_ses-2_run-1_T1w.nii.gz"]
    assert rows["participant_id"].tolist() == ["04"]
    assert len(read_cohort(tmp_path / "new" / "one.tsv")) == 1


def test_broken_manifests_and_outputs_are_refused(cohort, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,age\nx.nii,3\n", encoding="utf-8")
    with pytest.raises(CohortError, match="'participant_id' is needed"):
        chosen_scans(manifest)
    manifest.write_text("path,participant_id\nx.nii,a\n", encoding="utf-8")
    with pytest.raises(CohortError, match="1 of 1 listed files do not exist"):
        chosen_scans(manifest)
    with pytest.raises(UsageError, match="has no layout"):
        chosen_scans(manifest, layout="bids")
    with pytest.raises(UsageError, match="already there"):
        select(cohort, manifest)
    with pytest.raises(UsageError, match=r"a \.csv or \.tsv"):
        select(cohort, tmp_path / "m.txt")
    with pytest.raises(UsageError, match="first or last"):
        chosen_scans(cohort, scan="best")


def test_the_same_selection_is_the_same_file(cohort, tmp_path):
    for name in ("a.csv", "b.csv"):
        select(cohort, tmp_path / name, where="age > 50")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_link_keeps_the_scans_name(cohort, tmp_path):
    """git-annex replaces a file by a link to an object that is named by its hash."""
    scan = cohort / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    scan.rename(tmp_path / "MD5E-s1--0.nii.gz")
    scan.symlink_to(tmp_path / "MD5E-s1--0.nii.gz")
    rows = select(cohort, tmp_path / "m.csv", where="age < 50")
    assert names(rows) == ["sub-01"]


def test_values_are_described_by_range_or_count():
    assert describe(pd.Series([1.0, 2.5, 7, None])) == "1 to 7, missing 1"
    assert describe(pd.Series([0.0, 0, 1])) == "0.0 2, 1.0 1"
    many = describe(pd.Series([f"s{i:02}" for i in range(10)]))
    assert many.endswith("and 2 other values")


def test_the_verb_says_what_was_kept_and_under_what_terms(cohort, tmp_path):
    out = tmp_path / "m.csv"
    result = CliRunner().invoke(
        app,
        ["data", "select", str(cohort), "--where", "age > 50", "--one-scan-per-subject",
         "--list", "--out", str(out)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "bids: 7 scans found" in result.stderr
    assert "3 scans of 3 subjects kept" in result.stderr
    assert "terms of use: not known" in result.stderr
    assert result.stdout.splitlines()[0].split("\t")[:3] == ["participant_id", "session", "run"]
    assert len(result.stdout.splitlines()) == 4
    assert len(pd.read_csv(out)) == 3


def test_the_verb_needs_somewhere_to_write(cohort):
    result = CliRunner().invoke(app, ["data", "select", str(cohort)])
    assert result.exit_code != 0
    assert isinstance(result.exception, UsageError)


def described(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(text, encoding="utf-8")


def test_a_manifests_terms_are_those_of_the_dataset_its_scans_lie_in(cohort, tmp_path):
    select(cohort, tmp_path / "m.csv")
    assert chosen_scans(tmp_path / "m.csv").terms.name == "not known"
    described(cohort, '{"License": "CC0", "ReferencesAndLinks": ["https://x.org"]}')
    terms = chosen_scans(tmp_path / "m.csv").terms
    assert (terms.name, terms.url) == ("CC0", "https://x.org")


def test_terms_that_were_carried_over_are_carried_on(cohort, tmp_path):
    described(cohort, '{"DatasetType": "derivative", "License": "X agreement"}')
    carried = DataUseTerms("X agreement", "https://x.org", "Pass nothing on.\nAsk first.")
    (cohort / "DATA_USE_TERMS.txt").write_text(carried.as_text(), encoding="utf-8")
    select(cohort, tmp_path / "m.csv")
    assert chosen_scans(tmp_path / "m.csv").terms == chosen_scans(cohort).terms == carried


def test_a_folder_of_links_to_subjects_has_their_datasets_terms(cohort, tmp_path):
    described(cohort, '{"License": "CC0"}')
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "sub-01").symlink_to(cohort / "sub-01")
    assert chosen_scans(linked).terms.name == "CC0"


ORIGINAL = {
    "adni": "ADNI/002_S_0413/MPRAGE/2006-05-19_16_17_47.0/I45117/x.nii",
    "ppmi": "PPMI_T1/PPMI/3000/MPRAGE/2010-05-19_16_17_47.0/I45117/x.nii",
    "nifd": "NIFD/1_S_0001/t1_mprage/2010-05-19_16_17_47.0/I45117/x.nii",
    "oasis1": "disc1/OAS1_0001_MR1/RAW/OAS1_0001_MR1_mpr-1_anon.hdr",
    "oasis2": "OAS2_RAW_PART1/OAS2_0001_MR1/RAW/mpr-1.nifti.hdr",
    "oasis3": "OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
    "camcan": "BIDS_20190411/anat/sub-CC110033/anat/sub-CC110033_T1w.nii.gz",
    "ixi": "IXI002-Guys-0828-T1.nii.gz",
}


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("bids", "files")])
def test_scans_of_a_public_cohort_keep_its_terms_in_a_manifest(name, tmp_path):
    """Whatever a dataset_description.json says there; and no other cohort claims them."""
    described(tmp_path, '{"License": "see website"}')
    file = tmp_path / ORIGINAL[name]
    assert terms_of([file]) == LAYOUTS[name].terms
    assert [key for key, layout in LAYOUTS.items() if layout.holds(file)] == [name]


def test_scans_of_several_datasets_bring_all_terms(tmp_path):
    described(tmp_path / "a", '{"License": "CC0"}')
    files = [tmp_path / "a" / "1.nii", tmp_path / "a" / "2.nii", tmp_path / ORIGINAL["ixi"]]
    terms = terms_of(files)
    assert terms.name == "CC0; CC BY-SA 3.0"
    assert "2 scans: CC0." in terms.text
    assert "1 scans: CC BY-SA 3.0. https://creativecommons.org" in terms.text


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("sex == F", "sex == 'F'"),
        ("age > 50 and sex == F", "age > 50 and sex == 'F'"),
        ("sex in [F, M]", "sex in ['F', M]"),
        ("`M/F` == F", "`M/F` == 'F'"),
        ("F > 3", None),
        ("ages > 3", None),
    ],
)
def test_an_unknown_name_that_is_compared_is_offered_in_quotes(where, hint):
    with pytest.raises(UsageError) as refused:
        columns_of(where, ["age", "sex", "M/F"])
    quoted = f'If it is a value, quote it: --where "{hint}"'
    assert (quoted in str(refused.value)) is (hint is not None)
    assert ("quote it" in str(refused.value)) is (hint is not None)
