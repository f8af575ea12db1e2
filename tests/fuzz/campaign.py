"""Running many damaged files through one parser, and counting what came of them."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from synthbench.errors import SynthbenchError
from synthbench.runtime.memory import VARIABLE
from tests.fuzz.parser import Parser

LIMIT = 256 * 2**20
"""`--max-memory` of a campaign, in bytes."""

SLOW_S = 10.0
"""Seconds of a processor that no file may take."""


@dataclass
class Tally:
    """What came of the cases of one parser.

    Attributes
    ----------
    refused, read
        Cases that were refused with an error of synthbench, and that were read.
    faults
        Of the other cases, what is wrong; each kind once.
    slowest, peak
        The longest processor time in seconds, and the most memory in bytes that a case added.
    """

    refused: int = 0
    read: int = 0
    traced: int = 0
    outside: int = 0
    slowest: float = 0.0
    peak: int = 0
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """The number of cases."""
        return self.refused + self.read + self.traced


def campaign(parser: Parser, folder: Path, cases: int, start: int | None = None) -> Tally:
    """Return what came of that many damaged files.

    Parameters
    ----------
    folder
        An empty folder: nothing may be written outside it.
    start
        The seed of the cases; None: always the same ones.
    """
    tally, read, file = Tally(), parser.prepared(folder), folder / parser.file
    warm = False

    def one(content: bytes) -> None:
        nonlocal warm
        if not warm:  # what the first case imports is no part of it
            file.write_bytes(content)
            _try(parser, read, file, folder, Tally())
            warm = True
        file.write_bytes(content)
        _try(parser, read, file, folder, tally)

    quiet = settings(
        max_examples=cases, database=None, deadline=None, derandomize=start is None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run = quiet(given(parser.damaged)(one))
    with _limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (run if start is None else seed(start)(run))()
    return tally


def _try(parser: Parser, read: object, file: Path, folder: Path, tally: Tally) -> None:
    assert callable(read)
    before, began = _reset_peak(), time.process_time()
    with watched(folder) as written:
        try:
            read(file)
            tally.read += 1
        except SynthbenchError as error:
            tally.refused += 1
            _check_words(str(error), parser, tally)
        except Exception as error:
            tally.traced += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
            tally.faults.setdefault(key, f"{key}: {error!s:.200} ({file.read_bytes()[:200]!r})")
    seconds, added = time.process_time() - began, max(0, _peak() - before)
    tally.slowest, tally.peak = max(tally.slowest, seconds), max(tally.peak, added)
    if seconds > SLOW_S:
        tally.faults.setdefault("slow", f"took {seconds:.1f} s: {file.read_bytes()[:200]!r}")
    if added > LIMIT:
        tally.faults.setdefault("memory", f"took {added} bytes: {file.read_bytes()[:200]!r}")
    if written:
        tally.outside += 1
        tally.faults.setdefault("outside", f"wrote {written[0]}")


def _check_words(message: str, parser: Parser, tally: Tally) -> None:
    """Note a refusal that does not name the file."""
    if not any(name in message for name in parser.called):
        tally.faults.setdefault("unnamed", f"names no file: {message:.200}")


@contextmanager
def _limited() -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(LIMIT)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


# ---------------------------------------------------------------- memory


def _reset_peak() -> int:
    """Start a new peak of this process's memory, and return what it takes now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return sys.maxsize  # not measured here
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM") if Path("/proc/self/status").is_file() else 0


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


# ---------------------------------------------------------------- writing

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod"}
_RUNS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "socket.connect"}
_active: list[tuple[Path, list[str]]] = []


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Note every change outside a folder, every process and every connection."""
    if not _hooked:
        sys.addaudithook(_noted)
        _hooked.append(True)
    found: list[str] = []
    _active.append((folder.resolve(), found))
    try:
        yield found
    finally:
        _active.pop()


_hooked: list[bool] = []


def _noted(event: str, arguments: tuple[object, ...]) -> None:
    if not _active:
        return
    folder, found = _active[-1]
    if event in _RUNS:
        found.append(event)
    elif event == "open":
        path, _, flags = arguments
        if isinstance(path, str) and isinstance(flags, int) and flags & _WRITES:
            _outside(path, folder, found)
    elif event in _CHANGES and isinstance(arguments[0], (str, Path)):
        _outside(str(arguments[0]), folder, found)


def _outside(path: str, folder: Path, found: list[str]) -> None:
    whole = os.path.abspath(path)
    if not whole.startswith(f"{folder}{os.sep}") and whole != os.devnull:
        found.append(whole)
