"""Adding the verdict on utility to a scorecard's file, and reading it."""

from __future__ import annotations

import re
from pathlib import Path

from synthbench.errors import ScorecardError
from synthbench.records.scorecard import Scorecard
from synthbench.records.utility import Utility
from synthbench.runtime.files import write_atomic

_VERDICT = re.compile(rb'^ "utility": (?:null|\{$.*?^ \})(?=,?$)', re.MULTILINE | re.DOTALL)
"""The verdict on utility in a scorecard's file: only outermost fields are indented by one."""


def scored_bytes(file: Path) -> bytes:
    """Return the bytes that `score` wrote: the file's without a verdict that was added later.

    No record is read, so a hash of the bytes stays the same when the schema is upgraded.
    """
    return _VERDICT.sub(b' "utility": null', Path(file).read_bytes(), count=1)


def add_verdict(file: Path, verdict: Utility) -> None:
    """Write a verdict on utility into a scorecard's file, and change nothing else in it."""
    lines = verdict.model_dump_json(indent=1).replace("\n", "\n ")
    content = f' "utility": {lines}'.encode()
    changed, found = _VERDICT.subn(lambda _: content, Path(file).read_bytes(), count=1)
    if found:
        write_atomic(Path(file), changed)
    else:  # an old scorecard, without the field
        Scorecard.load(file).model_copy(update={"utility": verdict}).save(file)


def verdict_in(file: Path) -> Utility | None:
    """Return the verdict on utility in a scorecard's file; None where there is none."""
    try:
        return Scorecard.load(file).utility
    except ScorecardError:
        return None
