"""What a layout is: how a cohort's tree is recognised, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synthbench.scans import DataUseTerms, ScanTable

SIGNED_AGREEMENT = "This is a summary: the agreement that you signed rules."


@dataclass(frozen=True)
class Layout:
    """One way in which a cohort is laid out on disk.

    Attributes
    ----------
    name
        What `--layout` takes.
    signs
        What the layout is recognised by, in a line of an error message.
    fits
        Whether a folder looks like this layout. Reads the names of folders and files only.
    read
        The scans of a folder; see `synthbench.scans.find_scans` for what it raises.
    terms
        The cohort's terms of use; None: what each dataset says of itself.
    path
        A pattern that the paths of the cohort's own scans hold, and no others; None: there is
        none.
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
