"""Files that are whole or absent: atomic writes, and hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synthbench.runtime.owner import is_left_behind, is_temporary, temporary_name

OWNER_ONLY = 0o600
"""Mode of files of participant-level data: only their owner reads them."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system where a file does not fit: disk full, quota, largest file."""


def write_atomic(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file so that nobody ever sees half of it, even if the writer is killed.

    A link stays, and the file that it leads to is replaced. What is no file (a pipe, a device) is
    written to.

    Parameters
    ----------
    path, content
        The file and its bytes.
    private
        True: only the file's owner may read it (participant-level data).

    Raises
    ------
    OSError
        It could not be written; `filename` is `path`. Nothing is left behind.
    """
    if is_special(path):
        path.write_bytes(content)
        return
    with replacing(path, private=private) as temporary, temporary.open("r+b") as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Context manager: a temporary file beside `path`, which takes its place on a clean exit.

    On an error the temporary file is removed, and `path` is as it was.

    Raises
    ------
    OSError
        It could not be written; `filename` is `path`.
    """
    target = path.resolve() if path.is_symlink() else path
    temporary = target.with_name(temporary_name())
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        descriptor = os.open(temporary, flags, OWNER_ONLY if private else 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        yield temporary
        # safetensors puts a file of its own there, which only its owner can read.
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
        flush(temporary)
        os.replace(temporary, target)
    except Exception as error:
        number = _system_error(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _system_error(error: Exception) -> int | None:
    """Return the system's number of an error: safetensors has it in its text only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_special(path: Path) -> bool:
    """Return True for a pipe or a device, such as /dev/null: writing to it replaces nothing."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def remove_leftovers(folder: Path, *, below: bool = True) -> None:
    """Remove temporary files and folders in a folder whose writers have ended.

    Those of processes that run are kept, and what cannot be removed is left. `below`: in the
    folders below it too.
    """
    for root, folders, files in os.walk(folder):
        for name in [name for name in (*folders, *files) if is_temporary(name)]:
            path = Path(root, name)
            with suppress(OSError):
                if is_left_behind(name, time.time() - path.lstat().st_mtime):
                    shutil.rmtree(path) if name in folders else path.unlink()
        if not below:
            break


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
