"""Rows on disk: a full disk is an error with the file's name, and no half-written file is left."""

from __future__ import annotations

import errno
import os
import stat

import numpy as np
import pytest

from synthbench.runtime.rows_file import RowsFile

ROWS = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def test_rows_are_those_that_a_memory_map_reads(tmp_path):
    file = tmp_path / "rows.npy"
    with RowsFile(file, ROWS.shape) as rows:
        for row in ROWS:
            rows.write(row)
    assert np.array_equal(np.load(file, mmap_mode="r"), ROWS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_space_is_taken_before_the_first_row(tmp_path, monkeypatch):
    """1 GiB is asked for; the file system says that it has no room."""
    asked = []

    def full(descriptor: int, begin: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        RowsFile(tmp_path / "rows.npy", (256, 1024, 1024)).__enter__()
    assert asked == [2**30]
    assert caught.value.filename == str(tmp_path / "rows.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_takes_no_space_is_written_all_the_same(number, tmp_path, monkeypatch):
    def unknown(descriptor: int, begin: int, size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    with RowsFile(tmp_path / "rows.npy", ROWS.shape) as rows:
        for row in ROWS:
            rows.write(row)
    assert np.array_equal(np.load(tmp_path / "rows.npy"), ROWS)


def test_a_row_that_does_not_fit_names_the_file_and_removes_it(tmp_path, monkeypatch):
    """On a file system that takes no space beforehand, the disk fills up at some row."""
    file = tmp_path / "rows.npy"
    monkeypatch.delattr(os, "posix_fallocate")

    def full(descriptor: int, content: object) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with RowsFile(file, ROWS.shape) as rows:
        rows.write(ROWS[0])
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="quota") as caught:
            rows.write(ROWS[1])
        monkeypatch.undo()
    assert caught.value.filename == str(file)
    assert not file.exists()


def test_an_error_of_the_reader_leaves_no_half_filled_file(tmp_path):
    with pytest.raises(ZeroDivisionError), RowsFile(tmp_path / "rows.npy", ROWS.shape):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_row_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match="shape"), RowsFile(tmp_path / "x.npy", (2, 3)) as rows:
        rows.write(np.zeros(4, np.float32))
