"""What a parser is to the fuzzer: a file, how it is damaged, and what reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Parser:
    """A way in which a file is read.

    Attributes
    ----------
    name
        What tables call it.
    file
        The path of the damaged file below the folder.
    damaged
        Its damaged contents.
    read
        Reads it.
    beside
        Good files beside it, by path.
    also_called
        What a refusal may name in place of the file: its folder, the option that names it.
    """

    name: str
    file: str
    damaged: st.SearchStrategy[bytes]
    read: Read
    beside: Mapping[str, bytes] = field(default_factory=dict)
    also_called: tuple[str, ...] = ()

    @property
    def called(self) -> tuple[str, ...]:
        """Words of which a refusal must have one."""
        return (Path(self.file).name, *self.also_called)

    def prepared(self, folder: Path) -> Read:
        """Write the files beside it, and return what reads it."""
        for name, content in {**self.beside, self.file: b""}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return self.read
