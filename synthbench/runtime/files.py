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

from synthbench.errors import UsageError
from synthbench.runtime.owner import is_left_behind, is_temporary, temporary_name
from synthbench.runtime.tar import open_binary

OWNER_ONLY = 0o600
"""Mode of files of participant-level data: only their owner reads them."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system where a file does not fit: disk full, quota, largest file."""


PIPE_S = 5.0
"""Seconds in which whoever is to read a pipe must have opened it."""


def write_atomic(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file so that nobody ever sees half of it, even if the writer is killed.

    A link stays, and the file that it leads to is replaced. What is no file (a pipe, a device) is
    written to, where somebody reads the pipe. Below a folder that this process holds (`holding`),
    both give way to a file: nothing is written outside the folder.

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
    if is_special(path) and not is_held(path):
        _write_special(path, content)
        return
    with replacing(path, private=private) as temporary, temporary.open("r+b") as file:
        file.write(content)


def _write_special(path: Path, content: bytes) -> None:
    # Without the flag, a pipe that nobody reads would let the command wait for ever.
    until = time.monotonic() + PIPE_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > until:
                raise
            time.sleep(0.05)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Context manager: a temporary file beside `path`, which takes its place on a clean exit.

    On an error the temporary file is removed, and `path` is as it was. Links are as in
    `write_atomic`.

    Raises
    ------
    OSError
        It could not be written; `filename` is `path`.
    UsageError
        It lies below a folder that this process holds, and a linked folder leads out of it.
    """
    target = path if is_held(path) or not path.is_symlink() else path.resolve()
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


_held: list[Path] = []


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Context manager: what is written below a folder stays below it, whatever links it holds.

    The folder may come from a stranger: an archive can hold a link to any file of the user.
    """
    whole = Path(os.path.abspath(folder))
    _held.append(whole)
    try:
        yield
    finally:
        _held.remove(whole)


def is_held(path: Path) -> bool:
    """Return True for a path below a folder that this process holds (`holding`).

    Raises
    ------
    UsageError
        A linked folder leads out of it: nothing is written there.
    """
    whole = Path(os.path.abspath(path))
    found = False
    for folder in _held:
        if whole.is_relative_to(folder):
            if leads_out(whole.parent, folder):
                raise UsageError(
                    f"{path}: nothing is written there, because a link leads out of {folder}, to "
                    f"{whole.parent.resolve()}. Put a folder in place of the link, or name another "
                    "place."
                )
            found = True
    return found


def leads_out(path: Path, folder: Path) -> bool:
    """Return True where links in a folder lead from a path below it to a place outside it."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


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


def check_is_file(path: Path) -> None:
    """Check that opening a path for reading ends: a pipe waits for a writer, a device has no end.

    A folder of a stranger may hold both. The streams of this process (`/dev/stdin`, `/dev/fd/3`,
    which a shell makes of `<(command)`) may be pipes: the user named them.

    Raises
    ------
    OSError
        It is a pipe, a device or a socket; `filename` is `path`.
    """
    if is_special(path) and str(Path(path).parent) not in _STREAMS and str(path) != "/dev/stdin":
        words = "it is a pipe or a device, not a file: write its content to a file"
        raise OSError(errno.EINVAL, words, str(path))


_STREAMS = ("/dev/fd", "/proc/self/fd")


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, or of a member of a tar file, in hexadecimal.

    Raises
    ------
    OSError
        It cannot be opened, or is a pipe or a device.
    """
    check_is_file(path)
    with open_binary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(file: Path, target: Path) -> None:
    """Give a file a second name: a link where the file system can link, and a copy where not.

    Raises
    ------
    UsageError
        A file with other bytes has that name.
    """
    if target.exists():
        if target.samefile(file) or sha256_file(target) == sha256_file(file):
            return
        raise UsageError(f"{target}: it is there with other bytes. Name a new folder.")
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without links
        with replacing(target) as temporary:
            shutil.copyfile(file, temporary)
