"""The record of a split, and the comparison of a manifest with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from synthbench.cohorts.cohort import Entry
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.errors import CohortError

RECORD = "split.tsv"


def verify(manifest: Path, entries: Iterable[Entry]) -> None:
    """Compare a manifest with the split that it belongs to, where there is one.

    Raises
    ------
    CohortError
        A subject of the manifest is in another part of the split or in none, a volume was added or
        removed, or its content has changed since the split was drawn.
    """
    record, part = manifest.parent / RECORD, manifest.stem
    if not record.is_file() or manifest.name == RECORD:
        return
    try:
        read = read_text_table(record)
        read.require("participant_id", "part", "content", "path")
    except CohortError as error:
        raise CohortError(
            f"{error} So it cannot be read as a split: draw it again with synthbench data split, "
            "or move the manifest elsewhere."
        ) from error
    table = read.cells
    owners = table.groupby("participant_id")["part"].unique()
    contents = table.set_index("content")
    on_two = [str(name) for name, sides in owners.items() if len(sides) > 1]
    if on_two:
        raise CohortError(
            f"{record}: {', '.join(on_two[:5])}: on two sides. The file was edited: draw the split "
            "again with synthbench data split."
        )
    if part not in set(table["part"]):
        return  # another manifest in the same folder
    found = list(entries)
    fix = "Restore the files, or draw the split again with synthbench data split."
    for entry in found:
        if entry.digest not in contents.index:
            raise CohortError(
                f"{manifest}: {entry.name} is not a volume of the split, or its content (or the "
                f"grid assumed for it) has changed since it was drawn. {fix}"
            )
        sides = set(contents.loc[[entry.digest], "part"])
        if sides != {part} or list(owners.get(entry.subject, ())) != [part]:
            raise CohortError(
                f"{manifest}: {entry.name} ({entry.subject}) is on another side of the split: "
                f"{', '.join(sorted(sides))}. {fix}"
            )
    expected = table[table["part"] == part]
    if len(found) != len(expected):
        raise CohortError(
            f"{manifest}: holds {len(found)} volumes; the split gave '{part}' {len(expected)}"
            f"{_difference(expected, found)}. {fix} For a smaller set, write a manifest of "
            "another name."
        )


def _difference(expected: pd.DataFrame, found: Sequence[Entry]) -> str:
    """Return which volumes of a part are missing or repeated, by subject and file."""
    spare = Counter(entry.digest for entry in found)
    missing = []
    for subject, path, content in zip(
        expected["participant_id"], expected["path"], expected["content"], strict=True
    ):
        if spare[content]:
            spare[content] -= 1
        else:
            missing.append(f"{subject} ({path})")
    repeated = [f"{entry.subject} ({entry.name})" for entry in found if spare[entry.digest] > 0]
    lists = ((missing, "missing"), (repeated, "more often than in the split"))
    return "".join(f"; {what}: {_first(names)}" for names, what in lists if names)


def _first(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
