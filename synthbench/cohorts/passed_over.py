"""Files of a folder that look like images, but are not read: they are counted, never forgotten."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from synthbench.runtime.walk import is_dicom
from synthbench.volumes.image_file import SUFFIXES, is_volume

_UNREAD = {
    "NRRD": (".nrrd", ".nhdr"),
    "MetaImage": (".mha", ".mhd"),
    "MINC": (".mnc", ".mnc.gz"),
    "npz": (".npz",),
    "AFNI": (".head",),
    "MRtrix": (".mif", ".mif.gz", ".mih"),
    "GIPL": (".gipl", ".gipl.gz"),
    "TIFF": (".tif", ".tiff"),
    "compressed pair": (".img.gz", ".hdr.gz"),
    "NIfTI in another compression than gzip": (
        ".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip", ".nii.7z", ".nii.lz4",
    ),
}  # fmt: skip


def passed_over(files: Iterable[Path]) -> list[str]:
    """Return a note on the images of formats that are not read, with their counts; else nothing.

    Parameters
    ----------
    files
        All files below a folder.
    """
    counts = Counter(form for file in files if (form := _unread(file)) is not None)
    if not counts:
        return []
    listed = ", ".join(f"{count} {form}" for form, count in sorted(counts.items()))
    return [
        f"{counts.total()} files left out, because their format is not read: {listed}. Convert "
        f"them to NIfTI if they belong to the cohort"
    ]


def _unread(file: Path) -> str | None:
    name = file.name.lower()
    if name.startswith("."):
        return None
    for form, suffixes in _UNREAD.items():
        if name.endswith(suffixes):
            return f"{form} ({next(s for s in suffixes if name.endswith(s))})"
    # DICOM files often have no ending, or end in the last number of their UID.
    ending = file.suffix.lower()
    if ending in (".dcm", ".ima") or ((ending[1:].isdigit() or not ending) and is_dicom(file)):
        return "DICOM"
    return None


def folders_named_as_volumes(root: Path, files: Sequence[Path]) -> list[Path]:
    """Return the folders below `root` that have the name of a volume and hold none."""
    parents = {parent for file in files if is_volume(file) for parent in file.parents}
    found = []
    for base, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        places = [Path(base, name) for name in names if name.lower().endswith(SUFFIXES)]
        found += [place for place in places if place not in parents]
    return found
