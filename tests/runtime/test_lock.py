"""Locks of output folders: who is refused, whose lock is taken over, and what stays."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from synthbench.errors import InUseError, UsageError
from synthbench.runtime import lock
from synthbench.runtime.lock import LOCK, content_of, only_writer, only_writer_of
from synthbench.runtime.owner import Process

NOBODY = 2**22 + 1
"""One more than the largest process number of Linux."""


def left(folder: Path, **changes) -> Path:
    """The lock that a process left in a folder: this one, with changes."""
    owner = lock._Owner.this()
    owner = replace(owner, process=replace(owner.process, **changes), token="0123456789abcdef")
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_bytes(owner.as_bytes())
    return folder / LOCK


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_second_of_two_is_refused_by_name_and_the_first_works_on(tmp_path):
    with only_writer(tmp_path / "run"):
        (tmp_path / "run" / "x").touch()
        with pytest.raises(InUseError) as caught, only_writer(tmp_path / "run"):
            pytest.fail("two writers")
        assert names(tmp_path / "run") == [LOCK, "x"]
        assert content_of(tmp_path / "run") == {"x"}
    for word in (str(tmp_path / "run"), str(os.getpid()), socket.gethostname()):
        assert word in str(caught.value)
    assert caught.value.exit_code == 2
    assert names(tmp_path / "run") == ["x"]


@pytest.mark.parametrize(
    "changes",
    [{"pid": NOBODY}, {"started": 1.0}, {"boot": "an earlier start"}],
    ids=["ended", "another process has its number", "the machine was started again"],
)
def test_the_lock_of_a_process_that_has_ended_is_taken_over_and_said_so(changes, tmp_path, caplog):
    left(tmp_path, **changes)
    with only_writer(tmp_path) as taken_over:
        assert taken_over
        with pytest.raises(InUseError), only_writer(tmp_path):
            pytest.fail("two writers")
    assert "taken over" in caplog.text
    assert str(tmp_path) in caplog.text
    assert names(tmp_path) == []


def test_a_process_that_was_killed_leaves_a_lock_that_is_taken_over(tmp_path, caplog):
    """Also while it is a zombie: its parent has not asked for its exit code."""
    program = (
        "import os, sys, signal; from pathlib import Path\n"
        "from synthbench.runtime.lock import only_writer\n"
        "with only_writer(Path(sys.argv[1])):\n"
        "    print('holds', flush=True); signal.pause()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "holds\n"
        with pytest.raises(InUseError, match=str(child.pid)), only_writer(tmp_path):
            pytest.fail("two writers")
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with only_writer(tmp_path) as taken_over:
            assert taken_over
    assert names(tmp_path) == []


def test_the_lock_of_another_machine_is_refused_and_the_message_says_what_to_do(tmp_path):
    found = left(tmp_path, host="node17", pid=NOBODY)
    with pytest.raises(InUseError) as caught, only_writer(tmp_path):
        pytest.fail("another machine may write here")
    assert "node17" in str(caught.value)
    assert f"delete {found}" in str(caught.value)
    found.unlink()  # as the message says
    with only_writer(tmp_path) as taken_over:
        assert not taken_over


def test_another_container_of_this_machine_is_asked_through_the_system(tmp_path):
    """Its process numbers mean nothing here, but its lock on the file is seen."""
    found = left(tmp_path, namespace="another", pid=NOBODY)
    descriptor = os.open(found, os.O_RDWR)
    assert lock.fcntl is not None
    lock.fcntl.flock(descriptor, lock.fcntl.LOCK_EX)
    with pytest.raises(InUseError), only_writer(tmp_path):
        pytest.fail("it runs")
    os.close(descriptor)
    with only_writer(tmp_path) as taken_over:
        assert taken_over


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"process": {}}', b"[" * 100_000],
    ids=["empty", "cut", "list", "no text", "no fields", "nested"],
)
def test_a_lock_that_names_no_owner_is_refused_by_name(content, tmp_path):
    (tmp_path / LOCK).write_bytes(content)
    with pytest.raises(InUseError, match="delete this file") as caught, only_writer(tmp_path):
        pytest.fail("whose is it?")
    assert str(tmp_path / LOCK) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("token", "../../../x"), ("since", "\x1b[31m"), ("host", "a\nb"), ("pid", "x")],
)
def test_fields_of_a_lock_are_checked_before_they_are_used(field, value, tmp_path):
    found = left(tmp_path, pid=NOBODY)
    fields = json.loads(found.read_bytes())
    (fields if field in fields else fields["process"])[field] = value
    found.write_text(json.dumps(fields))
    with pytest.raises(InUseError, match="names no owner"), only_writer(tmp_path):
        pytest.fail("whose is it?")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_systems_without_hard_links_have_locks_too(number, tmp_path, monkeypatch):
    def no_links(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    with only_writer(tmp_path):
        with pytest.raises(InUseError), only_writer(tmp_path):
            pytest.fail("two writers")
        assert names(tmp_path) == [LOCK]
    left(tmp_path, pid=NOBODY)
    with only_writer(tmp_path) as taken_over:
        assert taken_over
    assert names(tmp_path) == []


def test_the_answer_of_a_link_may_be_lost_on_a_network(tmp_path, monkeypatch):
    """The server made the link, and answers the repeated request that there is one."""
    real = os.link

    def repeated(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", repeated)
    with only_writer(tmp_path) as taken_over:
        assert not taken_over
    assert names(tmp_path) == []


def test_a_claim_that_a_killed_process_left_is_removed(tmp_path):
    """It was killed while it took a lock over: before the step, and after it."""
    found = left(tmp_path, pid=NOBODY)
    claim = tmp_path / f"{LOCK}.0123456789abcdef"
    claim.write_bytes(found.read_bytes().replace(b"0123456789abcdef", b"fedcba9876543210"))
    with only_writer(tmp_path):
        pass
    assert names(tmp_path) == []
    left(tmp_path, pid=NOBODY).rename(claim)
    with only_writer(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert names(tmp_path) == []
    (tmp_path / "empty").mkdir()
    with only_writer(tmp_path / "empty"):
        pass
    with only_writer(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "x").touch()
    assert names(tmp_path) == ["a", "empty"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="name a folder"), only_writer(tmp_path / "file"):
        pass


def test_the_lock_of_a_file_is_beside_it(tmp_path):
    """Other files of the folder may be written at the same time."""
    with only_writer_of(tmp_path / "card[1].json"), only_writer_of(tmp_path / "other.json"):
        with pytest.raises(InUseError, match=r"card\[1\].json"):
            only_writer_of(tmp_path / "card[1].json").__enter__()
        assert names(tmp_path) == [".card[1].json.lock", ".other.json.lock"]
    assert names(tmp_path) == []


def test_a_full_disk_is_named_with_the_folder(tmp_path, monkeypatch):
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space") as caught, only_writer(tmp_path / "run"):
        pass
    assert caught.value.filename == str(tmp_path / "run")
    assert names(tmp_path) == []


@pytest.mark.slow
def test_processes_that_find_the_same_dead_lock_hold_it_one_after_the_other(tmp_path):
    """Six forked processes try 25 times each, and leave the lock behind half of the times.

    One that holds the lock makes a file that must not be there, and removes it.
    """
    program = """
