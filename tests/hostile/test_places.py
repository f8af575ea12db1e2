"""Folders of strangers with what is no file in them: pipes, devices, and links that lead out."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from synthbench.cohorts.datasets.data_use import terms_of
from synthbench.cohorts.datasets.description import read_description
from synthbench.cohorts.listing import list_cohort
from synthbench.cohorts.provenance import sources
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, InUseError, UsageError
from synthbench.runtime import files
from synthbench.runtime.documents import read_text
from synthbench.runtime.files import holding, sha256_file, write_atomic
from synthbench.runtime.lock import LOCK, only_writer
from synthbench.sampling.folder import check_is_for_samples
from tests.boards import make_board
from tests.command_line import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")


def pipe(place: Path) -> None:
    os.mkfifo(place)


def endless(place: Path) -> None:
    place.symlink_to("/dev/zero")


def to_itself(place: Path) -> None:
    place.symlink_to(place.name)


def to_nowhere(place: Path) -> None:
    place.symlink_to(place.parent / "absent")


def folder(place: Path) -> None:
    place.mkdir()


ODD = (pipe, endless, to_itself, to_nowhere, folder)


@pytest.mark.parametrize("odd", ODD)
def test_reading_ends_and_names_the_file(odd, tmp_path):
    odd(tmp_path / "x.json")
    with pytest.raises(OSError, match=r"x\.json"):
        sha256_file(tmp_path / "x.json")
    with pytest.raises(UsageError, match=r"x\.json: cannot be read"):
        read_text(tmp_path / "x.json", error=UsageError, fix="Fix it.")


def test_what_a_shell_makes_of_a_command_is_read():
    reads, writes = os.pipe()
    with os.fdopen(writes, "wb") as stream:
        stream.write(b"text")
    assert read_text(Path(f"/dev/fd/{reads}"), error=UsageError, fix="") == "text"
    os.close(reads)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("options", [(), ("--count-failures",)])
def test_a_volume_that_is_no_file(odd, options, make_cohort, tmp_path):
    real, synth = make_cohort("real", n=4), make_cohort("synth", n=4, seed=9)
    odd(synth / "sub-999.nii.gz")
    found = run("score", "--real", real, "--synth", synth, *options, "--out", tmp_path / "c.json",
                "--extractor", "voxels", "--metric", "mmd2")  # fmt: skip
    assert found.returncode == 2
    assert "sub-999.nii.gz" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    ("table", "read"),
    [("participants.tsv", lambda folder: list_cohort(folder, "real")),
     ("dataset_description.json", read_description),
     ("dataset_description.json", lambda folder: terms_of([folder / "sub-000.nii.gz"]))],
)  # fmt: skip
def test_a_table_that_is_no_file_is_not_left_out_silently(odd, table, read, make_cohort):
    cohort = make_cohort("c", n=2)
    odd(cohort / table)
    with pytest.raises(CohortError, match=table):
        read(cohort)


@pytest.mark.parametrize("odd", ODD)
def test_a_sidecar_that_is_no_file_tells_nothing(odd, make_cohort):
    cohort = make_cohort("c", n=2)
    odd(cohort / "sub-000.json")
    assert "Traceback" not in run("data", "info", cohort).stderr


@pytest.mark.parametrize("odd", [*ODD[:4], lambda place: place.symlink_to("/etc/passwd")])
def test_a_lock_that_is_no_file_is_refused(odd, tmp_path):
    odd(tmp_path / LOCK)
    with pytest.raises(InUseError, match="names no owner"), only_writer(tmp_path):
        raise AssertionError("two writers")


# ---------------------------------------------------------------- writing


@pytest.fixture
def outside(tmp_path):
    """A file of the user's, outside the folder that a command writes into."""
    file = tmp_path / "private" / "file"
    file.parent.mkdir()
    file.write_bytes(b"mine")
    return file


@pytest.mark.parametrize("name", ["file", "absent"])
def test_no_link_in_a_held_folder_is_written_through(name, outside, tmp_path):
    held = tmp_path / "held"
    held.mkdir()
    (held / "card").symlink_to(outside.with_name(name))
    with only_writer(held):
        write_atomic(held / "card", b"new")
    assert not (held / "card").is_symlink()
    assert (held / "card").read_bytes() == b"new"
    assert [file.name for file in outside.parent.iterdir()] == ["file"]
    assert outside.read_bytes() == b"mine"


def test_no_linked_folder_is_written_into(outside, tmp_path):
    held = tmp_path / "held"
    held.mkdir()
    (held / "part").symlink_to(outside.parent)
    with only_writer(held), pytest.raises(UsageError, match="leads out of"):
        write_atomic(held / "part" / "file", b"new")
    assert outside.read_bytes() == b"mine"
    write_atomic(held / "part" / "file", b"later")  # no longer held: the user named it


def test_a_held_folder_may_itself_be_a_link(tmp_path):
    (tmp_path / "disk" / "part").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with holding(tmp_path / "out"):
        write_atomic(tmp_path / "out" / "part" / "file", b"x")
    assert (tmp_path / "disk" / "part" / "file").read_bytes() == b"x"


