"""Which process owns a file, and whether that process has ended."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_START_TIME = 19  # field 22 of /proc/PID/stat (proc(5)), counted from the state, which is field 3
_ENDED = (b"Z", b"X")  # states of a process that runs no more, but whose parent has not read it


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others: also from a later one with the same number.

    Attributes
    ----------
    host
        Name of its machine.
    boot
        What tells one start of that machine's system from the next; empty where it has none.
    namespace
        Its namespace of process numbers. Two containers of one machine differ in it, and may have
        the same host name.
    pid
        Its number.
    started
        When it started, as the system counts (Linux: clock ticks since the system's start).
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: float

    @classmethod
    def this(cls) -> Process:
        """Return the process that calls."""
        started = _start_time(os.getpid())
        return cls(socket.gethostname(), _boot(), _namespace(), os.getpid(), started or 0.0)

    @property
    def machine(self) -> str:
        """Eight digits that stand for host, boot and namespace."""
        words = "\n".join((self.host, self.boot, self.namespace))
        return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:8]

    def has_ended(self) -> bool | None:
        """Return whether the process has ended; None where that cannot be known from here."""
        if self.host != socket.gethostname():
            return None
        if (self.boot, self.namespace) != (_boot(), _namespace()):
            return None  # started again since, or another machine or container of this name
        return not _lives(self.pid, self.started)


def temporary_name() -> str:
    """Return a new name for a temporary file or folder, which `is_left_behind` can judge.

    The random part keeps apart what two containers with equal host names and process numbers write
    into one folder.
    """
    process = Process.this()
    return (
        f".synthbench-{process.machine}-{process.pid}-{process.started:.0f}-"
        f"{secrets.token_hex(8)}.tmp"
    )


def is_temporary(name: str) -> bool:
    """Return True for a name that `temporary_name` returned, in any process."""
    return name.startswith(".synthbench-") and name.endswith(".tmp")


def is_left_behind(name: str, age: float) -> bool:
    """Return True for the name of a temporary file whose writer has ended.

    Parameters
    ----------
    name
        A name that `temporary_name` returned.
    age
        Seconds since the file changed. A writer on another machine cannot be asked: its file
        counts as left behind after `ABANDONED_S`.
    """
    parts = name.removeprefix(".synthbench-").removesuffix(".tmp").split("-")
    try:
        machine, pid, started = parts[0], int(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        return False
    if machine != Process.this().machine:
        return age > ABANDONED_S
    return not _lives(pid, started)


ABANDONED_S = 3600.0
"""Age in seconds after which a temporary file of another machine counts as left behind."""


def _lives(pid: int, started: float) -> bool:
    """Return whether this process runs; True where the system does not tell."""
    now = _start_time(pid)
    if now is None:
        return _has_number(pid)
    return round(now) == round(started)


def _start_time(pid: int) -> float | None:
    """Return when a process started; -1 where it has ended, None where that cannot be read."""
    if sys.platform != "linux":
        import psutil

        try:
            return float(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return -1.0
        except psutil.Error:
            return None
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
        # The name in brackets may hold any character, so the fields are counted behind it.
        fields = content[content.rindex(b")") + 1 :].split()
        return -1.0 if fields[0] in _ENDED else float(fields[_START_TIME])
    except (OSError, ValueError, IndexError):
        return None


def _has_number(pid: int) -> bool:
    """Return whether any process has this number; a system may hide those of other users."""
    if sys.platform != "linux":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""
