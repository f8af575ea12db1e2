"""Anchored scales of ratings: a YAML file that a radiologist can edit."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from synthbench.errors import UsageError
from synthbench.records.base import Record
from synthbench.runtime.documents import check_fields, yaml_fields

MOST_LEVELS = 9
"""A level has one key of the keyboard."""

MOST_ITEMS = 40

_Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_FIX = "Correct it as in docs/readers.md, or copy the default from a new study."


@dataclass(frozen=True)
class Item:
    """One thing that a reader rates on a case.

    Attributes
    ----------
    key
        Its name in answers: the scale's key and, after a dot, its region.
    question
        What the reader is asked.
    levels
        The words at each level, the worst first; the first is level 1.
    """

    key: str
    question: str
    levels: tuple[str, ...]


class Scale(Record):
    """A question with anchored levels, asked once or once per region."""

    key: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    question: _Words
    levels: Annotated[tuple[_Words, ...], Field(min_length=2, max_length=MOST_LEVELS)]
    regions: tuple[_Words, ...] = ()

    @model_validator(mode="after")
    def _differ(self) -> Scale:
        for what, words in (("levels", self.levels), ("regions", self.regions)):
            if len(set(words)) < len(words):
                raise ValueError(f"two {what} of the scale {self.key} have the same words")
        return self

    def items(self) -> list[Item]:
        """Return what is rated: one item, or one per region."""
        if not self.regions:
            return [Item(self.key, self.question, self.levels)]
        return [
            Item(f"{self.key}.{region}", f"{self.question} ({region})", self.levels)
            for region in self.regions
        ]


class Scales(Record):
    """All scales of a study."""

    scales: Annotated[tuple[Scale, ...], Field(min_length=1)]
    comments: bool = True

    @model_validator(mode="after")
    def _few(self) -> Scales:
        keys = [scale.key for scale in self.scales]
        if len(set(keys)) < len(keys):
            raise ValueError("two scales have the same key")
        if len(self.items()) > MOST_ITEMS:
            raise ValueError(f"{len(self.items())} items per case; at most {MOST_ITEMS} are asked")
        return self

    def items(self) -> list[Item]:
        """Return everything that is rated on a case, in order."""
        return [item for scale in self.scales for item in scale.items()]


def read_scales(file: Path) -> Scales:
    """Return the scales in a file.

    Raises
    ------
    UsageError
        It cannot be read, or a scale is not usable; the field is named.
    """
    fields = yaml_fields(file, error=UsageError, fix=_FIX)
    return check_fields(Scales, fields, file, error=UsageError, fix=_FIX)


def default_scales() -> bytes:
    """Return the file of scales that a new study starts with, with its comments."""
    return (files("synthbench.readers") / "scales.yaml").read_bytes()
