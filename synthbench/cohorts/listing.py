"""The files of a cohort with their persons and covariates, before any file is opened."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

import pandas as pd

from synthbench.cohorts.choice import Choice, CohortFiles, choose, first_names
from synthbench.cohorts.file_names import FileName, file_name
from synthbench.cohorts.passed_over import folders_named_as_volumes, passed_over
from synthbench.cohorts.remarks import CohortRemark
from synthbench.cohorts.shards import is_shard, sharded, stated_hashes
from synthbench.cohorts.tables.participants import (
    Participants,
    ids_of,
    manifest_rows,
    read_participants,
)
from synthbench.cohorts.tables.persons import person_key
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.cohorts.volume_file import name
from synthbench.errors import CohortError
from synthbench.runtime import tar
from synthbench.runtime.documents import is_there
from synthbench.runtime.walk import dicom_advice, files_below
from synthbench.volumes.image_file import SUFFIXES, StoredImage, is_volume
from synthbench.volumes.in_memory import Held, held_volumes


@dataclass(frozen=True)
class Listing:
    """The files of a cohort.

    Attributes
    ----------
    files
        Each volume's file and the person it is of; a file that names nobody is its own person.
    root
        The folder or manifest that names of files are relative to.
    participants
        One row per person, indexed by participant; empty where no table was found.
    scans
        One row per volume, indexed by its name, where the table has one; else empty.
    remarks
        What was left out, and what was read by a rule.
    held
        The volumes that a program holds, by the paths that stand for them in `files`.
    hashes
        The sha256 of the files in shards, where a table beside the shards states it.
    """

    files: list[tuple[Path, str]]
    participants: pd.DataFrame
    scans: pd.DataFrame
    root: Path
    remarks: tuple[CohortRemark, ...] = ()
    held: Mapping[Path, StoredImage] = field(default_factory=dict)
    hashes: Mapping[Path, str] = field(default_factory=dict)

    def name_of(self, file: Path) -> str:
        """Return the name of a volume in messages and tables."""
        return file.name if file in self.held else name(file, self.root)


NOWHERE = Path(os.devnull)
"""The folder of volumes that a program holds: no file can lie below it."""


def is_path(source: object) -> TypeGuard[Path | str | CohortFiles]:
    """Return whether a cohort lies in files that one path names."""
    return isinstance(source, (str, Path, CohortFiles))


def list_cohort(source: Path | str | CohortFiles | Held, role: str) -> Listing:
    """Return the files of a folder, a BIDS folder or a manifest, or what a program holds.

    Raises
    ------
    CohortError
        The path holds no volumes, several images of one scan could be meant, or a table cannot be
        used.
    """
    if not is_path(source):
        return _listed(source, role)
    source = source if isinstance(source, CohortFiles) else CohortFiles(Path(source))
    path, choice = Path(source.path), source.choice
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        return _manifest(path, choice, role)
    if not path.is_dir():
        what = "it is a file, but not a .csv or .tsv manifest" if path.exists() else "no such path"
        if path.is_file() and is_archive(path):
            what = "it is an archive: unpack it first"
        raise CohortError(
            f"{role}: {path}: {what}. Give a directory of volumes ({', '.join(SUFFIXES)}) "
            "or a CSV/TSV manifest with a column 'path'."
        )
    below = files_below(path)
    files = [file for file in below if is_volume(file)]
    files = sorted([*files, *folders_named_as_volumes(path, below)])
    unread = passed_over(below)
    hashes: dict[Path, str] = {}
    shards = [file for file in below if is_shard(file)]
    if not files:
        hashes = sharded(shards, role)
        files = sorted(hashes)
    elif shards:
        unread.append(f"{len(shards)} tar files left out, because volumes lie beside them")
    if not files:
        advice = [dicom_advice(path, below) or "", *(f"{note}." for note in unread)]
        raise CohortError(
            f"{role}: {path} holds no volumes. Looked at any depth for {', '.join(SUFFIXES)}, and "
            "for tar files of them. " + " ".join(advice).strip()
        )
    chosen = choose(files, path, choice, role)
    remarks = [CohortRemark("files", note, note) for note in unread]
    remarks += [
        CohortRemark(
            "files",
            f"{len(names)} files left out, {reason}: {first_names(names)}. To choose other files: "
            "--suffix and --filter, or a manifest",
            f"{len(names)} files left out: {reason}",
        )
        for reason, names in chosen.left_out.items()
    ]
    people = [_person(named) for named in chosen.names]
    table = path / "participants.tsv"
    participants = Participants(pd.DataFrame())
    if is_there(table, CohortError):
        participants = read_participants(table)
        people = _known(chosen.names, people, participants)
        participants = participants.of(people, f"{role}: {table}")
        remarks += _remarks(participants.notes, table)
    listed = [(named.file, person) for named, person in zip(chosen.names, people, strict=True)]
    return Listing(
        listed, participants.table, pd.DataFrame(), path, tuple(remarks), hashes=hashes
    )  # fmt: skip


def _listed(source: Held, role: str) -> Listing:
    """Return the files in a list, and the volumes that a program holds."""
    try:
        volumes = held_volumes(source)
    except CohortError as error:
        raise CohortError(f"{role}: {error}") from error
    if not volumes:
        raise CohortError(f"{role}: an empty list. Give volumes, or their paths.")
    paths = [one for one in volumes if isinstance(one, Path)]
    missing = [path for path in paths if not path.is_file() and tar.split(path) is None]
    if missing:
        raise CohortError(
            f"{role}: {len(missing)} of {len(paths)} listed files do not exist (first: "
            f"{missing[0]})."
        )
    _check_repeated(paths, role)
    folders = [os.path.abspath(path.parent) for path in paths]
    root = Path(os.path.commonpath(folders)) if folders else NOWHERE
    files: list[tuple[Path, str]] = []
    held: dict[Path, StoredImage] = {}
    for number, one in enumerate(volumes, 1):
        if isinstance(one, Path):
            one = Path(os.path.abspath(one))
            files.append((one, _person(file_name(one, name(one, root)))))
            continue
        stands_for = NOWHERE / f"volume-{number:04d}"
        held[stands_for] = one
        files.append((stands_for, stands_for.name))
    return Listing(files, pd.DataFrame(), pd.DataFrame(), root, held=held)


def _check_repeated(paths: Sequence[Path], where: str) -> None:
    repeated = [str(p) for p, count in Counter(p.resolve() for p in paths).items() if count > 1]
    if repeated:
        raise CohortError(f"{where}: listed more than once: {', '.join(repeated[:5])}.")


def _person(named: FileName) -> str:
    label = named.entities.get("sub")
    # Two files of one person may spell an accent as one character and as two.
    return unicodedata.normalize("NFC", named.name if label is None else f"sub-{label}")


def _known(
    names: Sequence[FileName], people: Sequence[str], participants: Participants
) -> list[str]:
    """Return the persons; a file that names nobody is of the person that a table calls so.

    The table may name the file without its ending, without its last word, or its folder.
    """
    ids = {person_key(person): str(person) for person in participants.table.index}
    found = []
    for named, person in zip(names, people, strict=True):
        candidates = (named.stem, named.scan[-1], *reversed(named.folders))
        known = [ids[key] for text in candidates if (key := person_key(text)) in ids]
        found.append(known[0] if known and person == named.name else person)
    return found


def _remarks(notes: Sequence[str], table: Path) -> list[CohortRemark]:
    if not notes:
        return []
    message = f"{table}: {'; '.join(notes)}. Correct the table where that is not meant"
    summary = f"the table was read by rules in {len(notes)} places"
    return [CohortRemark("participants", message, summary, severity="warning")]


def _manifest(file: Path, choice: Choice, role: str) -> Listing:
    table = read_text_table(file, ["path", "participant_id"])
    try:
        table.require("path")
    except CohortError as error:
        raise CohortError(f"{role}: {error}") from error
    paths = [file.parent / str(p) for p in table.cells["path"]]
    # What a truncated shard has lost is named with the other volumes that cannot be used.
    missing = [p for p in paths if not p.is_file() and tar.split(p) is None]
    if missing or not paths:
        raise CohortError(
            f"{role}: {file}: {len(missing)} of {len(paths)} listed files do not exist"
            + (f" (first: {missing[0]})" if missing else "")
            + ". Paths are relative to the manifest's folder."
        )
    _check_repeated(paths, f"{role}: {file}")
    names = [file_name(p, name(p, file)) for p in paths]
    people = [_person(named) for named in names]
    participants = scans = pd.DataFrame()
    remarks = _remarks(table.notes, file)
    if "participant_id" in table.cells:
        people = ids_of(table)
        participants, scans, notes = manifest_rows(table, people)
        scans = scans.set_axis([named.name for named in names])
        remarks = _remarks((*table.notes, *notes), file)
    kept = names
    if choice:
        kept = choice.of(names, role, str(file))
        gone = [named for named in names if named not in kept]
        if gone:
            what = f"{len(gone)} rows left out, not chosen by {choice}"
            remarks.append(
                CohortRemark("files", f"{what}: {first_names(gone)}", f"{len(gone)} rows left out")
            )
    listed = [(n.file, p) for n, p in zip(names, people, strict=True) if n in kept]
    hashes = stated_hashes(table, paths)
    return Listing(listed, participants, scans, file, tuple(remarks), hashes=hashes)


def is_archive(path: Path) -> bool:
    """Return True where a path is named as an archive of files."""
    return path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip", ".7z"))
