"""What a layout is: how a cohort's tree is recognised, and how it is read."""

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
    """The contract of a layout: one way in which a cohort is laid out on disk.

    A plugin is a class or a function in the entry-point group
    `synthbench.cohorts.datasets.layouts`. It is called without arguments and returns an object with
    these attributes and methods; `FolderLayout` is one. No base class is needed.
    """

    @property
    def name(self) -> str:
        """The name that `--layout` takes."""

    @property
    def signs(self) -> str:
        """What the layout is recognised by, in one line of an error message."""

    @property
    def terms(self) -> DataUseTerms | None:
        """The cohort's terms of use; None: each dataset states its own."""

    def fits(self, folder: Path) -> bool:
        """Whether a folder looks like this layout.

        Reads the names of folders and files only: it is asked of every cohort.
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
        """Whether the path is that of one of the cohort's own scans, and of no other cohort's."""


@dataclass(frozen=True)
class FolderLayout:
    """A `Layout` made of two functions and, where there is one, a pattern of paths.

    Attributes
    ----------
    name, signs, fits, read, terms
        As in `Layout`.
    path
        A regular expression that the paths of the cohort's own scans match, and no others; None:
        there is none.
    """

    name: str
    signs: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], ScanTable]
    terms: DataUseTerms | None = None
    path: str | None = None

    def holds(self, file: Path) -> bool:
        """Whether the path is that of one of the cohort's own scans."""
        return self.path is not None and re.search(self.path, file.as_posix()) is not None
