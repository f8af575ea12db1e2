"""Export: a cohort in shards as single files, in a BIDS folder."""

from __future__ import annotations

import errno
import json
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import synthbench
from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.conditions import MISSING
from synthbench.cohorts.datasets.description import read_description
from synthbench.cohorts.file_names import file_name
from synthbench.cohorts.listing import Listing, list_cohort
from synthbench.cohorts.reading import grouped
from synthbench.errors import CheckFailed, CohortError, UsageError
from synthbench.render import delimited
from synthbench.runs.sidecar import found_sidecars, sidecar_file
from synthbench.runtime import tar
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.files import replacing, sha256_file, write_atomic
from synthbench.runtime.lock import content_of, only_writer
from synthbench.runtime.names import entity

_DESCRIPTION = "dataset_description.json"
_WRITTEN = (_DESCRIPTION, "participants.tsv")


@dataclass(frozen=True)
class _Copy:
    """A volume to copy.

    Attributes
    ----------
    source, name
        Its file, and its name in messages.
    person, label
        Whom it is of, in the cohort and as the entity `sub` of the BIDS folder.
    target
        Its file in the BIDS folder.
    stated
        The sha256 that the table beside its shard states; else empty.
    """

    source: Path
    name: str
    person: str
    label: str
    target: Path
    stated: str


