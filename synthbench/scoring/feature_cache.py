"""The feature cache: rows that extractors computed in earlier runs, in one small file each.

The key of a row is a hash of everything that the row depends on (`row_key`), so a row that is
found is the row that would be computed. The folder is the one that the environment variable
SYNTHBENCH_CACHE names, else `features` in the user's cache folder. Features of real volumes are
participant-level data: only their owner can read the files, and nothing is sent anywhere.

FOLDER/EXTRACTOR/ab/abcdef....row    32 bytes: the key; 32 bytes: the sha256 of what follows;
                                     then the features as little-endian float32
FOLDER/sample-data/ab/abcdef....npz  the sample data of one scoring
                                     (`synthbench.scoring.sample_data`)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import platformdirs
from jaxtyping import Float32

from synthbench.errors import UsageError, near_miss
from synthbench.runtime.callbacks import Log, no_log
from synthbench.runtime.files import write_atomic
from synthbench.volumes.grid import Space

FOLDER_VARIABLE = "SYNTHBENCH_CACHE"
LIMIT_VARIABLE = "SYNTHBENCH_CACHE_LIMIT"
DEFAULT_LIMIT = 2 * 2**30
"""Bytes that all files may take together, where the user names no limit."""

SCHEMA = 1
"""Part of every key. Raise it when reading, scaling or resampling changes a voxel, or when the
layout of a file changes: then no earlier row is found."""

ABANDONED_S = 3600.0
"""Age in seconds after which a temporary file counts as left behind by a killed process."""

SAMPLE_DATA = "sample-data"
"""The folder of the sample data of scorings, and their name in `usage`."""

_SUFFIX = ".row"
_SAMPLE_DATA_SUFFIX = ".npz"
_DIGEST_BYTES = 32
_OWNER_ONLY = 0o700
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}  # fmt: skip


def row_key(extractor: Any, volume: str, computed_with: str) -> str:
    """Return the key of one volume's features: a sha256, in hexadecimal.

    Parameters
    ----------
    extractor
        An object with the attributes of `synthbench.metrics.extractors.extractor.Extractor`.
        Without weights, `preprocessing` changes with each version of the extractor.
    volume
        Identity of the voxels: content, grids, intensity rule (`Volumes.identity`).
    computed_with
        The library and the kind of device, which round differently.
    """
    grid: Space | None = extractor.space
    parts = {
        "schema": SCHEMA,
        "volume": volume,
        "extractor": extractor.name,
        "weights": extractor.weights_sha256,
        "preprocessing": extractor.preprocessing,
        "layer": extractor.layer,
        "dim": extractor.dim,
        "grid": None if grid is None else [grid.shape, grid.affine],
        "computed with": computed_with,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cache_folder() -> Path:
    """Return the folder of the cache, which may not exist yet."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("synthbench") / "features"


def cache_limit() -> int:
    """Return how many bytes all files may take together.

    Raises
    ------
    UsageError
        SYNTHBENCH_CACHE_LIMIT is not a size.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return DEFAULT_LIMIT
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2].upper() not in _UNITS:
        raise UsageError(
            f"{LIMIT_VARIABLE}: a size is needed, such as 500MB or 2GiB; found '{text}'."
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])


@dataclass
class FeatureCache:
    """A folder with rows of features and sample data of scorings, which runs may share.

    A file is written whole or not at all. A row that is truncated, damaged or from elsewhere
    counts as absent, and is replaced.

    Attributes
    ----------
    folder
        The folder; it is made when the first row is kept.
    limit
        Bytes that all files may take together after `trim`.
    log
        Called once, with one sentence, where rows cannot be kept.
    """

    folder: Path = field(default_factory=cache_folder)
    limit: int = field(default_factory=cache_limit)
    log: Log = no_log
    _kept: int = field(default=0, init=False, repr=False)
    _refused: bool = field(default=False, init=False, repr=False)

    def find(self, key: str, extractor: str, dim: int) -> Float32[np.ndarray, " dim"] | None:
        """Return a volume's features; None where they are absent or damaged."""
        path = self._path(key, extractor)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        row = _unpacked(content, key)
        if row is None or len(row) != dim:
            return None
        # `trim` removes files in the order of their last use.
        with suppress(OSError):
            os.utime(path)
        return row

    def keep(self, key: str, extractor: str, row: Float32[np.ndarray, " dim"]) -> None:
        """Keep a volume's features; where that fails, log it once and keep no more."""
        self._write(self._path(key, extractor), _packed(key, row))

    def find_sample_data(self, key: str) -> bytes | None:
        """Return the bytes of a scoring's sample data; None where there are none."""
        path = self._sample_data_path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)
        return content

    def keep_sample_data(self, key: str, content: bytes) -> None:
        """Keep the sample data of a scoring; where that fails, log it."""
        if len(content) > self.limit:
            self.log(
                f"the sample data of this scoring take {len(content) / 1e6:,.0f} MB, more than "
                f"the cache may hold, and are not kept: raise {LIMIT_VARIABLE}, or add "
                "--sample-data FILE."
            )
            return
        self._write(self._sample_data_path(key), content)

    def _write(self, path: Path, content: bytes) -> None:
        if self._refused:
            return
        try:
            for folder in (self.folder, path.parent.parent, path.parent):
                folder.mkdir(_OWNER_ONLY, parents=True, exist_ok=True)
            write_atomic(path, content)
        except OSError as error:
            self._refused = True
            self.log(
                f"features are not kept for the next run: {self.folder}: {error.strerror}. Set "
                f"{FOLDER_VARIABLE} to a folder that can be written, or add --no-cache."
            )
        else:
            self._kept += 1

    def trim(self) -> None:
        """Remove the least recently used files beyond the limit, if this run has kept a file.

        It scans the folder once.
        """
        if not self._kept:
            return
        self._kept = 0
        _remove_abandoned(self.folder)
        rows = sorted(_rows(self.folder), key=lambda row: (row.used, row.path.name))
        excess = sum(row.size for row in rows) - self.limit
        for row in rows:
            if excess <= 0:
                break
            _remove(row.path)
            excess -= row.size

    def _path(self, key: str, extractor: str) -> Path:
        return self.folder / _folder_name(extractor) / key[:2] / f"{key}{_SUFFIX}"

    def _sample_data_path(self, key: str) -> Path:
        return self.folder / SAMPLE_DATA / key[:2] / f"{key}{_SAMPLE_DATA_SUFFIX}"


