"""The contract of a layout: recognising the tree of a cohort, and reading it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from synthbench.cohorts.datasets.scans import DataUseTerms, ScanTable

SIGNED_AGREEMENT = "This is a summary: the agreement that you signed rules."


@runtime_checkable
class Layout(Protocol):
    """One way in which a cohort is laid out on disk.

    A plugin is a class or a function in the entry-point group `synthbench.layouts`. It is called
    without arguments and returns an object with these attributes and methods, such as a
    `FolderLayout`. No base class is needed.
    """

    @property
    def name(self) -> str:
        """The name that `--layout` takes."""

    @property
    def signs(self) -> str:
        """The files that the layout is recognised by, as one line of an error message."""

    @property
    def terms(self) -> DataUseTerms | None:
        """The cohort's terms of use; None: each dataset states its own."""

    def fits(self, folder: Path) -> bool:
        """Return True where a folder looks like this layout.

        It is called for every cohort, so it reads only the names of folders and files.
        """

    def read(self, folder: Path) -> ScanTable:
        """Return the scans of a folder, at least one, in order of preference.

        Raises
        ------
        CohortError
            There is no scan that can be used, or a table beside the scans is unreadable or
            contradicts itself.
        """

    def holds(self, file: Path) -> bool:
        """Return True where the path is that of a scan of this cohort, and of no other cohort."""


@dataclass(frozen=True)
class FolderLayout:
    """A `Layout` made of two functions and, where there is one, a pattern of paths.

    Attributes
    ----------
    name, signs, fits, read, terms
        As in `Layout`.
    path
        A regular expression that matches the paths of this cohort's scans, and no others; None
        where there is none.
    """

    name: str
    signs: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], ScanTable]
    terms: DataUseTerms | None = None
    path: str | None = None

    def holds(self, file: Path) -> bool:
        """Return True where the path is that of a scan of this cohort."""
        return self.path is not None and re.search(self.path, file.as_posix()) is not None