def export(
    source: CohortFiles | Path | str,
    out: Path,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> list[Path]:
    """Write the volumes of a cohort as single files: a BIDS folder, with the bytes they have.

    A volume `synth-000007.nii.gz` becomes `sub-synth000007/anat/sub-synth000007_T1w.nii.gz`; a name
    that has a participant stays. Sidecars are copied. `participants.tsv` has what the cohort's
    table says of each participant, or else the seed and the conditions of the sidecar.

    Parameters
    ----------
    source
        A folder of shards, their table, or any other cohort.
    out
        A new folder, or one of an earlier call: what is there is kept.
    progress
        Called with (done, total, name) after each volume.
    log
        Called with messages for the user.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    CheckFailed
        Volumes are lost or damaged; the message names them. All others were written.
    CohortError
        The source cannot be used, or two volumes would have one name.
    UsageError
        `out` holds something else, or lies in the source.
    """
    chosen = source if isinstance(source, CohortFiles) else CohortFiles(Path(source))
    out = Path(out)
    root = chosen.path if chosen.path.is_dir() else chosen.path.parent
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError(f"--out {out}: it lies in {root}, whose volumes are read. Name another.")
    listing = list_cohort(chosen, "cohort")
    copies = [_copy(file, person, listing, out) for file, person in listing.files]
    _check_names(copies)
    with only_writer(out):
        _check_folder(out)
        return _exported(copies, listing, root, out, progress, log)


def _copy(file: Path, person: str, listing: Listing, out: Path) -> _Copy:
    name = listing.name_of(file)
    named = file_name(file, name)
    plain = re.sub(r"[^A-Za-z0-9]", "", named.stem)[:64]
    label = entity("sub", plain if _is_nobody(person, name) else person, "participant")
    visit = named.entities.get("ses")
    folder = out / label / (entity("ses", visit, "session") if visit else "") / "anat"
    stem = named.stem if label == f"sub-{named.entities.get('sub')}" else f"{label}_T1w"
    ending = file.name[len(named.stem) :].lower()
    digest = listing.hashes.get(file, "")
    return _Copy(file, name, person, label, folder / f"{stem}{ending}", digest)


def _is_nobody(person: str, name: str) -> bool:
    """Return True where a file names no participant: then its name stands for one."""
    return person == unicodedata.normalize("NFC", name)


def _check_names(copies: Sequence[_Copy]) -> None:
    # Some file systems do not tell capitals from small letters.
    counts = Counter(str(copy.target).lower() for copy in copies)
    twice = [copy.name for copy in copies if counts[str(copy.target).lower()] > 1]
    if twice:
        raise CohortError(
            f"{len(twice)} volumes would have the names of others (first: {', '.join(twice[:2])}). "
            "Name them apart in a manifest with a column participant_id."
        )


def _check_folder(out: Path) -> None:
    others = [name for name in content_of(out) if not name.startswith("sub-")]
    others = [name for name in others if name not in _WRITTEN]
    if others:
        raise UsageError(
            f"--out {out}: it holds {min(others)}, of another kind. Name a new folder."
        )


def _exported(
    copies: Sequence[_Copy],
    listing: Listing,
    root: Path,
    out: Path,
    progress: Callable[[int, int, str], None] | None,
    log: Log,
) -> list[Path]:
    """Write the files, as the only writer into the folder."""
    write_atomic(out / _DESCRIPTION, _description(root))
    lost: dict[str, str] = {}
    written: list[_Copy] = []
    for done, copy in enumerate(copies, 1):
        if (fault := _written(copy)) is not None:
            lost[copy.name] = fault
        if copy.target.exists():
            written.append(copy)
        if progress:
            progress(done, len(copies), copy.name)
    write_atomic(out / "participants.tsv", _participants(written, listing))
    log(f"{len(written)} volumes in {out}")
    if lost:
        shown = [f"{names}: {why}" for names, why in grouped(lost)][:20]
        raise CheckFailed(
            f"{len(lost)} of {len(copies)} volumes could not be exported whole:\n  "
            + "\n  ".join(shown)
            + f"\n{len(written)} volumes are in {out}."
        )
    return [copy.target for copy in written]


def _written(copy: _Copy) -> str | None:
    """Write a volume and its sidecar; return what is lost of them, or None."""
    try:
        digest = sha256_file(copy.source)
    except tar.TruncatedError as error:
        return f"it is lost: {error.strerror}"
    if copy.stated and digest != copy.stated:
        return "its bytes are not those that the table beside its shard states (sha256)"
    about, inside = sidecar_file(copy.source), tar.split(copy.source)
    has_sidecar = tar.is_file(about)
    if not copy.target.exists():
        copy.target.parent.mkdir(parents=True, exist_ok=True)
        if has_sidecar:
            _put(about, sidecar_file(copy.target))
        _put(copy.source, copy.target, digest)  # last: a volume that is there has its sidecar
    elif sha256_file(copy.target) != digest:
        raise UsageError(f"{copy.target}: it is there with other bytes. Name a new folder.")
    if not has_sidecar and inside is not None and not tar.content(inside[0]).ended:
        return f"its sidecar is lost: its shard {inside[0].name} is truncated"
    return None


def _put(source: Path, target: Path, expected: str | None = None) -> None:
    with tar.open_binary(source) as opened, replacing(target) as temporary:
        with temporary.open("r+b") as file:
            shutil.copyfileobj(opened, file, 2**20)
        if expected is not None and sha256_file(temporary) != expected:
            raise OSError(errno.EIO, "the bytes that were read changed meanwhile", str(source))


def _description(root: Path) -> bytes:
    found = read_description(root)
    fields = {
        "Name": f"{found.Name or root.resolve().name}, as single files",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "License": found.licence,
        "HowToAcknowledge": found.HowToAcknowledge,
        "GeneratedBy": [{"Name": "synthbench", "Version": synthbench.__version__}],
    }
    return json.dumps({k: v for k, v in fields.items() if v is not None}, indent=1).encode()


def _participants(copies: Sequence[_Copy], listing: Listing) -> bytes:
    """Return `participants.tsv`: the cohort's own table, or what the sidecars say."""
    rows: dict[str, Mapping[Any, Any]] = {}
    sidecars = found_sidecars(copy.source for copy in copies)
    for copy, sidecar in zip(copies, sidecars, strict=True):
        seed = {} if sidecar.get("seed") is None else {"seed": sidecar["seed"]}
        row = {**seed, **(sidecar.get("conditions") or {})}
        if copy.person in listing.participants.index:
            row = listing.participants.loc[copy.person].to_dict()
        rows[copy.label] = row
    columns = list(dict.fromkeys(str(name) for row in rows.values() for name in row))
    lines = [["participant_id", *columns]]
    for label in sorted(rows):
        values = [rows[label].get(name) for name in columns]
        lines.append([label, *(MISSING if pd.isna(value) else str(value) for value in values)])
    return delimited.lines(lines).encode()
