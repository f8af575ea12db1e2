"""Locks of output folders and files: one process at a time writes into them.

A lock is a file that names its owner. It appears whole, as a hard link, which is one step on
network file systems too (open(2), O_EXCL). The lock of a process that has ended is taken over.
(`filelock` has such a lock. It takes over nothing where two names cannot be exchanged in one step,
which is so on NFS.)
"""

from __future__ import annotations

import errno
import glob
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from synthbench.errors import InUseError, UsageError
from synthbench.runtime.files import check_is_file, holding, remove_leftovers
from synthbench.runtime.owner import Process, is_temporary, temporary_name

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger("synthbench")

LOCK = ".synthbench.lock"
"""The lock of a folder, in it."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MOST_BYTES = 64 * 2**10  # a lock has a few hundred
_SHOWN = "%Y-%m-%d %H:%M:%S UTC"


@contextmanager
def only_writer(folder: Path) -> Iterator[bool]:
    """Context manager: this process alone writes into a folder, which is made if absent.

    What killed processes left half-written in it is removed first. A folder that was made for the
    lock, and is empty at the end, is removed again.

    Yields
    ------
    bool
        True where the lock of a process that has ended was taken over: it was killed at work.

    Raises
    ------
    InUseError
        Another process writes into the folder, or may do so. Or, at the end: the folder or its
        lock was deleted meanwhile.
    OSError
        The folder cannot be made or written to.

    Notes
    -----
    Until the end, nothing that is written below the folder leaves it through a link (`holding`).
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: that is a file; name a folder.")
    made = _make(folder)
    try:
        with _held(folder / LOCK, folder) as taken_over, holding(folder):
            remove_leftovers(folder)
            yield taken_over
    finally:
        for one in made:
            with suppress(OSError):
                one.rmdir()


@contextmanager
def only_writer_of(file: Path) -> Iterator[None]:
    """Context manager: this process alone writes a file; as `only_writer`, for one file.

    The folder of the file is made if absent.
    """
    file = Path(file).resolve() if Path(file).is_symlink() else Path(file)
    made = _make(file.parent)
    try:
        with _held(file.with_name(f".{file.name}.lock"), file):
            _remove_leftovers_beside(file)
            yield
    finally:
        for one in made:
            with suppress(OSError):
                one.rmdir()


def content_of(folder: Path) -> set[str]:
    """Return the names in a folder, without locks and temporary files; empty without a folder."""
    if not folder.is_dir():
        return set()
    return {entry.name for entry in folder.iterdir() if not is_lock_or_temporary(entry.name)}


def is_lock_or_temporary(name: str) -> bool:
    """Return True for the name of a folder's lock, or of a temporary file."""
    return name.startswith(LOCK) or is_temporary(name)


def _make(folder: Path) -> list[Path]:
    """Make a folder and the folders above it; return those that were made, the lowest first."""
    absent = []
    above = folder
    while not above.exists() and above != above.parent:
        absent.append(above)
        above = above.parent
    folder.mkdir(parents=True, exist_ok=True)
    return absent


def _remove_leftovers_beside(file: Path) -> None:
    # Not below the folder: it is the user's, and may be large.
    remove_leftovers(file.parent, below=False)


# ---------------------------------------------------------------- a lock


