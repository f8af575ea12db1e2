"""Sampling into shards, resumed after a stop, and exported as single files again."""

from __future__ import annotations

import json
import tarfile

import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CheckFailed, UsageError
from synthbench.runs import seal
from synthbench.runs.sidecar import found_sidecars
from synthbench.runtime import tar
from synthbench.runtime.files import sha256_file
from synthbench.sampling import sampling, shards
from synthbench.sampling.export import export

pytestmark = pytest.mark.slow


class StopError(Exception):
    """Stops a call in mid-run."""


def stopped(after):
    def progress(done, total, text):
        if done == after:
            raise StopError

    return progress


def names(folder):
    return sorted(file.name for file in folder.iterdir() if file.suffix == ".tar")


def test_shards_hold_what_single_files_hold(run, tmp_path):
    """Seven seeds in three shards: two, two and three; the table finds each volume by its bytes."""
    files = sampling.sample(run, 7, tmp_path / "single", seed=5)
    members = sampling.sample(run, 7, tmp_path / "shards", seed=5, shards=3)
    assert names(tmp_path / "shards") == [
        "synth-000005-000006.tar", "synth-000007-000008.tar", "synth-000009-000011.tar",
    ]  # fmt: skip
    assert [sha256_file(member) for member in members] == [sha256_file(file) for file in files]
    one, other = read_cohort(tmp_path / "single"), read_cohort(tmp_path / "shards")
    assert one.fingerprint == other.fingerprint
    own = ("seconds",)
    assert [{k: v for k, v in s.items() if k not in own} for s in found_sidecars(members)] == [
        {k: v for k, v in s.items() if k not in own} for s in found_sidecars(files)
    ]
    with tarfile.open(tmp_path / "shards" / "synth-000005-000006.tar") as archive:
        assert archive.getnames() == [
            "synth-000005.nii.gz", "synth-000005.json", "synth-000006.nii.gz", "synth-000006.json",
        ]  # fmt: skip
    rows = (tmp_path / "shards" / "shards.tsv").read_text(encoding="utf-8").splitlines()
    for row, file in zip(rows[1:], files, strict=True):
        path, offset, length, digest = row.split("\t")
        content = (tmp_path / "shards" / path.split("/")[0]).read_bytes()
        assert content[int(offset) :][: int(length)] == file.read_bytes()
        assert digest == sha256_file(file)
    assert seal.verify(tmp_path / "shards").untouched
    assert "volumes | 7" in (tmp_path / "shards" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("torn", [0, 1, 700])
def test_a_call_that_was_stopped_goes_on_after_the_last_whole_volume(run, tmp_path, torn):
    whole = sampling.sample(run, 7, tmp_path / "whole", shards=2)
    out = tmp_path / "stopped"
    with pytest.raises(StopError):
        sampling.sample(run, 7, out, shards=2, progress=stopped(5))
    assert names(out) == ["synth-000000-000002.tar", "synth-000003-000006.partial.tar"]
    unfinished = out / "synth-000003-000006.partial.tar"
    unfinished.write_bytes(unfinished.read_bytes() + b"\1" * torn)
    seen = []
    members = sampling.sample(run, 7, out, shards=2, progress=lambda *done: seen.append(done))
    assert seen == [(1, 2, "seed 5"), (2, 2, "seed 6")]
    assert names(out) == ["synth-000000-000002.tar", "synth-000003-000006.tar"]
    assert [sha256_file(member) for member in members] == [sha256_file(file) for file in whole]
    assert seal.verify(out).untouched


def test_a_shard_that_lacks_its_end_only_is_finished_without_drawing(run, tmp_path, monkeypatch):
    def killed(shard):
        raise StopError

    with monkeypatch.context() as patched:
        patched.setattr(shards, "finish", killed)
        with pytest.raises(StopError):
            sampling.sample(run, 2, tmp_path / "s", shards=1)
    seen = []
    sampling.sample(run, 2, tmp_path / "s", shards=1, progress=lambda *done: seen.append(done))
    assert seen == []
    assert len(read_cohort(tmp_path / "s")) == 2


def test_more_seeds_are_added_in_shards_of_their_own(run, tmp_path):
    out = tmp_path / "s"
    sampling.sample(run, 2, out, shards=1)
    kept = (out / "synth-000000-000001.tar").read_bytes()
    sampling.sample(run, 2, out, seed=2, shards=1)
    assert (out / "synth-000000-000001.tar").read_bytes() == kept
    assert len(read_cohort(out)) == 4


def test_what_is_divided_in_another_way_is_refused(run, tmp_path):
    out = tmp_path / "s"
    sampling.sample(run, 4, out, shards=2)
    with pytest.raises(UsageError, match="divided in another way"):
        sampling.sample(run, 4, out, shards=4)
    with pytest.raises(UsageError, match="single files would be mixed"):
        sampling.sample(run, 4, out)
    sampling.sample(run, 1, tmp_path / "single")
    with pytest.raises(UsageError, match="shards would be mixed"):
        sampling.sample(run, 1, tmp_path / "single", shards=1)
    with pytest.raises(UsageError, match="--shards 3"):
        sampling.sample(run, 2, tmp_path / "t", shards=3)


def test_a_finished_shard_that_lost_volumes_is_named(run, tmp_path):
    out = tmp_path / "s"
    sampling.sample(run, 4, out, shards=2)
    shard = out / "synth-000002-000003.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(UsageError, match=r"000003\.tar: it lacks 1 of its 2 volumes"):
        sampling.sample(run, 4, out, shards=2)
    shard.unlink()
    sampling.sample(run, 4, out, shards=2)
    assert len(read_cohort(out)) == 4


def test_volumes_of_another_run_are_refused(run, tmp_path, make_cohort):
    sampling.sample(run, 2, tmp_path / "s", shards=1)
    with pytest.raises(UsageError, match="--clean"):
        sampling.sample(run, 2, tmp_path / "s", shards=1, clean=True)


def test_no_link_is_followed_by_what_is_appended(run, tmp_path):
    """A folder of a stranger may hold a link to a file of the user."""
    mine, out = tmp_path / "mine.txt", tmp_path / "s"
    mine.write_text("mine", encoding="utf-8")
    out.mkdir()
    (out / "synth-000000-000001.partial.tar").symlink_to(mine)
    with pytest.raises(OSError, match=r"partial\.tar"):
        sampling.sample(run, 2, out, shards=1)
    assert mine.read_text(encoding="utf-8") == "mine"


# ---------------------------------------------------------------- export


@pytest.fixture
def sharded(run, tmp_path):
    sampling.sample(run, 4, tmp_path / "shards", shards=2)
    return tmp_path / "shards"


def test_an_export_has_the_bytes_of_the_shards_in_a_bids_folder(sharded, tmp_path):
    out = tmp_path / "bids"
    files = export(sharded, out)
    assert files[1] == out / "sub-synth000001" / "anat" / "sub-synth000001_T1w.nii.gz"
    held = sharded / "synth-000000-000001.tar" / "synth-000001.nii.gz"
    assert sha256_file(files[1]) == sha256_file(held)
    about = json.loads(files[1].with_name("sub-synth000001_T1w.json").read_text(encoding="utf-8"))
    assert about == found_sidecars([held])[0]
    cohort = read_cohort(out)
    assert cohort.fingerprint == read_cohort(sharded).fingerprint
    seeds = dict(zip([e.subject for e in cohort.entries], cohort.covariates["seed"], strict=True))
    assert seeds["sub-synth000003"] == 3
    kept = files[1].stat().st_mtime_ns
    assert export(sharded, out) == files
    assert files[1].stat().st_mtime_ns == kept


@pytest.mark.parametrize(("last", "kept"), [("synth-000003.nii.gz", 3), ("synth-000003.json", 4)])
def test_an_export_of_truncated_shards_names_what_is_lost(sharded, tmp_path, last, kept):
    """The shard ends in its last volume, or in that one's sidecar."""
    shard = sharded / "synth-000002-000003.tar"
    shard.write_bytes(shard.read_bytes()[: tar.content(shard).members[last].offset + 9])
    with pytest.raises(CheckFailed, match=r"1 of 4.*\n.*synth-000003\.nii\.gz.*truncated"):
        export(sharded, tmp_path / "bids")
    assert len(read_cohort(tmp_path / "bids")) == kept


def test_an_export_refuses_folders_that_hold_other_data(sharded, tmp_path):
    with pytest.raises(UsageError, match="it lies in"):
        export(sharded, sharded / "bids")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("1", encoding="utf-8")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        export(sharded, tmp_path / "other")
    export(sharded, tmp_path / "bids")
    file = tmp_path / "bids" / "sub-synth000001" / "anat" / "sub-synth000001_T1w.nii.gz"
    file.write_bytes(b"other")
    with pytest.raises(UsageError, match="other bytes"):
        export(sharded, tmp_path / "bids")
