"""The embedded atlas cohort as a BIDS folder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float64, UInt8

from synthbench import __version__
from synthbench.errors import UsageError
from synthbench.runtime.files import write_atomic
from synthbench.runtime.lock import is_lock_or_temporary, only_writer
from synthbench.simulation.deformation import Shape
from synthbench.simulation.subject import (
    DEFAULT_SHAPE,
    INTENSITY_STEP,
    Subject,
    check_not_negative,
    checked_shape,
    draw,
    participant_id,
)
from synthbench.simulation.template import LABELS


def atlas_cohort(
    n: int,
    out: Path,
    seed: int = 0,
    shape: Sequence[int] = DEFAULT_SHAPE,
    *,
    labels: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write subjects 0 to n - 1 of a seed as a BIDS derivative folder.

    The same arguments write the same bytes. Volumes are uint8 with a slope, so they load as
    [0, 1]. `participants.tsv` comes last: a folder that has one is complete. An interrupted or
    smaller cohort of the same seed and shape may be written over.

    Parameters
    ----------
    n
        Number of subjects, at least 1.
    out
        Folder, made if absent.
    seed
        Seed of the cohort; 0 or more.
    shape
        Voxels along x, y and z, at least 16 each.
    labels
        Write each subject's tissues too, as a label map (`LABELS`, BIDS suffix `dseg`).
    progress
        Called with the number of subjects written so far, after each.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UsageError
        `n`, `seed` or `shape` is not usable, or `out` holds files of something else.
    """
    if n < 1:
        raise UsageError(f"n must be at least 1 subject; found {n}. Give n=1 or more.")
    check_not_negative("seed", seed)
    grid = checked_shape(shape)
    with only_writer(Path(out)):
        _write_cohort(n, Path(out), seed, grid, labels, progress)
    return Path(out)


def _write_cohort(
    n: int,
    out: Path,
    seed: int,
    grid: Shape,
    labels: bool,
    progress: Callable[[int], None] | None,
) -> None:
    """Write the cohort, as the only writer into the folder."""
    description = _json_bytes(_dataset_description(seed, grid))
    _check_folder(out, n, description)
    if labels:
        _write(out / "dseg.tsv", _label_table())
    (out / "participants.tsv").unlink(missing_ok=True)
    _write(out / "dataset_description.json", description)
    _write(out / "participants.json", _json_bytes(_PARTICIPANTS_COLUMNS))
    rows = ["participant_id\tage\tsex\tventricle_volume\tbrain_volume"]
    for index in range(n):
        subject = draw(seed, index, grid)
        _write(out / _volume_path(index), _nifti_bytes(subject))
        if labels:
            _write(out / _label_path(index), _label_bytes(subject))
        rows.append(
            f"{subject.participant_id}\t{subject.age:.2f}\t{subject.sex}"
            f"\t{subject.ventricle_volume:.1f}\t{subject.brain_volume:.1f}"
        )
        if progress is not None:
            progress(index + 1)
    _write(out / "participants.tsv", ("\n".join(rows) + "\n").encode())


# --- files --------------------------------------------------------------------------------------

_PARTICIPANTS_COLUMNS: dict[str, object] = {
    "age": {"Description": "Age of the simulated subject", "Units": "year"},
    "sex": {"Description": "Sex of the simulated subject", "Levels": {"F": "female", "M": "male"}},
    "ventricle_volume": {"Description": "Lateral ventricles, true", "Units": "mm^3"},
    "brain_volume": {"Description": "Grey and white matter, true", "Units": "mm^3"},
}


def _dataset_description(seed: int, shape: Shape) -> dict[str, object]:
    return {
        "Name": "synthbench atlas cohort (simulated, no person's data)",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "synthbench atlas",
                "Version": __version__,
                "Description": (
                    "Simulated T1-weighted brains: random diffeomorphisms of the ICBM MNI152 "
                    "2009 template and tissue maps that nilearn distributes, with simulated "
                    "contrast, bias field and noise."
                ),
                "Parameters": {"seed": seed, "shape": list(shape)},
            }
        ],
    }


def _volume_path(index: int) -> Path:
    name = participant_id(index)
    return Path(name, "anat", f"{name}_space-MNI152_desc-brain_T1w.nii.gz")


def _label_path(index: int) -> Path:
    volume = _volume_path(index)
    return volume.with_name(volume.name.replace("_T1w.", "_dseg."))


def _label_table() -> bytes:
    rows = [f"{index}\t{name}" for index, name in LABELS.items()]
    return ("\n".join(["index\tname", *rows]) + "\n").encode()


def _nifti_bytes(subject: Subject) -> bytes:
    levels = np.round(subject.volume / np.float32(INTENSITY_STEP)).astype(np.uint8)
    return _image_bytes(levels, subject.affine, INTENSITY_STEP)


def _label_bytes(subject: Subject) -> bytes:
    return _image_bytes(subject.labels, subject.affine, 1.0)


def _image_bytes(
    stored: UInt8[np.ndarray, "d h w"], affine: Float64[np.ndarray, "4 4"], slope: float
) -> bytes:
    """Return a gzipped NIfTI without a time stamp, so that equal subjects give equal bytes."""
    image: Any = nib.Nifti1Image(stored, affine)
    image.header["descrip"] = b"simulated by synthbench from the MNI152 template"
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="mni")
    image.set_sform(affine, code="mni")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _json_bytes(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


def _check_folder(out: Path, n: int, description: bytes) -> None:
    """Refuse a folder that holds anything but this cohort, or its first subjects."""
    ours = {_volume_path(index) for index in range(n)}
    ours |= {_label_path(index) for index in range(n)} | {Path("dseg.tsv")}
    ours |= {Path(f"participants.{ext}") for ext in ("json", "tsv")}
    files = [path for path in out.rglob("*") if not path.is_dir()]
    found = {path.relative_to(out) for path in files if not is_lock_or_temporary(path.name)}
    described = out / "dataset_description.json"
    if described.exists() and described.read_bytes() == description:
        ours.add(described.relative_to(out))
    if others := sorted(found - ours):
        raise UsageError(
            f"out must be empty, or hold this very cohort; found {len(others)} other files in "
            f"{out} (first: {others[0]}). Give another folder, or delete this one."
        )
