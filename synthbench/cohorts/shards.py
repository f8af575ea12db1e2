"""Volumes in shards: tar files below a folder, and the table beside them.

`synthbench sample --shards` writes `shards.tsv` beside the shards, with the name and the hash of
every volume, so that what a truncated shard has lost can be named. Tar files of WebDataset's form
that another program wrote have no such table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from synthbench.cohorts.tables.text_table import TextTable, read_text_table
from synthbench.errors import CohortError
from synthbench.runtime import tar
from synthbench.runtime.documents import is_there

TABLE = "shards.tsv"
"""The table beside shards: one row per volume."""

PARTIAL = ".partial.tar"
"""The end of the name of a shard that is not finished."""

_SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz", ".npy")  # a pair is two members


def is_shard(file: Path) -> bool:
    """Return True where the name is that of an uncompressed tar file, and not of a hidden one."""
    return file.name.lower().endswith(tar.SUFFIX) and not file.name.startswith(".")


def volumes_of(shard: Path) -> list[Path]:
    """Return the whole volumes of a shard, in their order in it.

    Raises
    ------
    CohortError
        It cannot be read as a tar file.
    """
    return [shard / name for name in _content(shard).members if _is_volume(name)]


def sharded(shards: Sequence[Path], role: str) -> dict[Path, str]:
    """Return the volumes of shards with their sha256, which is empty where no table states it.

    Parameters
    ----------
    shards
        The tar files below a folder.
    role
        The cohort's name in messages.

    Raises
    ------
    CohortError
        A shard is not finished, cannot be read, or is truncated without a table that names what is
        lost; or a table cannot be used, or does not name a shard beside it.
    """
    found: dict[Path, str] = {}
    for folder in sorted({shard.parent for shard in shards}):
        here = [shard for shard in shards if shard.parent == folder]
        try:
            partial = [shard.name for shard in here if shard.name.endswith(PARTIAL)]
            if partial:
                raise CohortError(
                    f"{folder}: {len(partial)} shards are not finished (first: {partial[0]}). "
                    "Repeat the command that writes them."
                )
            listed = is_there(folder / TABLE, CohortError)
            found |= _tabled(folder, here) if listed else _listed(here)
        except CohortError as error:
            raise CohortError(f"{role}: {error}") from error
    return found


def stated_hashes(table: TextTable, paths: Iterable[Path]) -> dict[Path, str]:
    """Return the sha256 that a manifest states of its volumes in shards, in its column `sha256`.

    Parameters
    ----------
    paths
        The file of each row.
    """
    if "sha256" not in table.cells:
        return {}
    stated = zip(paths, table.cells["sha256"], strict=True)
    return {path: digest for path, digest in stated if digest and tar.split(path) is not None}


def _tabled(folder: Path, shards: Sequence[Path]) -> dict[Path, str]:
    """Return the volumes that the table of a folder names."""
    table = read_text_table(folder / TABLE)
    table.require("path", "sha256")
    names = [PurePosixPath(path) for path in table.cells["path"]]
    odd = [n for n in names if n.is_absolute() or ".." in n.parts or tar.split(folder / n) is None]
    if odd:
        raise CohortError(
            f"{folder / TABLE}: '{odd[0]}' is no volume in a shard of this folder. Write it as "
            "SHARD.tar/NAME, or repeat the command that wrote the table."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CohortError(f"{folder / TABLE}: '{twice[0]}' stands there twice. Remove one row.")
    known = {str(name.parts[0]) for name in names}
    unknown = [shard.name for shard in shards if shard.name not in known]
    if unknown:
        raise CohortError(
            f"{folder}: {len(unknown)} shards are not in {TABLE} (first: {unknown[0]}). Repeat the "
            f"command that wrote them, or delete the table."
        )
    return {folder / n: digest for n, digest in zip(names, table.cells["sha256"], strict=True)}


def _listed(shards: Iterable[Path]) -> dict[Path, str]:
    """Return the volumes of shards without a table."""
    found: dict[Path, str] = {}
    for shard in shards:
        held = _content(shard)
        if not held.ended:
            last = held.cut or next(reversed(held.members))
            raise CohortError(
                f"{shard}: it is truncated: it ends {'in' if held.cut else 'after'} {last}, and no "
                f"{TABLE} beside it names what is lost. Copy it again, or list the volumes to use "
                f"in a manifest (a CSV with a column 'path': {shard.name}/NAME)."
            )
        found |= dict.fromkeys(volumes_of(shard), "")
    return found


def _content(shard: Path) -> tar.Content:
    try:
        return tar.content(shard)
    except OSError as error:
        raise CohortError(
            f"{shard}: cannot be read: {error.strerror}. Copy it again from the original, or move "
            "it out of the folder."
        ) from error


def _is_volume(name: str) -> bool:
    last = PurePosixPath(name).name
    return last.lower().endswith(_SUFFIXES) and not last.startswith(".")
