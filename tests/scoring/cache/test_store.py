"""The cache: what a row's key depends on, damage, concurrency, limits, and its commands."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from synthbench.errors import UsageError
from synthbench.runtime.owner import temporary_name
from synthbench.scoring.cache import keys, store
from synthbench.scoring.cache.keys import row_key
from synthbench.scoring.cache.store import Cache, clear, usage
from synthbench.volumes.grid import PAPER_GRID
from tests.command_line import run

EXTRACTOR = {
    "name": "x", "weights_sha256": "ab", "preprocessing": "p-v1", "layer": "last", "dim": 3,
    "space": None,
}  # fmt: skip
ROW = np.array([0.1, -2.5, 3e-30], dtype=np.float32)


def key(volume="volume", computed_with="torch 1, cpu", **changes):
    return row_key(SimpleNamespace(**{**EXTRACTOR, **changes}), volume, computed_with)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", limit=10**6)


def files(cache):
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "changes",
    [
        {"volume": "another"}, {"computed_with": "torch 1, cuda"}, {"name": "y"},
        {"weights_sha256": None}, {"preprocessing": "p-v2"}, {"layer": "first"}, {"dim": 4},
        {"space": PAPER_GRID},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_key_depends_on_all_that_a_row_depends_on(changes):
    assert key() == key()
    assert key(**changes) != key()


def test_another_schema_finds_no_earlier_row(monkeypatch):
    before = key()
    monkeypatch.setattr(keys, "SCHEMA", keys.SCHEMA + 1)
    assert key() != before


def test_a_row_comes_back_bit_for_bit(cache):
    assert cache.find(key(), "x", 3) is None
    cache.keep(key(), "x", ROW)
    found = cache.find(key(), "x", 3)
    assert found.dtype == np.float32
    assert found.tobytes() == ROW.tobytes()
    assert cache.find(key(), "x", 4) is None
    assert cache.find(key(), "y", 3) is None
    assert cache.find(key(volume="another"), "x", 3) is None


def test_what_is_made_is_for_its_owner_only(cache):
    cache.keep(key(), "x", ROW)
    for folder in (cache.folder, cache.folder / "x"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:40],
        lambda whole: whole[:-1],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: bytes([whole[0] ^ 1]) + whole[1:],
        lambda whole: b"another program's file, of some length" * 9,
    ],
    ids=["empty", "no data", "truncated", "a bit of data", "another key", "foreign"],
)
def test_a_damaged_row_counts_as_absent_and_is_replaced(cache, damage):
    said: list[str] = []
    cache.log = said.append
    cache.keep(key(), "x", ROW)
    (file,) = files(cache)
    file.write_bytes(damage(file.read_bytes()))
    assert cache.find(key(), "x", 3) is None
    assert [words.split(": ")[0] for words in said] == [str(file)]
    cache.keep(key(), "x", ROW)
    assert np.array_equal(cache.find(key(), "x", 3), ROW)


def kept(cache, n):
    keys = [key(volume=str(i)) for i in range(n)]
    for one in keys:
        cache.keep(one, "x", ROW)
    return keys


def set_age(cache, one, seconds):
    used = time.time() - seconds
    os.utime(cache._path("features", "x", one), (used, used))


def test_the_least_recently_used_rows_go_first(cache):
    """A row takes 32 + 32 + 3 * 4 = 76 bytes. Row i is i s old, until row 4 is used again: of
    five rows, 3 then 2 go before three rows fit into 3 * 76 bytes.
    """
    keys = kept(cache, 5)
    for age, one in enumerate(keys):
        set_age(cache, one, 10 + age)
    assert cache.find(keys[4], "x", 3) is not None
    cache.limit = 3 * 76
    cache.trim()
    here = [cache.find(one, "x", 3) is not None for one in keys]
    assert here == [True, True, False, False, True]


def test_a_run_that_kept_nothing_scans_nothing(cache, monkeypatch):
    kept(cache, 2)
    later = Cache(cache.folder, limit=0)
    monkeypatch.setattr(store, "_files", lambda folder: pytest.fail("scanned"))
    later.trim()
    assert len(files(cache)) == 2


def test_what_a_killed_writer_left_goes_and_what_one_is_writing_stays(cache):
    (one,) = kept(cache, 1)
    path = cache._path("features", "x", one)
    writing = path.with_name(temporary_name())
    # The same process number, of a process that began at another time.
    left = writing.with_name(re.sub(r"-\d+-(?=[0-9a-f]{16})", "-7-", writing.name))
    for file in (left, writing):
        file.write_bytes(b"half")
    assert cache.find(one, "x", 3) is not None
    assert usage(cache.folder)[0].files == 1
    cache.trim()
    assert not left.exists()
    assert writing.exists()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_folder_that_cannot_be_read_is_named_and_not_counted_as_empty(level, cache, monkeypatch):
    """Root reads everything, so the system's refusal is played."""
    (one,) = kept(cache, 1)
    path = cache._path("features", "x", one)
    closed = (path.parents[2], path.parents[1], path.parents[0])[level]
    real = Path.iterdir

    def iterdir(self):
        if self == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    shown = run("cache", "info", SYNTHBENCH_CACHE=str(cache.folder))
    assert shown.returncode == 2
    assert f"{closed}: this part of the cache cannot be read: Permission denied" in shown.stderr
    with pytest.raises(UsageError, match="cannot be read"):
        clear(cache.folder)
    cache.trim()  # a scoring goes on


