"""Parts of a preparation, made by several jobs and merged: the folder of the undivided run.

The preparation itself is replaced by one that was done before: it is the files and tables that are
compared.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from synthbench.cohorts.preparation import cohort, prepare
from synthbench.cohorts.preparation.merging import FILE
from synthbench.errors import CheckFailed, UsageError
from synthbench.runtime.part import Part
from tests.cohorts.preparation.heads import COARSE, save
from tests.command_line import run

pytestmark = pytest.mark.slow

# The ages of A and C change between visits, and of A both visits fall into one part of two.
SCANS = """path,participant_id,session,age,weight,site
a1.nii.gz,sub-A,ses-1,61.5,70,x
a2.nii.gz,sub-A,ses-2,62.5,70,x
b1.nii.gz,sub-B,ses-1,40,,y
c1.nii.gz,sub-C,ses-1,30,55,y
c2.nii.gz,sub-C,ses-2,31,55,y
"""


@pytest.fixture
def source(person, prepared_person, tmp_path, monkeypatch) -> Path:
    """A manifest of five scans; seconds in sidecars and tables are always 0."""
    folder: Path = tmp_path / "source"
    folder.mkdir()
    save(person.scan, folder / "a1.nii.gz")
    for name in ("a2", "b1", "c1", "c2"):
        os.link(folder / "a1.nii.gz", folder / f"{name}.nii.gz")
    (folder / "scans.csv").write_text(SCANS, encoding="utf-8")
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(
        "synthbench.cohorts.preparation.pipeline.prepare_scan", lambda *_: prepared_person
    )
    return folder / "scans.csv"


def content(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def prepared(source: Path, out: Path, of: int = 2) -> list[Path]:
    """Prepare all parts, each into a folder of its own."""
    folders = [out / str(number) for number in range(1, of + 1)]
    for number, folder in enumerate(folders, 1):
        prepare(source, folder, settings=COARSE, part=Part(number, of))
    return folders


@pytest.mark.parametrize("of", [1, 2, 5])
def test_merged_parts_are_the_undivided_run_to_the_byte(source, tmp_path, of):
    whole = prepare(source, tmp_path / "whole", settings=COARSE)
    folders = prepared(source, tmp_path / "parts", of)
    for _ in range(2):  # merged again: what is there stays
        summary = cohort.merge(folders[::-1], tmp_path / "merged")
        assert content(tmp_path / "merged") == content(tmp_path / "whole")
    pd.testing.assert_frame_equal(summary, whole)
    assert "sub-A/sub-A_sessions.tsv" in content(tmp_path / "merged")


def test_scans_that_failed_are_named_and_the_others_merged(source, tmp_path):
    source.with_name("b1.nii.gz").unlink()
    source.with_name("b1.nii.gz").write_bytes(b"\x1f\x8b no volume")
    with pytest.raises(CheckFailed):
        prepare(source, tmp_path / "whole", settings=COARSE)
    prepare(source, tmp_path / "1", settings=COARSE, part=Part(1, 2))
    with pytest.raises(CheckFailed, match="1 of 3 scans could not be prepared:\n  sub-B_ses-1"):
        prepare(source, tmp_path / "2", settings=COARSE, part=Part(2, 2))
    merged = run("merge", tmp_path / "1", tmp_path / "2", "--out", tmp_path / "merged")
    assert merged.returncode == 1
    assert "1 of 5 scans could not be prepared:\n  sub-B_ses-1: b1.nii.gz" in merged.stderr
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


def test_parts_that_are_missing_doubled_or_of_another_call_are_named(source, tmp_path):
    one, two = prepared(source, tmp_path / "parts")
    out = tmp_path / "merged"
    lacks = run("merge", one, "--out", out)
    assert (lacks.returncode, "1 of 2 parts are missing: 2/2" in lacks.stderr) == (2, True)
    again = tmp_path / "again"
    prepare(source, again, settings=COARSE, part=Part(2, 2))
    with pytest.raises(UsageError, match="2/2 is there twice"):
        cohort.merge([one, two, again], out)
    other = COARSE.model_copy(update={"denoise": True})
    prepare(source, tmp_path / "other", settings=other, part=Part(2, 2))
    with pytest.raises(UsageError, match="another call"):
        cohort.merge([one, tmp_path / "other"], out)
    with pytest.raises(UsageError, match="holds the part 1/2"):
        prepare(source, one, settings=COARSE)
    assert not out.exists()


def test_a_part_with_a_missing_file_or_a_wrong_table_is_named(source, tmp_path):
    one, two = prepared(source, tmp_path / "parts")
    record = json.loads((two / FILE).read_text(encoding="utf-8"))
    for path, value in (
        (("columns", "age", "values"), [1.0]),
        (("columns", "age", "values", 0), "old"),
        (("summary", 0, "seconds"), "long"),
    ):
        wrong = json.loads(json.dumps(record))
        inner: Any = wrong
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        (two / FILE).write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(UsageError, match=FILE):
            cohort.merge([one, two], tmp_path / "merged")
    (two / FILE).write_text(json.dumps(record), encoding="utf-8")
    next(two.rglob("sub-B*mask.nii.gz")).unlink()
    with pytest.raises(UsageError, match="files of the scan sub-B_ses-1 are missing"):
        cohort.merge([one, two], tmp_path / "merged")


def test_a_folder_with_other_volumes_is_refused(source, tmp_path):
    one, two = prepared(source, tmp_path / "parts")
    prepare(source, tmp_path / "out", settings=COARSE)
    extra = tmp_path / "out" / "sub-D_space-MNI152_desc-prepared_T1w.nii.gz"
    extra.write_bytes(b"other")
    with pytest.raises(UsageError, match=r"holds sub-D.*none of the parts"):
        cohort.merge([one, two], tmp_path / "out")
    extra.unlink()
    changed = next((tmp_path / "out").rglob("sub-A*ses-2*T1w.nii.gz"))
    changed.write_bytes(b"other")
    with pytest.raises(UsageError, match="is there with other bytes"):
        cohort.merge([one, two], tmp_path / "out")
