"""`synthbench data prepare` on a small cohort: what is written, kept, refused and reported."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synthbench.cli.app import app
from synthbench.cohorts.preparation import Settings, prepare
from synthbench.cohorts.preparation import cohort as cohort_module
from synthbench.cohorts.preparation.derivative import write_covariates
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CheckFailed, Stopped, UsageError
from tests.cohorts.preparation.heads import COARSE, GRID, save
from tests.command_line import run

pytestmark = pytest.mark.slow

STEM = "sub-A_ses-1_space-MNI152"
TRUNCATED = b"\x1f\x8b no volume"


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file but those that hold seconds."""
    timed = (".json", "summary.tsv")
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(timed)
    }


def quick(source: Path, out: Path, **options):
    return prepare(source, out, settings=COARSE, **options)


@pytest.fixture(scope="module")
def source(person, tmp_path_factory) -> Path:
    """A manifest of one good scan and one that was cut off while it was copied."""
    folder: Path = tmp_path_factory.mktemp("source")
    save(person.scan, folder / "a.nii.gz")
    (folder / "b.nii.gz").write_bytes(TRUNCATED)
    table = pd.DataFrame(
        {
            "path": ["a.nii.gz", "b.nii.gz"],
            "participant_id": ["sub-A", "sub-B"],
            "session": ["ses-1", "ses-1"],
            "age": [61.5, 40.0],
            "sex": ["F", "M"],
        }
    )
    table.to_csv(folder / "scans.csv", index=False)
    return folder / "scans.csv"


@pytest.fixture(scope="module")
def good(source) -> Path:
    """A manifest of the good scan alone."""
    manifest: Path = source.with_name("good.csv")
    pd.read_csv(source).head(1).to_csv(manifest, index=False)
    return manifest


@pytest.fixture(scope="module")
def out(source, tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("prepared") / "out"
    with pytest.raises(CheckFailed, match="1 of 2 scans could not be prepared:\n  sub-B_ses-1: b"):
        quick(source, folder)
    return folder


def test_one_failed_scan_stops_no_other_and_is_named(out):
    ok, failed = pd.read_csv(out / "summary.tsv", sep="\t").to_dict("records")
    assert (ok["scan"], ok["status"]) == ("sub-A_ses-1", "ok")
    assert ok["brain_ml"] > 600
    assert (failed["scan"], failed["status"]) == ("sub-B_ses-1", "failed")
    assert "cannot be read" in failed["reason"]
    assert not (out / "sub-B").exists()


def test_the_derivative_is_a_cohort_that_keeps_its_covariates(out):
    cohort = read_cohort(out)
    assert len(cohort) == 1
    assert cohort.grid.same_grid(GRID)
    assert cohort.participants.loc["sub-A"].to_dict() == {"age": 61.5, "sex": "F"}
    assert list(cohort.participants.index) == ["sub-A"]


def test_the_files_of_a_scan(out):
    anat = out / "sub-A" / "ses-1" / "anat"
    assert {file.name for file in anat.iterdir()} == {
        f"{STEM}_desc-prepared_T1w.nii.gz",
        f"{STEM}_desc-prepared_T1w.json",
        f"{STEM}_desc-brain_mask.nii.gz",
        f"{STEM}_desc-quality_T1w.png",
    }
    volume = nib.load(anat / f"{STEM}_desc-prepared_T1w.nii.gz").get_fdata()
    mask = nib.load(anat / f"{STEM}_desc-brain_mask.nii.gz").get_fdata()
    assert set(np.unique(mask)) == {0, 1}
    assert not volume[mask == 0].any()


def test_the_sidecar_says_how_it_was_made(out):
    sidecar = json.loads(
        (out / f"sub-A/ses-1/anat/{STEM}_desc-prepared_T1w.json").read_text(encoding="utf-8")
    )
    assert sidecar["Settings"]["shape"] == list(GRID.shape)
    assert sidecar["Settings"]["denoise"] is False
    assert np.shape(sidecar["AffineMNI152ToScanner"]) == (4, 4)
    assert {"SimpleITK", "dipy", "synthbench"} <= set(sidecar["Software"])
    assert {"brain_ml", "correlation_brain", "seconds"} <= set(sidecar["Measured"])


def test_the_terms_of_use_go_with_the_data(out):
    description = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))
    assert description["DatasetType"] == "derivative"
    assert description["License"] in (out / "DATA_USE_TERMS.txt").read_text(encoding="utf-8")


