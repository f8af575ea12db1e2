"""Searching the tree of an unpacked download by the names of folders and files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from synthbench.errors import CohortError


def folders(root: Path, pattern: str, depth: int) -> Iterator[Path]:
    """Yield the folders whose name matches the whole pattern, at most `depth` levels down.

    A folder that matches is not searched itself; hidden ones are skipped.
    """
    inside = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    for name in inside:
        if re.fullmatch(pattern, name):
            yield root / name
        elif depth > 1 and not name.startswith("."):
            yield from folders(root / name, pattern, depth - 1)


def is_nifti(name: str) -> bool:
    """Return True where a file name is that of a NIfTI image, and not of a hidden file."""
    return name.lower().endswith((".nii", ".nii.gz")) and not name.startswith(".")


def label(text: object) -> str:
    """Return the letters and digits of a name, as BIDS allows in a label.

    >>> label("002_S_0413")
    '002S0413'
    """
    return re.sub(r"[^A-Za-z0-9]", "", str(text))


def counted(words: Iterable[str], most: int = 8) -> str:
    """Return words with their counts, the most frequent first.

    >>> counted(["T2w", "FLAIR", "T2w"])
    'T2w 2, FLAIR 1'
    """
    counts = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{word} {count}" for word, count in counts[:most])
    return shown + (f", and {len(counts) - most} other kinds" if len(counts) > most else "")


def complete_pairs(headers: Iterable[Path]) -> list[Path]:
    """Return the headers of ANALYZE pairs, after checking that each has its image.

    Raises
    ------
    CohortError
        A `.hdr` has no `.img`.
    """
    headers = list(headers)
    alone = [str(header) for header in headers if not header.with_suffix(".img").is_file()]
    if alone:
        raise CohortError(
            f"{len(alone)} ANALYZE headers have no image (.img) beside them: "
            f"{', '.join(alone[:5])}. Unpack the archive again, or remove those headers."
        )
    return headers
