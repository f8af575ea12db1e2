"""Adding to a scorecard's file what was found later: the verdict on utility, and of readers."""

from __future__ import annotations

import re
from pathlib import Path

from synthbench.errors import ScorecardError
from synthbench.records.readers import ReaderResult
from synthbench.records.scorecard import Scorecard
from synthbench.records.utility import Utility
from synthbench.runtime.files import write_atomic

_UTILITY = re.compile(rb'^ "utility": (?:null|\{$.*?^ \})(?=,?$)', re.MULTILINE | re.DOTALL)
_READERS = re.compile(rb'^ "readers": (?:null|\{$.*?^ \}),\n', re.MULTILINE | re.DOTALL)
"""Both in a scorecard's file: only outermost fields are indented by one."""

_SOFTWARE = re.compile(rb'^ "software": ', re.MULTILINE)
"""The field that every scorecard ends with, before which the readers' result is written."""


def scored_bytes(file: Path) -> bytes:
    """Return the bytes that `score` wrote: the file's without what was added later.

    No record is read, so a hash of the bytes stays the same when the schema is upgraded. The
    field of the readers is left out whole, as older scorecards have none.
    """
    content = _READERS.sub(b"", Path(file).read_bytes(), count=1)
    return _UTILITY.sub(b' "utility": null', content, count=1)


def add_verdict(file: Path, verdict: Utility) -> None:
    """Write a verdict on utility into a scorecard's file, and change nothing else in it."""
    content = b' "utility": ' + _lines(verdict)
    changed, found = _UTILITY.subn(lambda _: content, Path(file).read_bytes(), count=1)
    if found:
        write_atomic(Path(file), changed)
    else:  # an old scorecard, without the field
        Scorecard.load(file).model_copy(update={"utility": verdict}).save(file)


def add_readers(file: Path, result: ReaderResult) -> None:
    """Write what readers saw into a scorecard's file, and change nothing else in it."""
    without = _READERS.sub(b"", Path(file).read_bytes(), count=1)
    content = b' "readers": ' + _lines(result) + b',\n "software": '
    changed, found = _SOFTWARE.subn(lambda _: content, without, count=1)
    if found:
        write_atomic(Path(file), changed)
    else:  # a scorecard that another program has written with other spaces
        Scorecard.load(file).model_copy(update={"readers": result}).save(file)


def _lines(record: Utility | ReaderResult) -> bytes:
    return record.model_dump_json(indent=1).replace("\n", "\n ").encode()


def scorecard_in(file: Path) -> Scorecard | None:
    """Return the scorecard in a file; None where there is none."""
    try:
        return Scorecard.load(file)
    except ScorecardError:
        return None