def test_what_is_there_is_kept(good, out, monkeypatch):
    """The step that would do the work again is taken away."""
    before = {file: file.stat().st_mtime_ns for file in out.rglob("sub-A*") if file.is_file()}
    monkeypatch.setattr("synthbench.cohorts.preparation.pipeline.prepare_scan", None)
    summary = quick(good, out)
    assert list(summary["status"]) == ["ok"]
    assert {f: f.stat().st_mtime_ns for f in before} == before


def test_a_killed_run_is_repeated_to_the_same_bytes_whatever_the_jobs(good, out, tmp_path):
    """The sidecar comes last: without it a scan counts as not done, and stray files as nothing."""
    anat = tmp_path / "sub-A" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    (anat / f"{STEM}_desc-prepared_T1w.nii.gz").write_bytes(b"half of it")
    said: list[str] = []
    quick(good, tmp_path, jobs=2, log=said.append)
    assert digests(tmp_path) == digests(out)
    assert "terms of use" in said[0]


def test_other_settings_are_refused_by_name(good, out):
    with pytest.raises(UsageError, match=r"1 scans .* other settings: sub-A_ses-1\. Name another"):
        prepare(good, out, settings=COARSE.model_copy(update={"denoise": True}))


def test_a_source_that_changed_since_is_not_written_over(person, good, out, tmp_path):
    table = pd.read_csv(good)
    save(type(person.scan)(person.scan.volume + 1, person.scan.space), tmp_path / "a.nii.gz")
    table.to_csv(tmp_path / "changed.csv", index=False)
    with pytest.raises(CheckFailed, match=r"made from other voxels than a\.nii\.gz"):
        quick(tmp_path / "changed.csv", out)


def test_a_folder_of_something_else_is_refused(good, tmp_path):
    (tmp_path / "dataset_description.json").write_text(
        '{"GeneratedBy": [{"Name": "fmriprep"}]}', encoding="utf-8"
    )
    with pytest.raises(UsageError, match="another dataset \\(made by fmriprep\\)"):
        quick(good, tmp_path)


def test_two_scans_of_one_name_are_refused(good, tmp_path):
    table = pd.read_csv(good)
    twice = pd.concat([table, table.assign(path="b.nii.gz")])
    manifest = good.with_name("twice.csv")
    twice.to_csv(manifest, index=False)
    with pytest.raises(UsageError, match="several scans each"):
        quick(manifest, tmp_path / "out")


def test_a_missing_package_is_named_with_what_installs_it(good, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort_module, "find_spec", lambda name: None if name == "dipy" else 1)
    with pytest.raises(UsageError, match=r"needs dipy.* pip install 'synthbench\[prepare\]'"):
        quick(good, tmp_path)