@dataclass(frozen=True)
class _Owner:
    """What a lock says of its owner.

    Attributes
    ----------
    process
        The process.
    since
        When it took the lock, in words.
    token
        A random text, which no other lock has.
    """

    process: Process
    since: str
    token: str

    @classmethod
    def this(cls) -> _Owner:
        return cls(Process.this(), datetime.now(UTC).strftime(_SHOWN), secrets.token_hex(8))

    @classmethod
    def of(cls, lock: Path) -> _Owner | None:
        """Return the owner of a lock; None where the lock is gone.

        Raises
        ------
        InUseError
            The lock names no owner.
        """
        try:
            check_is_file(lock)
            if lock.is_symlink():  # nobody's lock is one; where it leads nowhere, it never goes
                raise ValueError("a link")
            with lock.open("rb") as file:
                return cls._parsed(json.loads(file.read(_MOST_BYTES)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            raise InUseError(
                f"{lock}: this lock names no owner. If nothing writes there, delete this file and "
                "repeat the command."
            ) from None

    @classmethod
    def _parsed(cls, fields: Any) -> _Owner:
        """Return the owner of a lock's fields; a ValueError, TypeError or KeyError otherwise."""
        process, token = fields["process"], fields["token"]
        host, boot, namespace = process["host"], process["boot"], process["namespace"]
        if not all(
            isinstance(name, str) and name.isprintable() for name in (host, boot, namespace)
        ):
            raise ValueError("host, boot or namespace")
        if not re.fullmatch("[0-9a-f]{16}", token):  # it becomes part of a file's name
            raise ValueError("token")
        datetime.strptime(fields["since"], _SHOWN).replace(tzinfo=UTC)
        pid, started = int(process["pid"]), float(process["started"])
        return cls(Process(host, boot, namespace, pid, started), fields["since"], token)

    def as_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    def has_ended(self, lock: Path) -> bool:
        """Return whether the owner has ended, as far as that can be known."""
        ended = self.process.has_ended()
        if ended is None and self.process.host == Process.this().host:
            # Another container of this machine, or this one before it was started again.
            return _is_free(lock)
        return bool(ended)

    def refusal(self, what: Path, lock: Path) -> str:
        """Return the message for a process that comes second."""
        host, here = self.process.host, Process.this().host
        words = (
            f"{what}: in use since {self.since} by process {self.process.pid} of the machine "
            f"{host}. "
        )
        if host == here:
            return f"{words}Wait until it has ended, or name another place."
        return (
            f"{words}Wait until it has ended, or name another place. Whether it still runs cannot "
            f"be seen from here ({here}): if it does not, delete {lock} and repeat the command."
        )


@contextmanager
def _held(lock: Path, what: Path) -> Iterator[bool]:
    """Hold a lock; yield True where it was taken over. `what` is named in messages.

    Raises
    ------
    InUseError
        Another process holds it; or, at the end, it is no longer this process's.
    """
    own = _Owner.this()
    descriptor, taken_over = _taken(lock, what, own)
    kept = False
    try:
        for claim in lock.parent.glob(f"{glob.escape(lock.name)}.*"):
            _remove_dead_claim(claim)
        yield taken_over
    finally:
        with suppress(OSError, InUseError):
            kept = _Owner.of(lock) == own
            if kept:
                lock.unlink()
        os.close(descriptor)
    if not kept:
        raise InUseError(
            f"{what}: it was deleted, or its lock {lock.name} was, while this command wrote there: "
            "what is there now may be incomplete or mixed. Delete it and repeat the command."
        )


def _taken(lock: Path, what: Path, own: _Owner) -> tuple[int, bool]:
    """Take a lock; return an open descriptor of it, and True where it was taken over."""
    draft = lock.with_name(temporary_name())
    try:
        descriptor = _written(draft, own)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(what)) from error
    try:
        while True:
            if (linked := _linked(draft, lock, own, descriptor)) is not None:
                return linked, False
            other = _Owner.of(lock)
            if other is None:
                continue  # it was released in between
            if not other.has_ended(lock):
                raise InUseError(other.refusal(what, lock))
            # Only who holds this claim may replace the lock with this token. So of several
            # processes that find the same lock, one replaces it, and the others find a new one.
            with _held(lock.with_name(f"{lock.name}.{other.token}"), what):
                if _Owner.of(lock) == other:
                    os.replace(draft, lock)
                    log.warning(
                        "%s: process %d, which began to write here on %s, was killed or has "
                        "crashed; its lock is taken over",
                        what, other.process.pid, other.since,
                    )  # fmt: skip
                    return descriptor, True
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        draft.unlink(missing_ok=True)


def _written(file: Path, own: _Owner) -> int:
    """Write a new file that names the owner; return a descriptor that locks it in the system."""
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    try:
        os.write(descriptor, own.as_bytes())
        if fcntl is not None:
            # Not all file systems have it; `_is_free` then takes the owner to be alive.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        file.unlink(missing_ok=True)
        raise
    return descriptor


def _linked(draft: Path, lock: Path, own: _Owner, descriptor: int) -> int | None:
    """Give the draft the lock's name; return the lock's descriptor, None where there is a lock."""
    try:
        os.link(draft, lock)
    except FileExistsError:
        # On NFS the first answer may be lost, and a repeated request finds its own link.
        return descriptor if os.fstat(descriptor).st_nlink == 2 else None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            other = _written(lock, own)
        except FileExistsError:
            return None
        os.close(descriptor)
        return other
    return descriptor


def _is_free(lock: Path) -> bool:
    """Return True where the system says that no process holds the lock's file open and locked."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _remove_dead_claim(claim: Path) -> None:
    """Remove the claim of a process that was killed while it took a lock over."""
    with suppress(OSError, InUseError):
        owner = _Owner.of(claim)
        if owner is not None and owner.has_ended(claim):
            claim.unlink()