def test_a_pipe_in_a_held_folder_gives_way_to_the_file(tmp_path):
    os.mkfifo(tmp_path / "card")
    with only_writer(tmp_path):
        write_atomic(tmp_path / "card", b"new")
    assert (tmp_path / "card").read_bytes() == b"new"


def test_a_pipe_that_nobody_reads_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIPE_S", 0.1)
    os.mkfifo(tmp_path / "card")
    with pytest.raises(OSError, match="card"):
        write_atomic(tmp_path / "card", b"new")


@pytest.mark.parametrize("name", ["README.md", "method-first-mmd2.svg", "comparisons.json"])
def test_a_board_of_a_pull_request_writes_no_file_of_the_maintainers(name, outside, tmp_path):
    """Git keeps links, so a pull request can bring one in place of the page."""
    board, _ = make_board(tmp_path / "b", {"near": 0.1, "far": 0.6})
    assert run("leaderboard", board).returncode == 0
    if (board / name).exists():
        (board / name).unlink()
    (board / name).symlink_to(outside)
    run("leaderboard", board)
    assert outside.read_bytes() == b"mine"


def test_a_board_of_a_pull_request_publishes_no_file_of_the_maintainers(outside, tmp_path):
    board, _ = make_board(tmp_path / "b", {"near": 0.1, "far": 0.6})
    (board / "notes.md").symlink_to(outside)
    found = run("leaderboard", board)
    assert found.returncode == 2
    assert "notes.md" in found.stderr
    assert not (board / "README.md").exists()


def test_terms_that_lead_out_of_a_dataset_are_not_carried_on(outside, make_cohort):
    cohort = make_cohort("c", n=2)
    (cohort / "dataset_description.json").write_text('{"Name": "x", "License": "CC0"}')
    (cohort / "DATA_USE_TERMS.txt").symlink_to(outside)
    with pytest.raises(CohortError, match="DATA_USE_TERMS"):
        sources(read_cohort(cohort))


@pytest.mark.parametrize("name", ["README.md", "seal.json"])
def test_samples_into_a_folder_of_a_stranger_stay_in_it(name, outside, tmp_path):
    first = run("sample", "atlas", "--n", 1, "--steps", 1, "--out", tmp_path / "synth")
    assert first.returncode == 0, first.stderr
    (tmp_path / "synth" / name).unlink(missing_ok=True)
    (tmp_path / "synth" / name).symlink_to(outside.with_name("absent"))
    run("sample", "atlas", "--n", 2, "--steps", 1, "--out", tmp_path / "synth")
    assert [file.name for file in outside.parent.iterdir()] == ["file"]


# ---------------------------------------------------------------- results over inputs


@pytest.fixture
def cards(make_cohort, tmp_path):
    """Two cohorts with tables and sidecars, a manifest, and the card of a scoring."""
    real, synth = make_cohort("real", n=4), make_cohort("synth", n=4, seed=9)
    (real / "participants.tsv").write_text("participant_id\tage\nsub-000\t50\n")
    (synth / "sub-000.json").write_text("{}")
    rows = "".join(f"real/{file.name}\n" for file in sorted(real.glob("*.nii.gz")))
    (tmp_path / "people.csv").write_text(f"path\n{rows}")
    board, _ = make_board(tmp_path / "b", {"near": 0.1})
    shutil.copy(board / "entries" / "near.json", tmp_path / "card.json")
    return tmp_path


SCORE = ("score", "--real", "people.csv", "--synth", "synth", "--extractor", "voxels")


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (SCORE, "--out=real/sub-000.nii.gz"),
        (SCORE, "--out=real/sub-999.nii.gz"),
        (SCORE, "--out=synth/sub-000.json"),
        (SCORE, "--out=people.csv"),
        (SCORE, "--features=people.csv"),
        (SCORE, "--neighbours=real/participants.tsv"),
        (("report", "card.json"), "--out=card.json"),
        (("drift", "card.json", "card.json"), "--junit=card.json"),
        (("data", "select", "people.csv"), "--out=people.csv"),
        (("utility", "--real", "people.csv", "--synth", "synth", "--test", "real", "--label",
          "age"), "--out=people.csv"),
        (("sensitivity", "--real", "people.csv"), "--out=people.csv"),
    ],
)  # fmt: skip
def test_a_result_takes_the_place_of_no_input(command, out, cards):
    def content():
        files = [file for file in sorted(cards.rglob("*")) if file.is_file()]
        return {file: file.read_bytes() for file in files}

    before = content()
    found = run(*command, out, cwd=cards)
    assert found.returncode == 2
    assert out.partition("=")[0] in found.stderr
    assert content() == before


@pytest.mark.parametrize("name", ["participants.tsv", "sub-000.nii.gz", "run.json"])
def test_samples_are_not_mixed_with_what_is_no_sample(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "synth-000009.nii.gz").write_bytes(b"x")
    with pytest.raises(UsageError, match=name):
        check_is_for_samples(tmp_path)
    (tmp_path / name).unlink()
    check_is_for_samples(tmp_path)
    check_is_for_samples(tmp_path / "absent")
