"""The BIDS derivative of prepared scans: writing it, and finding finished scans in it.

The sidecar of a scan is written last: a scan with a sidecar is complete.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict

from synthbench import __version__
from synthbench.cohorts.datasets.description import FILE as DESCRIPTION
from synthbench.cohorts.datasets.description import read_description
from synthbench.cohorts.datasets.scans import DataUseTerms, Scan
from synthbench.cohorts.preparation.pipeline import PreparedScan
from synthbench.cohorts.preparation.quality import quality_picture
from synthbench.cohorts.preparation.settings import Settings
from synthbench.cohorts.preparation.template import NAME as TEMPLATE
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.errors import UsageError
from synthbench.render.delimited import table_text
from synthbench.runtime.documents import check_fields, json_fields
from synthbench.runtime.files import is_held, write_atomic
from synthbench.runtime.names import entity
from synthbench.runtime.walk import files_below
from synthbench.volumes.grid import Space
from synthbench.volumes.image_file import is_volume
from synthbench.volumes.nifti import nifti_bytes

GENERATOR = "synthbench data prepare"

_SPACE = "_space-MNI152"
_VOLUME = "_desc-prepared_T1w.nii.gz"
_MASK = "_desc-brain_mask.nii.gz"
_WRITTEN = (f"{_SPACE}{_VOLUME}", f"{_SPACE}{_MASK}")


@dataclass(frozen=True)
class Destination:
    """The places of one scan's files.

    Attributes
    ----------
    folder
        The `anat` folder.
    stem
        The beginning of the names: subject, session, run and space.
    """

    folder: Path
    stem: str

    @classmethod
    def of(cls, scan: Scan, out: Path) -> Destination:
        """Return the destination of a scan in the derivative `out`.

        Raises
        ------
        CohortError
            An id of the scan cannot be part of a file's name.
        """
        parts = [entity("sub", scan.participant_id, "participant")]
        parts += [entity("ses", scan.session, "session")] if scan.session else []
        run = [entity("run", scan.run, "run")] if scan.run else []
        folder = out.joinpath(*parts, "anat")
        return cls(folder, "_".join([*parts, *run]) + _SPACE)

    @property
    def name(self) -> str:
        """Subject, session and run, for tables and messages."""
        return self.stem.removesuffix(_SPACE)

    @property
    def volume(self) -> Path:
        """The prepared volume."""
        return self.folder / f"{self.stem}{_VOLUME}"

    @property
    def mask(self) -> Path:
        """The brain mask."""
        return self.folder / f"{self.stem}{_MASK}"

    @property
    def picture(self) -> Path:
        """The picture for checking it."""
        return self.folder / f"{self.stem}_desc-quality_T1w.png"

    @property
    def sidecar(self) -> Path:
        """The record of its preparation."""
        return self.folder / f"{self.stem}_desc-prepared_T1w.json"

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the scan, the record last: a scan with one is complete."""
        return (self.volume, self.mask, self.picture, self.sidecar)

    def record(self) -> dict[str, Any] | None:
        """Return the sidecar of a complete scan; None where a file is missing."""
        if not all(file.is_file() for file in self.files):
            return None
        return _read_sidecar(self.sidecar)

    def write(
        self, prepared: PreparedScan, settings: Settings, source: dict[str, str], seconds: float
    ) -> dict[str, Any]:
        """Write a scan's files, each whole or not at all, and return the sidecar."""
        is_held(self.sidecar)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sidecar.unlink(missing_ok=True)
        text = f"prepared by synthbench {__version__}, settings {settings.digest}"
        write_atomic(self.volume, nifti_bytes(prepared.volume, prepared.space, text))
        write_atomic(self.mask, _mask_bytes(prepared.mask, prepared.space, text))
        write_atomic(self.picture, quality_picture(prepared, self.name))
        record = _sidecar(prepared, settings, source, seconds)
        write_atomic(self.sidecar, json_bytes(record))
        return record


class _SourceFields(BaseModel):
    model_config = ConfigDict(strict=True)

    sha256: str


class _MeasuredFields(BaseModel):
    model_config = ConfigDict(strict=True)

    brain_ml: float | None
    correlation_head: float | None
    correlation_brain: float | None
    noise_sd: float | None
    total_seconds: float


class SidecarFields(BaseModel):
    """The fields of a prepared scan's sidecar that are read."""

    model_config = ConfigDict(strict=True)

    SettingsDigest: str
    Source: _SourceFields
    Measured: _MeasuredFields


def _read_sidecar(file: Path) -> dict[str, Any]:
    """Return the sidecar of a prepared scan.

    Raises
    ------
    UsageError
        It cannot be read, or a field is missing or has a wrong value.
    """
    fix = "Delete it and repeat the command: the scan is then prepared again."
    fields = json_fields(file, error=UsageError, fix=fix)
    check_fields(SidecarFields, fields, file, error=UsageError, fix=fix)
    return fields


def _sidecar(
    prepared: PreparedScan, settings: Settings, source: dict[str, str], seconds: float
) -> dict[str, Any]:
    return {
        "Description": "T1-weighted brain: denoised, bias-corrected, registered to MNI152 by an "
        "affine, skull-stripped, intensities scaled by tissue to [0, 1], background 0",
        "SkullStripped": True,
        "SpatialReference": TEMPLATE,
        "Source": source,
        "SettingsDigest": settings.digest,
        "Settings": settings.record(),
        "Software": software_versions(),
        "AffineMNI152ToScanner": np.round(prepared.affine.matrix, 6).tolist(),
        "Measured": {**prepared.facts, "total_seconds": round(seconds, 1)},
    }


