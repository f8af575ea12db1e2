"""The verdict on utility that is added to a scorecard's file."""

from __future__ import annotations

import re
from pathlib import Path

from synthbench.errors import ScorecardError
from synthbench.records.scorecard import Scorecard
from synthbench.records.utility import Utility
from synthbench.runtime.files import write_atomic

_VERDICT = re.compile(rb'^ "utility": (?:null|\{$.*?^ \})(?=,?$)', re.MULTILINE | re.DOTALL)
"""The verdict on utility in a scorecard's file: an indent of one is of the outermost fields."""


def scored_bytes(file: Path) -> bytes:
    """Return what `score` wrote: the file's bytes without the verdict that may have been added.

    The bytes are those of the file, of whichever schema: a hash of them outlives an upgrade.
    """
    return _VERDICT.sub(b' "utility": null', Path(file).read_bytes(), count=1)


def add_verdict(file: Path, verdict: Utility) -> None:
    """Write a verdict on utility into a scorecard's file, and leave all else as it was scored."""
    lines = verdict.model_dump_json(indent=1).replace("\n", "\n ")
    content = f' "utility": {lines}'.encode()
    changed, found = _VERDICT.subn(lambda _: content, Path(file).read_bytes(), count=1)
    if found:
        write_atomic(Path(file), changed)
    else:  # of before scorecards had a place for it
        Scorecard.load(file).model_copy(update={"utility": verdict}).save(file)


def verdict_in(file: Path) -> Utility | None:
    """Return the verdict on utility that a scorecard holds, if it is one that holds one."""
    try:
        return Scorecard.load(file).utility
    except ScorecardError:
        return None
