"""Listing the files below a folder, and recognising DICOM files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

_MAGIC_AT = 128
_MAGIC = b"DICM"


def files_below(root: Path) -> list[Path]:
    """Return the files below a folder at any depth, sorted; hidden folders are skipped.

    Links to folders are followed, and keep their own names in the paths. Every folder is listed
    once: a link to a folder that is listed under its own name adds nothing, so loops end. Nor does
    a link to a folder above the root. A link to a missing file is listed.
    """
    # What lies above the root holds the root, and other data that nobody named.
    seen = {str(above) for above in Path(os.path.realpath(root)).parents}
    found: list[Path] = []
    waiting = [root]
    while waiting:
        # Folders before links to them: a folder is listed under its own name if it has one here.
        waiting = _walk(waiting, seen, found)
    return sorted(found)


def _walk(roots: Iterable[Path], seen: set[str], found: list[Path]) -> list[Path]:
    """Add the files below the folders to `found`, and return the linked folders, unread."""
    links: list[Path] = []
    waiting = list(roots)
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as entries:
            for entry in entries:
                place = folder / entry.name
                if not _is_folder(entry):
                    found.append(place)
                elif not entry.name.startswith("."):
                    (links if entry.is_symlink() else waiting).append(place)
    return sorted(links)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; whoever opens it says so
        return False


def is_dicom(file: Path) -> bool:
    """Return True where a file is named `.dcm`, or begins as DICOM files do (DICOM PS3.10, 7.1)."""
    if not file.is_file():
        return False
    if file.suffix.lower() == ".dcm":
        return True
    with file.open("rb") as content:
        content.seek(_MAGIC_AT)
        return content.read(len(_MAGIC)) == _MAGIC


def dicom_advice(folder: Path, files: Iterable[Path]) -> str | None:
    """Return how to convert DICOM files if there is one among these files, else None.

    Parameters
    ----------
    folder
        The folder to convert.
    files
        Looked at until a DICOM file is found.
    """
    first = next((file for file in files if is_dicom(file)), None)
    if first is None:
        return None
    return (
        f"There are DICOM files (first: {first}); convert them, into a folder OUT that exists: "
        f"dcm2niix -z y -o OUT {shlex.quote(str(folder))}"
    )