def _mask_bytes(mask: Bool[np.ndarray, "d h w"], space: Space, text: str) -> bytes:
    image = nib.Nifti1Image(mask.astype(np.uint8), space.matrix)
    image.set_sform(space.matrix, code="mni")
    image.set_qform(space.matrix, code="mni")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = text.encode()[:79]
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def json_bytes(content: Any) -> bytes:
    """Return JSON with indents."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def software_versions() -> dict[str, str]:
    """Return the versions of the packages that compute."""
    from importlib.metadata import version

    packages = ("SimpleITK", "dipy", "scipy", "numpy", "nilearn", "nibabel")
    return {"synthbench": __version__, **{name: version(name) for name in packages}}


# ---------------------------------------------------------------- the folder


def check_folder(out: Path, destinations: list[Destination], settings: Settings) -> None:
    """Check that a folder can hold scans with these settings.

    Raises
    ------
    UsageError
        It is a file, or holds another dataset, volumes that were not prepared, or scans that were
        prepared with other settings (the message names up to ten); or two scans have one name.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: that is a file; name a folder.")
    if (out / DESCRIPTION).is_file():
        programs = read_description(out).GeneratedBy
        made_by = programs[0].Name if programs else None
        if made_by != GENERATOR:
            raise UsageError(
                f"--out {out}: holds another dataset (made by {made_by or 'an unnamed program'}). "
                "Name a new folder."
            )
    foreign = [file for file in _volumes_in(out) if not file.name.endswith(_WRITTEN)]
    if foreign:
        raise UsageError(
            f"--out {out}: holds {len(foreign)} volumes that synthbench data prepare did not write "
            f"(first: {foreign[0]}). They would be mixed with prepared ones: name a new folder."
        )
    others = [
        sidecar.name.split("_space-")[0]
        for sidecar in sorted(out.glob("sub-*/**/*_desc-prepared_T1w.json"))
        if _read_sidecar(sidecar)["SettingsDigest"] != settings.digest
    ]
    if others:
        shown = ", ".join(others[:10]) + (f" and {len(others) - 10} more" * (len(others) > 10))
        raise UsageError(
            f"--out {out}: {len(others)} scans there were prepared with other settings: {shown}. "
            "Name another folder, repeat with the settings in their sidecars, or delete them."
        )
    names = [destination.stem for destination in destinations]
    # Some file systems do not tell capitals from small letters.
    counts = Counter(name.lower() for name in names)
    repeated = sorted({name for name in names if counts[name.lower()] > 1})
    if repeated:
        raise UsageError(
            f"{len(repeated)} names belong to several scans each (first: {repeated[0]}). Choose "
            "one scan per session with synthbench data select, or give them runs in a manifest."
        )


def check_no_volumes_but(out: Path, wanted: Collection[Path]) -> None:
    """Raise a UsageError where a folder holds prepared volumes, or others, that are not wanted."""
    own = {name for volume in wanted for name in (volume, volume.with_name(_mask_of(volume.name)))}
    others = [file for file in _volumes_in(out) if file not in own]
    if others:
        raise UsageError(
            f"--out {out}: it holds {others[0].name}, which is in none of the parts. Name a new "
            "folder."
        )


def _mask_of(volume: str) -> str:
    return volume.removesuffix(_VOLUME) + _MASK


def _volumes_in(folder: Path) -> list[Path]:
    return [f for f in files_below(folder) if is_volume(f)] if folder.is_dir() else []


def write_description(out: Path, source: str, terms: DataUseTerms, settings: Settings) -> None:
    """Write `dataset_description.json` and `DATA_USE_TERMS.txt`."""
    description = {
        "Name": f"{source}, prepared by synthbench",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "License": terms.name,
        "HowToAcknowledge": f"{terms.text} {terms.url}".strip(),
        "GeneratedBy": [
            {"Name": GENERATOR, "Version": __version__, "SettingsDigest": settings.digest}
        ],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "dataset_description.json", json_bytes(description))
    write_atomic(out / "DATA_USE_TERMS.txt", terms.as_text().encode())


def write_covariates(out: Path, rows: pd.DataFrame) -> None:
    """Write the covariates of the participants whose scans were prepared.

    Columns with one value per participant go to `participants.tsv`, the others to each
    participant's `sub-*_sessions.tsv`. Participants of earlier runs are kept.

    Parameters
    ----------
    rows
        One row per scan: `participant_id`, `session` and covariates.
    """
    rows = rows.drop(columns=["path", "run", "axes"], errors="ignore")
    distinct = rows.groupby("participant_id").nunique(dropna=False)
    lasting = [str(n) for n in distinct if n != "session" and (distinct[n] <= 1).all()]
    changing = [str(n) for n in distinct if n != "session" and n not in lasting]
    people = rows.drop_duplicates("participant_id").set_index("participant_id")[lasting]
    table = out / "participants.tsv"
    if table.is_file():
        read = read_text_table(table)
        read.require("participant_id")
        known = read.cells.replace("", "n/a").set_index("participant_id")
        people = pd.concat([known.drop(index=people.index, errors="ignore"), people])
    write_atomic(table, table_bytes(people.sort_index().reset_index()))
    if not changing or rows["session"].isna().all():
        return
    for person, visits in rows.groupby("participant_id"):
        sessions = visits.drop_duplicates("session")[["session", *changing]]
        sessions = sessions.rename(columns={"session": "session_id"})
        folder = entity("sub", str(person), "participant")
        write_atomic(out / folder / f"{folder}_sessions.tsv", table_bytes(sessions))


def table_bytes(table: pd.DataFrame) -> bytes:
    """Return a table in BIDS form: tabs, and n/a for missing values."""
    return table_text(table).encode()
