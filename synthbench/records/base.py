"""Records, and records that are files of their own, with a version.

A file states its version in `schema_version`, which is read before any other field. An older file
is upgraded step by step; a newer one is refused with the advice to update synthbench.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from synthbench.errors import MetricError, ScorecardError
from synthbench.runtime.documents import first_problem, kind_of, parse_json, read_text
from synthbench.runtime.files import write_atomic

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Returns the fields of one version as those of the next; it may change its argument in place."""


MOST = 1e100
"""The greatest size of a number in a file: pages and comparisons compute with it."""


class Record(BaseModel):
    """The base of all records: unknown fields are refused, and no field changes in place."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_numbers(value: Any, where: str = "") -> None:
    """Raise a ValueError where a number in a file is no number, or larger than `MOST`."""
    if isinstance(value, int | float):
        if not abs(value) <= MOST:  # also NaN
            raise ValueError(f"{where}: a number of at most {MOST:g} in size is needed")
    elif isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            _check_numbers(one, f"{where}.{name}".lstrip("."))


class RecordFile(Record):
    """A record that is a file of its own.

    A subclass gives `schema_version` the type `Literal[N]` and the default N: its newest version.

    Attributes
    ----------
    what
        Its name in messages, with the article: "a scorecard".
    upgrades
        By version, the step from it to the next one.
    unstated
        The version of files that state none; None: each file must state its version.
    """

    what: ClassVar[str]
    upgrades: ClassVar[Mapping[int, Upgrade]] = {}
    unstated: ClassVar[int | None] = None

    schema_version: int

    def __repr__(self) -> str:
        """The record in one line; its fields may be thousands of numbers."""
        return f"<{type(self).__name__}: {self.what.partition(' ')[2]}, schema {self.newest()}>"

    def __str__(self) -> str:
        return repr(self)

    @classmethod
    def newest(cls) -> int:
        """Return the version that this synthbench writes."""
        version: int = cls.model_fields["schema_version"].default
        return version

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that says how to get a usable file; subclasses name the command."""
        return f"Write {file} again."

    @classmethod
    def decode(cls, text: str) -> Any:
        """Return the content of a file's text, which is JSON here.

        Raises
        ------
        ValueError
            The text is not of this format.
        """
        return parse_json(text)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Return the record in a file of this version or of an older one.

        Raises
        ------
        ScorecardError
            The file cannot be read, holds something else, is of a newer version, or was edited
            so that it contradicts itself (`check`).
        """
        file = Path(file)
        text = read_text(file, error=ScorecardError, fix=cls.remedy(file))
        try:
            fields = cls.decode(text)
            _check_numbers(fields)
        except RecursionError as error:
            raise cls._unusable(file, "it is nested too deeply") from error
        except ValueError as error:
            raise cls._unusable(file, " ".join(str(error).split())) from error
        try:
            record = cls.model_validate(cls._upgraded(fields, file))
        except ValidationError as error:
            raise cls._unusable(file, first_problem(error)) from error
        except MetricError as error:  # a number does not follow from the others
            raise ScorecardError(f"{file}: it was edited: {error} {cls.remedy(file)}") from error
        except RecursionError as error:
            raise cls._unusable(file, "it is nested too deeply") from error
        record.check(file)
        return record

    def save(self, file: Path) -> Path:
        """Write the record as JSON, of the newest version, and return its file."""
        write_atomic(Path(file), (self.model_dump_json(indent=1) + "\n").encode())
        return Path(file)

    def check(self, file: Path) -> None:
        """Raise a ScorecardError where the file contradicts itself; the base checks nothing."""

    @classmethod
    def _upgraded(cls, fields: Any, file: Path) -> dict[str, Any]:
        """Return the fields in the newest version.

        Raises
        ------
        ScorecardError
            They are no fields, or their version is missing, invalid or newer.
        """
        if not isinstance(fields, dict):
            raise cls._unusable(file, f"it holds {kind_of(fields)}, not fields")
        found: dict[str, Any] = fields
        newest = cls.newest()
        version = fields.get("schema_version", cls.unstated)
        if version is None:
            raise cls._unusable(file, "it does not state its schema_version")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise cls._unusable(
                file, f"schema_version must be a whole number from 1 to {newest}; found {version!r}"
            )
        if version > newest:
            raise ScorecardError(
                f"{file}: {cls.what} of schema {version}, which a newer synthbench wrote; this "
                f"one reads schema {newest} and older. Update synthbench: pip install --upgrade "
                "synthbench"
            )
        for step in range(version, newest):
            try:
                found = {**cls.upgrades[step](found), "schema_version": step + 1}
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                raise cls._unusable(
                    file, f"it cannot be upgraded from schema {step}: {error!r}"
                ) from error
        return found

    @classmethod
    def _unusable(cls, file: Path, why: str) -> ScorecardError:
        return ScorecardError(
            f"{file}: not {cls.what} of schema {cls.newest()}: {why}. {cls.remedy(file)}"
        )
