"""Parts of a call that is divided among jobs: which part a folder holds, and whether all are there.

`--shard 3/8` makes the third of eight parts. A part is a folder with a record, `part.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from synthbench.errors import UsageError
from synthbench.runtime.documents import check_fields, is_there, json_fields
from synthbench.runtime.files import write_atomic

FILE = "part.json"
_FIX = "Repeat the command that writes this part."
Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """One of several parts of a call.

    Attributes
    ----------
    number
        From 1.
    of
        How many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return the part that a text such as "3/8" names.

        Raises
        ------
        UsageError
            It has another form, or there is no such part.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        part = cls(*map(int, found.groups())) if found else None
        if part is None or not 1 <= part.number <= part.of:
            raise UsageError(f"--shard {text}: write it as NUMBER/OF, from 1/8 to 8/8 for 8 jobs.")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def chosen(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of this part: neighbours, as many in each part as can be.

        Raises
        ------
        UsageError
            There are fewer items than parts.

        >>> [list(Part(i, 3).chosen(range(7))) for i in (1, 2, 3)]
        [[0, 1], [2, 3], [4, 5, 6]]
        """
        if len(items) < self.of:
            raise UsageError(
                f"--shard {self}: there are only {len(items)} files to divide. Use fewer parts."
            )
        return items[
            len(items) * (self.number - 1) // self.of : len(items) * self.number // self.of
        ]


class PartRecord(BaseModel):
    """What `part.json` says.

    Attributes
    ----------
    verb
        What makes the parts.
    part, of
        Which part, of how many.
    call
        The sha256 of all that the call depends on, except the part.
    run
        The run that the volumes are drawn from; None: they are not drawn.
    options
        Options of the call that its merging needs.
    finished
        True where the part is whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["synthbench part"] = "synthbench part"
    version: Literal[1] = 1
    verb: Literal["sample", "import", "data prepare"]
    part: int = Field(ge=1)
    of: int = Field(ge=1)
    call: str = Field(pattern=r"^[0-9a-f]{64}$")
    run: str | None
    options: dict[str, str | int | float | bool | None]
    finished: bool = False

    def write(self, folder: Path, *, finished: bool) -> None:
        """Write the record into a folder."""
        record = self.model_copy(update={"finished": finished})
        write_atomic(folder / FILE, json.dumps(record.model_dump(), indent=1).encode())


def read_part(folder: Path) -> PartRecord | None:
    """Return the record of a folder; None where it has none.

    Raises
    ------
    UsageError
        It cannot be read.
    """
    file = folder / FILE
    if not is_there(file, UsageError):
        return None
    fields = json_fields(file, error=UsageError, fix=_FIX)
    return check_fields(PartRecord, fields, file, error=UsageError, fix=_FIX)


def check_own(folder: Path, wanted: PartRecord | None) -> None:
    """Check that a folder holds no other part than the one that is to be written into it.

    Parameters
    ----------
    wanted
        The record of the part; None for a call that is not divided.

    Raises
    ------
    UsageError
        It holds another part, or a part of another call.
    """
    found = read_part(folder)
    if found is None:
        return
    if wanted is None or (found.part, found.of) != (wanted.part, wanted.of):
        raise UsageError(
            f"{folder}: it holds the part {found.part}/{found.of} of a call. Name another folder."
        )
    if found.call != wanted.call:
        raise UsageError(
            f"{folder}: it holds the part {found.part}/{found.of} of another call (another run, "
            "number of volumes, seed or option, or other files). Name another folder."
        )


def check_complete(parts: Sequence[tuple[Path, Part, str]]) -> None:
    """Check that parts are all those of one call.

    Parameters
    ----------
    parts
        For each, its folder or file, which part it is, and a hash of its call.

    Raises
    ------
    UsageError
        Parts are missing, doubled, or of different calls; the message names them.
    """
    if not parts:
        raise UsageError("no part is named. Name all parts.")
    found: dict[int, Path] = {}
    first_place, first, first_call = parts[0]
    for place, part, call in parts:
        if (call, part.of) != (first_call, first.of):
            raise UsageError(
                f"{place}: it is a part of another call than {first_place}. Name the parts of one "
                "call."
            )
        if part.number in found:
            raise UsageError(
                f"the part {part} is there twice: {found[part.number]} and {place}. Leave one out."
            )
        found[part.number] = place
    missing = [f"{n}/{first.of}" for n in range(1, first.of + 1) if n not in found]
    if missing:
        raise UsageError(f"{len(missing)} of {first.of} parts are missing: {_few(missing)}.")


def all_parts(folders: Sequence[Path], out: Path) -> list[tuple[Path, PartRecord]]:
    """Return the parts of one call, in order.

    Parameters
    ----------
    folders
        The folders of all parts, in any order.
    out
        The folder that they are joined into.

    Raises
    ------
    UsageError
        A folder holds no part; parts are missing, doubled, not finished, or of different calls; or
        `out` is the folder of a part. The message names them.
    """
    found: dict[int, tuple[Path, PartRecord]] = {}
    named = []
    for folder in folders:
        record = read_part(folder)
        if record is None:
            raise UsageError(f"{folder}: it holds no part of a call: it has no {FILE}.")
        named.append((folder, Part(record.part, record.of), record.call))
        found[record.part] = (folder, record)
    check_complete(named)
    of = len(found)
    unfinished = [
        f"{record.part}/{record.of} ({folder})"
        for folder, record in found.values()
        if not record.finished
    ]
    if unfinished:
        raise UsageError(
            f"{len(unfinished)} of {of} parts are not finished: {_few(unfinished)}. Repeat the "
            "commands that write them."
        )
    if out.resolve() in {folder.resolve() for folder, _ in found.values()}:
        raise UsageError(f"--out {out}: it is the folder of a part. Name a new folder.")
    return [found[number] for number in sorted(found)]


def _few(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
