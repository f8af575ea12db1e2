"""Files that are whole or absent: what a failed or killed write leaves, and who may read it."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from synthbench.runtime.files import remove_leftovers, replacing, write_atomic
from synthbench.runtime.owner import Process, is_left_behind, temporary_name


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def _usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_file_that_does_not_fit_is_named_and_the_one_before_stays(number, tmp_path, monkeypatch):
    file = tmp_path / "card.json"
    file.write_bytes(b"before")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        write_atomic(file, b"after")
    assert (caught.value.errno, caught.value.filename) == (number, str(file))
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
    assert file.read_bytes() == b"before"


def test_a_full_disk_is_known_by_the_text_of_safetensors(tmp_path):
    file = tmp_path / "weights.safetensors"
    with pytest.raises(OSError, match="No space left") as caught, replacing(file):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))
    assert not list(tmp_path.iterdir())


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "x"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_usual_umask")
def test_only_the_owner_reads_participant_level_data(tmp_path):
    public, private, weights = (tmp_path / name for name in ("public", "private", "weights"))
    private.write_bytes(b"before")  # for all to read
    write_atomic(public, b"x")
    write_atomic(private, b"x", private=True)
    with replacing(weights) as file:
        save_file({"a": np.zeros(3)}, file)
    assert [mode(file) for file in (public, private, weights)] == [0o644, 0o600, 0o644]


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.write_bytes(b"before")
    link.symlink_to(target)
    write_atomic(link, b"after")
    assert link.is_symlink()
    assert target.read_bytes() == b"after"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    """So is /dev/null, which root could replace."""
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomic(pipe, b"card")
    reader.join(timeout=10)
    assert found == [b"card"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_two_containers_with_one_process_number_write_under_different_names(monkeypatch):
    """The host's name, its system's start and the process are the same in both."""
    monkeypatch.setattr(Process, "this", classmethod(lambda cls: cls("node", "b", "n", 7, 1.0)))
    names = {temporary_name() for _ in range(100)}
    assert len(names) == 100
    assert max(map(len, names)) < 100


def of_process(name: str, *, machine: str | None = None, pid: int | None = None) -> str:
    """A temporary name with another machine or process number in it."""
    parts = name.split("-")
    parts[1:3] = [machine or parts[1], str(pid or parts[2])]
    return "-".join(parts)


def test_leftovers_of_processes_that_have_ended_go_and_others_stay(tmp_path):
    """Number 2**22 + 1 is beyond the largest process number of Linux, so nobody has it."""
    own = temporary_name()
    dead = of_process(own, pid=2**22 + 1)
    elsewhere = of_process(own, machine="00000000", pid=2**22 + 1)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in (own, dead, elsewhere, ".theirs.tmp", "a.tmp"):
        (tmp_path / "a" / "b" / name).write_bytes(b"half")
    (tmp_path / dead).mkdir()  # of a checkpoint
    (tmp_path / dead / "model.safetensors").write_bytes(b"half")
    remove_leftovers(tmp_path)
    there = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert there == {own, elsewhere, ".theirs.tmp", "a.tmp"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert is_left_behind(elsewhere, age=3601)
    assert not is_left_behind(own, age=1e9)
