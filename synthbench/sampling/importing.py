"""Bringing in volumes that were made elsewhere: copies with a grid, a scale and sidecars.

The folder is like one of `synthbench sample`. Each sidecar has the sha256 of the file that the
volume was made from, and the rules that it was made by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import synthbench
from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.foreign.diagnosis import Diagnosis, diagnose
from synthbench.cohorts.foreign.rules import Scaling, Statement
from synthbench.cohorts.listing import is_archive
from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.tables.participants import typed
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.cohorts.volume_file import finite
from synthbench.errors import CohortError, UsageError
from synthbench.runs.seal import canonical, check_sealed_before, seal_folder
from synthbench.runs.sidecar import Sidecar, found_sidecars, sidecar_file
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.files import sha256_file, write_atomic
from synthbench.runtime.lock import only_writer
from synthbench.runtime.part import Part, PartRecord, check_own
from synthbench.volumes.image_file import read_stored
from synthbench.volumes.nifti import nifti_bytes


@dataclass(frozen=True)
class ImportRequest:
    """What is brought in, and what is stated of it.

    Attributes
    ----------
    source
        A folder of volumes.
    name
        The name of what made them, in tables; None: the folder's.
    out
        The folder of the copies; None: SOURCE-imported, beside it.
    like
        The real volumes whose grid they have; None: what they state themselves.
    manifest
        A CSV or TSV file with a column `path`: the files to bring in. A column `seed` is kept as
        the seed, and the others, but `participant_id`, as the conditions that were requested.
    stated
        What the files do not say, or say wrongly.
    made_by
        The program that made them and its version, in the user's words.
    part
        The part of the files that is brought in, where several jobs share them;
        `synthbench.sampling.merging` joins the folders of all parts. None: all.
    """

    source: CohortFiles
    name: str | None = None
    out: Path | None = None
    like: CohortFiles | None = None
    manifest: Path | None = None
    stated: Statement = field(default_factory=Statement)
    made_by: str | None = None
    part: Part | None = None


def import_volumes(
    request: ImportRequest,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> list[Path]:
    """Bring volumes in, and return the copies, in the order of the names of their sources.

    All files are read and checked before one is written. The sources are not changed. Copies that
    the same call wrote before are kept.

    Raises
    ------
    CohortError
        Files cannot be brought in by what is stated. The message has all faults, and the command
        to type.
    UsageError
        The folder of the copies lies in the source or has other volumes, or the manifest names
        files outside the source.
    """
    source = request.source.path
    name = _one_line(source.resolve().name if request.name is None else request.name)
    out = _folder(source) if request.out is None else Path(request.out)
    _check_apart(source, out)
    with only_writer(out):
        return _imported(request, name, out, progress, log)


def _imported(
    request: ImportRequest,
    name: str,
    out: Path,
    progress: Callable[[int, int, str], None] | None,
    log: Log,
) -> list[Path]:
    """Bring volumes in, as the only writer into the folder; return the copies."""
    source = request.source.path
    real = None if request.like is None else read_cohort(request.like, role="like")
    found = diagnose(
        request.source, request.stated, real,
        None if request.like is None else request.like.path, request.manifest,
        None if progress is None else lambda done: progress(done, 0, "checking"),
    )  # fmt: skip
    if request.manifest is not None:
        _check_below(source, found)
    if found.faults:
        raise CohortError(found.message)
    rows = _rows(found, request.manifest)
    scaling = Scaling.of(request.stated, max(file.high for file in found.files))
    origin = {
        "synthetic": True,
        "generator": name,
        "software": f"synthbench {synthbench.__version__}",
    }
    copies = []
    for index, (file, row) in enumerate(zip(found.files, rows, strict=True)):
        about = {
            "file": file.name,
            "sha256": sha256_file(file.path),
            "geometry": found.positions[index].words,
            "intensity": scaling.words,
            "clipped": round(file.clipped, 6),
            "made_by": request.made_by,
        }
        sidecar = {**origin, **row, "imported": about}
        copies.append((out / f"synth-{index:06d}.nii.gz", sidecar))
    index_of = {copy: index for index, (copy, _) in enumerate(copies)}
    part = None
    if request.part is not None:
        part = _part_record(request.part, name, [sidecar for _, sidecar in copies])
        copies = list(request.part.chosen(copies))
    check_own(out, part)
    kept = _kept(out, copies)
    check_sealed_before(out, sorted(kept))
    write_atomic(out / "dataset_description.json", _description(name))
    if part is not None:
        part.write(out, finished=False)
    for done, (copy, sidecar) in enumerate(copies, 1):
        if copy not in kept:
            _write(found, index_of[copy], scaling, copy, sidecar)
        if progress is not None:
            progress(done, len(copies), copy.name)
    if part is not None:
        part.write(out, finished=True)
    seal_folder(out, [copy for copy, _ in copies], run=None, generator=name, log=log)
    log(_account(found, scaling, name, out, len(kept)))
    return [copy for copy, _ in copies]


def _part_record(part: Part, name: str, sidecars: Sequence[Mapping[str, Any]]) -> PartRecord:
    """Return the record of a part; the sidecars of all files say what the call depends on."""
    call = hashlib.sha256(canonical(sidecars)).hexdigest()
    return PartRecord(
        verb="import", part=part.number, of=part.of, call=call, run=None, options={"name": name}
    )


def _write(
    found: Diagnosis, index: int, scaling: Scaling, copy: Path, sidecar: Mapping[str, Any]
) -> None:
    """Write one copy, then its sidecar."""
    position = found.positions[index]
    values, _ = finite(read_stored(found.files[index].path).values)
    volume = scaling(position(values, scaling.low))
    content = nifti_bytes(volume, position.grid, "SYNTHETIC: imported", scaling.scale)
    write_atomic(copy, content)
    write_atomic(sidecar_file(copy), json.dumps(sidecar, indent=1).encode())


def _one_line(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise UsageError(f"--name: one line of text is needed; found {name!r}.")
    return name.strip()


def _folder(source: Path) -> Path:
    named = source if source.name not in ("", "..") else source.resolve()
    return named.with_name(f"{named.name}-imported")


def _check_apart(source: Path, out: Path) -> None:
    if not source.is_dir():
        what = "it is a file, and no folder" if source.exists() else "no such folder"
        if is_archive(source):
            what = "it is an archive, and no folder: unpack it first"
        raise UsageError(
            f"{source}: {what}. Name the folder of volumes; a table of its files is given "
            "with --manifest."
        )
    inner, outer = out.resolve(), source.resolve()
    if inner == outer or outer in inner.parents:
        raise UsageError(
            f"--out {out}: it lies in {source}, whose volumes are read. Name another folder, such "
            f"as {_folder(source)}."
        )


def _check_below(source: Path, found: Diagnosis) -> None:
    elsewhere = [
        file for file, _ in found.listing.files if source.resolve() not in file.resolve().parents
    ]
    if elsewhere:
        raise UsageError(
            f"--manifest: {len(elsewhere)} of its files are not in {source}, such as "
            f"{elsewhere[0]}. Paths are relative to the manifest."
        )


def _rows(found: Diagnosis, manifest: Path | None) -> list[dict[str, Any]]:
    """Return the fields of each sidecar that the manifest states, in the order of the files."""
    if manifest is None:
        return [{} for _ in found.files]
    table, _ = typed(read_text_table(manifest, ["path"]), drop=("path", "participant_id"))
    rows = []
    for cells in table.to_dict("records"):
        conditions = {str(column): _value(cell) for column, cell in cells.items()}
        seed = conditions.pop("seed", None)
        row: dict[str, Any] = {} if seed is None else {"seed": int(seed)}
        if conditions:
            row |= {"conditions": conditions, "extrapolated": [], "drawn": []}
        rows.append(row)
    return rows


def _value(cell: Any) -> float | str | None:
    if pd.isna(cell):
        return None
    return cell if isinstance(cell, str) else float(cell)


def _kept(out: Path, copies: list[tuple[Path, dict[str, Any]]]) -> set[Path]:
    """Return the copies that are there already.

    Raises
    ------
    UsageError
        The folder has volumes of another origin.
    """
    wanted = dict(copies)
    there = sorted(out.glob("*.nii.gz"))
    sidecars: list[Sidecar] = found_sidecars(there)
    others = [
        volume.name
        for volume, sidecar in zip(there, sidecars, strict=True)
        if volume not in wanted or (sidecar and sidecar != wanted[volume])
    ]
    if others:
        raise UsageError(
            f"--out {out}: it holds {len(others)} volumes of another origin, such as {others[0]}. "
            "Name a new folder."
        )
    return {volume for volume, sidecar in zip(there, sidecars, strict=True) if sidecar}


def _description(name: str) -> bytes:
    return json.dumps(
        {
            "Name": f"Synthetic volumes of {name}, brought in",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "synthbench", "Version": synthbench.__version__}],
        },
        indent=1,
    ).encode()


def _account(found: Diagnosis, scaling: Scaling, name: str, out: Path, kept: int) -> str:
    """Return what was done, for the user."""
    places = dict.fromkeys(position.words for position in found.positions)
    clipped = max(file.clipped for file in found.files)
    before = f", {kept} kept from an earlier call" if kept else ""
    return (
        f"{len(found.files)} volumes of {name} in {out}{before}\n"
        f"geometry: {'; '.join(places)}\n"
        f"values: {scaling.words}"
        + (f"; at most {clipped:.2%} of the voxels of a volume were clipped" if clipped else "")
        + f"\nNext: synthbench score --real REAL --synth {out}"
    )