import os, random, sys
from pathlib import Path
import logging; logging.disable()
from synthbench.errors import InUseError
from synthbench.runtime import lock
folder = Path(sys.argv[1])

def turn(draw):
    try:
        held = lock.only_writer(folder)
        held.__enter__()
    except InUseError:
        return
    os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
    os.unlink(folder / "inside")
    with (folder / "turns").open("a") as turns:
        turns.write("x")
    if draw.random() < 0.5:
        held.__exit__(None, None, None)
    os._exit(0)

def worker(seed):
    draw = random.Random(seed)
    for _ in range(25):
        if (child := os.fork()) == 0:
            try:
                turn(draw)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            os._exit(1)
        draw.random()
    os._exit(0)

children = []
for seed in range(6):
    if (child := os.fork()) == 0:
        worker(seed)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children) != 0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len((tmp_path / "turns").read_text()) > 10
    with only_writer(tmp_path):
        pass
    assert names(tmp_path) == ["turns"]


def test_a_process_of_this_machine_is_known_to_run_or_to_have_ended():
    here = Process.this()
    assert here.has_ended() is False
    assert replace(here, pid=NOBODY).has_ended() is True
    assert replace(here, started=here.started + 1).has_ended() is True
    assert replace(here, host="elsewhere").has_ended() is None
    assert replace(here, namespace="elsewhere").has_ended() is None
