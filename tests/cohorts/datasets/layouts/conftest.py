"""Trees of cohorts, made of volumes of a few voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


def write_volume(path: Path) -> Path:
    """Write a NIfTI image, or the two files of an ANALYZE pair for a `.hdr`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    kind = nib.AnalyzeImage if path.suffix == ".hdr" else nib.Nifti1Image
    nib.save(kind(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a download of these volumes."""

    def make(*volumes: str) -> Path:
        root = tmp_path / "download"
        root.mkdir(exist_ok=True)
        for name in volumes:
            write_volume(root / name)
        return root

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that writes a text file into the download."""

    def make(name: str, text: str) -> Path:
        file = tmp_path / "download" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return make