def test_an_absent_tool_and_no_jobs_are_refused_before_any_work(good, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="pip install hd-bet"):
        prepare(good, tmp_path / "out", settings=Settings.chosen(brain_extraction="hd-bet"))
    with pytest.raises(UsageError, match="--jobs 0: at least 1"):
        quick(good, tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_does_not_answer_is_named(good, tmp_path, monkeypatch):
    def refuse(address, timeout):
        raise OSError("connection refused")

    monkeypatch.setattr("distributed.Client", refuse)
    with pytest.raises(UsageError, match="--dask tcp://nobody:1: no scheduler answers"):
        quick(good, tmp_path / "out", dask="tcp://nobody:1")
    assert not (tmp_path / "out").exists()


def test_the_command_exits_1_where_a_scan_failed(source, tmp_path):
    bad = source.with_name("bad.csv")
    pd.read_csv(source).tail(1).to_csv(bad, index=False)
    ran = run("data", "prepare", bad, "--out", tmp_path)
    assert ran.returncode == 1
    assert "1 of 1 scans could not be prepared" in ran.stderr
    assert "sub-B_ses-1: b.nii.gz: cannot be read" in ran.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--brain-extraction", "hdbet"), "did you mean 'hd-bet'?"),
        (("--spacing", "-1"), "a positive number of mm"),
    ],
    ids=["unknown tool", "spacing"],
)
def test_wrong_options_exit_2_with_the_next_step(options, words, good, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    ran = run("data", "prepare", good, "--out", tmp_path, *options)
    assert ran.returncode == 2
    assert words in ran.stderr


def test_covariates_that_change_between_visits_go_to_the_sessions_table(tmp_path):
    """Sex is one a person; age is not. A participant of an earlier run stays in the table."""
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\nsub-0\tM\n", encoding="utf-8")
    (tmp_path / "sub-A").mkdir()
    (tmp_path / "sub-B").mkdir()
    rows = pd.DataFrame(
        {
            "path": ["a", "b", "c"],
            "participant_id": ["sub-A", "sub-A", "sub-B"],
            "session": ["ses-1", "ses-2", "ses-1"],
            "sex": ["F", "F", None],
            "age": [60, 62, 55],
        }
    )
    write_covariates(tmp_path, rows)
    table = (tmp_path / "participants.tsv").read_text(encoding="utf-8")
    assert table == "participant_id\tsex\nsub-0\tM\nsub-A\tF\nsub-B\tn/a\n"
    visits = (tmp_path / "sub-A" / "sub-A_sessions.tsv").read_text(encoding="utf-8")
    assert visits == "session_id\tage\nses-1\t60\nses-2\t62\n"


def test_volumes_of_something_else_are_refused(good, tmp_path):
    """Without a dataset_description.json too; the folder is left as it was."""
    (tmp_path / "sub-9.nii.gz").write_bytes(b"")
    with pytest.raises(UsageError, match=r"1 volumes that .* did not write \(first: .*sub-9\.nii"):
        quick(good, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["sub-9.nii.gz"]


def test_a_manifests_scans_bring_their_datasets_terms(good, out, tmp_path):
    """The scan is taken away from the dataset's root; its description says what binds it."""
    for name in ("a.nii.gz", "good.csv"):
        (tmp_path / name).write_bytes((good.parent / name).read_bytes())
    (tmp_path / "dataset_description.json").write_text(
        '{"License": "X agreement"}', encoding="utf-8"
    )
    said: list[str] = []
    quick(tmp_path / "good.csv", copied(out, tmp_path), log=said.append)
    terms = (tmp_path / "out" / "DATA_USE_TERMS.txt").read_text(encoding="utf-8")
    assert terms.startswith("X agreement\n")
    assert "terms of use: X agreement" in said[0]


def copied(out: Path, folder: Path) -> Path:
    """A copy of what was prepared, so that nothing has to be prepared again."""
    return Path(shutil.copytree(out, folder / "out"))


def test_progress_begins_with_the_total_and_says_what_was_kept(source, out, tmp_path):
    calls: list[tuple[str, int, int]] = []
    with pytest.raises(CheckFailed):
        quick(source, copied(out, tmp_path), progress=lambda *step: calls.append(step))
    assert calls[0] == ("", 0, 2)
    assert {words for words, _, _ in calls[1:]} == {"sub-A_ses-1 (kept)", "sub-B_ses-1 (failed)"}
    summary = pd.read_csv(tmp_path / "out" / "summary.tsv", sep="\t")
    assert summary["kept"].tolist() == [True, False]


def test_an_interrupted_run_says_how_far_it_came(source, out, tmp_path, monkeypatch):
    """The first scan is there from before; Ctrl-C comes while the second is being read."""

    def interrupted(scan, out, settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort_module, "prepare_task", interrupted)
    with pytest.raises(Stopped, match="stopped; 1 of 2 scans are done") as stopped:
        quick(source, copied(out, tmp_path))
    assert stopped.value.exit_code == 130


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([True, True], "0 scans prepared, 2 kept from an earlier run, in "),
        ([False, False], "2 scans prepared, in "),
    ],
)
def test_the_verb_counts_what_was_kept_apart(kept, words, tmp_path, monkeypatch):
    def prepared(source, out, progress, **options):
        progress("", 0, 2)
        progress("sub-A", 1, 2)
        return pd.DataFrame({"kept": kept})

    monkeypatch.setattr(cohort_module, "prepare", prepared)
    ran = CliRunner().invoke(app, ["data", "prepare", "scans", "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert ran.stderr.startswith(words)