def test_a_file_in_place_of_the_cache_is_not_an_empty_cache(tmp_path):
    (tmp_path / "cache").touch()
    shown = run("cache", "info", SYNTHBENCH_CACHE=str(tmp_path / "cache"))
    assert shown.returncode == 2
    assert "Not a directory" in shown.stderr


def test_only_their_owner_reads_the_files_of_a_shared_folder(tmp_path):
    (tmp_path / "shared").mkdir(mode=0o755)
    cache = Cache(tmp_path / "shared", limit=10**6)
    kept(cache, 2)
    cache.keep_sample_data("ab" * 32, b"sample data")
    assert {stat.S_IMODE(file.stat().st_mode) for file in files(cache)} == {0o600}


@pytest.mark.slow
def test_processes_that_keep_the_same_rows_leave_whole_ones(cache):
    """Two writers of 50 rows at once, and a reader that never sees half a row."""
    program = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from synthbench.scoring.cache.store import Cache\n"
        "cache = Cache(Path(sys.argv[1]), 10**6)\n"
        "for i in range(50): cache.keep(f'{i:064x}', 'x', np.full(3, i, dtype=np.float32))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(cache.folder)]) for _ in range(2)
    ]
    while any(writer.poll() is None for writer in writers):
        for i in range(50):
            row = cache.find(f"{i:064x}", "x", 3)
            assert row is None or (row == i).all()
    assert [writer.wait() for writer in writers] == [0, 0]
    assert usage(cache.folder)[0].files == 50
    assert len(files(cache)) == 50


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path):
    (tmp_path / "file").touch()
    said: list[str] = []
    cache = Cache(tmp_path / "file" / "cache", 10**6, said.append)
    assert cache.find(key(), "x", 3) is None
    kept(cache, 3)
    cache.trim()
    assert len(said) == 1
    assert said[0].startswith("results are not kept for the next run")
    assert "SYNTHBENCH_CACHE" in said[0]


def test_a_full_disk_is_said_once(cache, monkeypatch):
    def full(path, content, private):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "write_atomic", full)
    said: list[str] = []
    cache.log = said.append
    kept(cache, 3)
    assert len(said) == 1
    assert "No space left on device" in said[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, 2 * 2**30), ("", 2 * 2**30), ("0", 0), ("1500", 1500), ("500MB", 500 * 10**6),
        ("1.5 GiB", 3 * 2**29), ("3kb", 3000),
    ],
)  # fmt: skip
def test_the_limit_is_a_size(monkeypatch, text, expected):
    monkeypatch.delenv("SYNTHBENCH_CACHE_LIMIT", raising=False)
    if text is not None:
        monkeypatch.setenv("SYNTHBENCH_CACHE_LIMIT", text)
    assert store.cache_limit() == expected


@pytest.mark.parametrize("text", ["much", "-1", "2 parsecs", "GiB"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch, text):
    monkeypatch.setenv("SYNTHBENCH_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match="SYNTHBENCH_CACHE_LIMIT: a size is needed, such as 500MB"):
        store.cache_limit()


def test_the_default_folder_is_in_the_users_cache(monkeypatch):
    monkeypatch.delenv("SYNTHBENCH_CACHE")
    assert store.cache_folder().parts[-2:] == ("synthbench", "features")


def test_rows_are_counted_and_removed_by_extractor(cache):
    names = ("../odd name.v1", "a", "b")
    for i, name in enumerate(names):
        for j in range(i + 1):
            cache.keep(key(volume=str(j)), name, ROW)
    foreign = [cache.folder / "notes.txt", cache.folder / "a" / "notes.txt"]
    for file in foreign:
        file.touch()
    found = usage(cache.folder)
    assert [(u.name, u.files, u.size) for u in found] == [
        (name, i + 1, 76 * (i + 1)) for i, name in enumerate(names)
    ]
    assert clear(cache.folder, "features", "b") == found[2:]
    assert usage(cache.folder) == found[:2]
    assert clear(cache.folder, "features", "random-resnet10") == []
    with pytest.raises(UsageError, match="did you mean 'random-resnet10'"):
        clear(cache.folder, "features", "random-resnet")
    clear(cache.folder)
    assert files(cache) == sorted(foreign)


def test_the_commands(cache):
    def command(*arguments):
        return run("cache", *arguments, SYNTHBENCH_CACHE=str(cache.folder))

    kept(cache, 2)
    cache.keep_measure(key(), "ms_ssim", {"values": ROW})
    shown = command("info")
    assert str(cache.folder) in shown.stderr
    assert "features of 2 volumes, 1 measures" in shown.stderr
    features = {"kind": "features", "name": "x", "files": 2, "bytes": 152}
    size = usage(cache.folder)[1].size
    measure = {"kind": "measure", "name": "ms_ssim", "files": 1, "bytes": size}
    folder = str(cache.folder)
    assert json.loads(command("info", "--json").stdout) == {
        "folder": folder, "limit": 2 * 2**30, "files": 3, "bytes": 152 + size,
        "kept": [features, measure],
    }  # fmt: skip
    for option, name, removed in (("extractor", "x", features), ("metric", "ms_ssim", measure)):
        cleared = json.loads(command("clear", f"--{option}", name, "--json").stdout)
        assert cleared == {
            "folder": folder, "files": removed["files"], "bytes": removed["bytes"],
            "kept": [removed],
        }  # fmt: skip
    assert json.loads(command("info", "--json").stdout)["files"] == 0