# ---------------------------------------------------------------- what is in the cache


@dataclass(frozen=True)
class Usage:
    """The space that one extractor's rows, or the sample data of scorings, take.

    Attributes
    ----------
    extractor
        Its name; `SAMPLE_DATA` for the sample data.
    rows
        The number of volumes with features, or of scorings.
    size
        In bytes.
    """

    extractor: str
    rows: int
    size: int


def usage(folder: Path) -> list[Usage]:
    """Return the number and size of the rows of every extractor, in the order of their names."""
    sizes: dict[str, list[int]] = {}
    for row in _rows(folder):
        sizes.setdefault(row.extractor, []).append(row.size)
    return [Usage(name, len(found), sum(found)) for name, found in sorted(sizes.items())]


def clear(folder: Path, extractor: str | None = None) -> list[Usage]:
    """Remove the rows of one extractor, or of all, and return what was removed.

    Files of other programs stay.

    Raises
    ------
    UsageError
        There is neither an extractor nor a row of that name.
    """
    found = usage(folder)
    if extractor is not None:
        _check_known(extractor, found)
    for row in list(_rows(folder)):
        if extractor in (None, row.extractor):
            _remove(row.path)
    _remove_abandoned(folder)
    return [one for one in found if extractor in (None, one.extractor)]


def _check_known(extractor: str, found: list[Usage]) -> None:
    from synthbench import registry

    known = {one.extractor for one in found} | set(registry.names("extractors"))
    if extractor not in known:
        raise UsageError(f"--extractor {extractor}: {near_miss(extractor, known)}")


# ---------------------------------------------------------------- files


def _packed(key: str, row: Float32[np.ndarray, " dim"]) -> bytes:
    data = np.ascontiguousarray(row, dtype="<f4").tobytes()
    return bytes.fromhex(key) + hashlib.sha256(data).digest() + data


def _unpacked(content: bytes, key: str) -> Float32[np.ndarray, " dim"] | None:
    stored, checksum = content[:_DIGEST_BYTES], content[_DIGEST_BYTES : 2 * _DIGEST_BYTES]
    data = content[2 * _DIGEST_BYTES :]
    if stored != bytes.fromhex(key) or checksum != hashlib.sha256(data).digest():
        return None
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


@dataclass(frozen=True)
class _Row:
    path: Path
    extractor: str
    size: int
    used: int


def _rows(folder: Path) -> Iterator[_Row]:
    for path in (
        *folder.glob(f"*/[0-9a-f][0-9a-f]/*{_SUFFIX}"),
        *folder.glob(f"{SAMPLE_DATA}/[0-9a-f][0-9a-f]/*{_SAMPLE_DATA_SUFFIX}"),
    ):
        # Another process may have removed it since it was listed.
        with suppress(OSError):
            status = path.stat()
            name = unquote(path.parent.parent.name)
            yield _Row(path, name, status.st_size, status.st_mtime_ns)


def _remove_abandoned(folder: Path) -> None:
    """Remove old temporary files, which killed processes left behind."""
    for suffix in (_SUFFIX, _SAMPLE_DATA_SUFFIX):
        for path in folder.glob(f"*/[0-9a-f][0-9a-f]/.*{suffix}.*.tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _folder_name(extractor: str) -> str:
    """Return the folder's name for an extractor of any name; `unquote` reverses it."""
    return quote(extractor, safe="").replace(".", "%2E")
