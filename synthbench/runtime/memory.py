"""Main memory: what the machine has, what is free, and the limit for what is read from disk.

A small file can ask for any amount of memory: a header that states a billion voxels, or zeros that
are compressed a thousandfold. So its size in memory is computed from its header, and compared with
the limit before anything is allocated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from synthbench.errors import UsageError

VARIABLE = "SYNTHBENCH_MAX_MEMORY"
"""The environment variable of the limit. Processes that are started later have the same one."""

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNITS = {unit: 1024**power for power, unit in enumerate(("", "K", "M", "G", "T"))}
_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def parsed(text: str, name: str = "--max-memory") -> int:
    """Return an amount of memory in bytes; K, M, G and T are powers of 1024.

    Parameters
    ----------
    text
        A number with a unit, such as "4GiB", "4G" or "512 MB", or a number of bytes.
    name
        What the user typed it after, for the message.

    Raises
    ------
    UsageError
        It is no amount, or 0.

    >>> parsed("4GiB"), parsed("1.5k"), parsed("100")
    (4294967296, 1536, 100)
    """
    found = _AMOUNT.fullmatch(text.strip())
    amount = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if amount < 1:
        raise UsageError(f"{name}: an amount such as 4GiB or 512MiB is needed; found {text!r}.")
    return amount


def memory_limit() -> int:
    """Return the bytes of memory that one file may take when it is read.

    The statistics of large sets choose their blocks by it too.

    It is what `--max-memory` or the environment variable `VARIABLE` says; by default half of the
    machine's memory.
    """
    text = os.environ.get(VARIABLE)
    return machine_memory() // 2 if text is None else parsed(text, VARIABLE)


def beyond_limit(needed: int) -> str | None:
    """Return the end of a message, where an amount of memory is above the limit; else None.

    >>> beyond_limit(1) is None
    True
    """
    limit = memory_limit()
    if needed <= limit:
        return None
    return (
        f"needs {amount(needed)} of memory, and at most {amount(limit)} may be used. If that is "
        "right, allow more with --max-memory, for example --max-memory "
        f"{-(-needed // 1024**3)}GiB"
    )


def amount(size: int) -> str:
    """Return a number of bytes in words.

    >>> amount(4294967296), amount(1500), amount(12)
    ('4 GiB', '1.46 KiB', '12 bytes')
    """
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


@lru_cache(maxsize=4)
def machine_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the bytes of main memory that processes like this one may use at most.

    It is the machine's, or less where a container or a batch system (cgroups) limits it.
    """
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([whole, *(limit for limit, _ in _cgroup_limits(proc, cgroups))])


def available_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the bytes of main memory that are still free for processes like this one.

    Parameters
    ----------
    proc, cgroups
        Folders in which Linux reports memory. On other systems all memory counts as free.
    """
    report = proc / "meminfo"
    if not report.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = report.read_text(encoding="ascii")
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    free = 1024 * int(lines["MemAvailable"].split()[0])
    return min([free, *(max(0, limit - used) for limit, used in _cgroup_limits(proc, cgroups))])


def resident_memory(proc: Path = _PROC) -> int:
    """Return the bytes of main memory of this process; 0 where the system does not report them."""
    report = proc / "self" / "statm"
    if not report.is_file():
        return 0
    pages = int(report.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cgroup_limits(proc: Path, cgroups: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit and the use of memory, in bytes, of this process's group and all above."""
    membership = proc / "self" / "cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = root / own.lstrip("/")
        for folder in (group, *group.parents):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None:
                yield limit, used
            if folder == root:
                break


def _number(file: Path) -> int | None:
    """Return the number in a file of a cgroup; None without a file or without a limit."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
