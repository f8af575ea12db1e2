"""Parts of a call, drawn by several jobs and merged: the folder of the undivided call."""

from __future__ import annotations

import errno
import json
import os
import time

import pytest

from synthbench.cohorts.choice import CohortFiles
from synthbench.errors import UsageError
from synthbench.runtime.part import Part
from synthbench.sampling import merging, sampling
from synthbench.sampling.importing import ImportRequest, import_volumes

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch):
    """Seconds in sidecars are measured; all else must be the same bytes."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def drawn(run, out, of, n=7, **options):
    """Draw all parts, each into a folder of its own."""
    folders = []
    for number in range(1, of + 1):
        folders.append(out / f"part-{number}")
        sampling.sample(run, n, folders[-1], part=Part(number, of), **options)
    return folders


@pytest.mark.parametrize("options", [{}, {"shards": 3, "seed": 4}], ids=["files", "shards"])
def test_merged_parts_are_the_undivided_call_to_the_byte(run, tmp_path, options):
    sampling.sample(run, 7, tmp_path / "whole", **options)
    folders = drawn(run, tmp_path, 3, **options)
    # Linked, copied, and merged again.
    for _ in range(2):
        files = merging.merge(folders[::-1], tmp_path / "merged")
        assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert len(files) == 7


def test_merging_copies_where_nothing_can_be_linked(run, tmp_path, monkeypatch):
    link = os.link

    def refused(source, target):
        if ".synthbench" in str(source):  # a lock is a link too
            return link(source, target)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    sampling.sample(run, 3, tmp_path / "whole")
    folders = drawn(run, tmp_path, 2, n=3)
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refused)
        merging.merge(folders, tmp_path / "merged")
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


def test_merged_parts_of_an_import_are_the_undivided_one(make_cohort, tmp_path):
    source = CohortFiles(make_cohort("source", n=5))
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    import_volumes(ImportRequest(source, "other", whole))
    folders = [tmp_path / f"part-{number}" for number in (1, 2)]
    for number, folder in enumerate(folders, 1):
        for _ in range(2):  # again: what is there is kept
            import_volumes(ImportRequest(source, "other", folder, part=Part(number, 2)))
    assert len(merging.merge(folders, merged)) == 5
    assert content(merged) == content(whole)
    with pytest.raises(UsageError, match="another call"):
        import_volumes(ImportRequest(source, "mine", folders[0], part=Part(1, 2)))


def test_parts_that_are_missing_doubled_or_unfinished_are_named(run, tmp_path):
    one, two, three = drawn(run, tmp_path, 3)
    sampling.sample(run, 7, tmp_path / "again", part=Part(2, 3))
    with pytest.raises(UsageError, match=r"2 of 3 parts are missing: 1/3, 3/3"):
        merging.merge([two], tmp_path / "merged")
    with pytest.raises(UsageError, match=r"2/3 is there twice: .*part-2 and .*again"):
        merging.merge([one, two, tmp_path / "again", three], tmp_path / "merged")
    record = json.loads((three / "part.json").read_text(encoding="utf-8"))
    record["finished"] = False
    (three / "part.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match=r"not finished: 3/3"):
        merging.merge([one, two, three], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_parts_of_different_calls_are_refused(run, tmp_path):
    one, _ = drawn(run, tmp_path, 2)
    other = tmp_path / "other"
    sampling.sample(run, 7, other, seed=1, part=Part(2, 2))
    with pytest.raises(UsageError, match="another call"):
        merging.merge([one, other], tmp_path / "merged")
    with pytest.raises(UsageError, match="holds no part"):
        merging.merge([one, tmp_path / "run"], tmp_path / "merged")


def test_a_part_that_was_changed_is_named(run, tmp_path):
    one, two = drawn(run, tmp_path, 2)
    (two / "synth-000005.nii.gz").write_bytes(b"other")
    with pytest.raises(UsageError, match=r"part 2/2 .*synth-000005\.nii\.gz"):
        merging.merge([one, two], tmp_path / "merged")


def test_a_folder_holds_one_part_of_one_call(run, tmp_path):
    folder = tmp_path / "part"
    sampling.sample(run, 4, folder, part=Part(1, 2))
    with pytest.raises(UsageError, match=r"holds the part 1/2"):
        sampling.sample(run, 4, folder, part=Part(2, 2))
    with pytest.raises(UsageError, match=r"holds the part 1/2"):
        sampling.sample(run, 4, folder)
    with pytest.raises(UsageError, match="another call"):
        sampling.sample(run, 5, folder, part=Part(1, 2))
    with pytest.raises(UsageError, match="only 4 files"):
        sampling.sample(run, 4, tmp_path / "p", part=Part(1, 5))


@pytest.mark.parametrize("text", ["0/3", "4/3", "a/3", "3", "1/0", "-1/3", "1/3/5"])
def test_a_part_is_written_as_number_of(text):
    with pytest.raises(UsageError, match="NUMBER/OF"):
        Part.parse(text)
