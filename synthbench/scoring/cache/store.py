"""The cache: what earlier runs computed of volumes, in files of one folder.

The key of a file is a hash of everything that its content depends on
(`synthbench.scoring.cache.keys`), so what is found is what would be computed. The folder is the one
that the environment variable SYNTHBENCH_CACHE names, else `features` in the user's cache folder.
What is kept of real volumes is participant-level data: only their owner can read the files, and
nothing is sent anywhere.

FOLDER/EXTRACTOR/ab/abcdef....row    32 bytes: the key; 32 bytes: the sha256 of what follows;
                                     then one volume's features as little-endian float32
FOLDER/MEASURE/ab/abcdef....measure  the same, then named arrays as an npz file
                                     (`synthbench.scoring.cache.measures`)
FOLDER/sample-data/ab/abcdef....npz  the sample data of one scoring
                                     (`synthbench.scoring.sample_data`)
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import numpy as np
import platformdirs
from jaxtyping import Float32

from synthbench.errors import UsageError, near_miss
from synthbench.runtime.arrays import unpack_npz
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.files import remove_leftovers, write_atomic

FOLDER_VARIABLE = "SYNTHBENCH_CACHE"
LIMIT_VARIABLE = "SYNTHBENCH_CACHE_LIMIT"
DEFAULT_LIMIT = 2 * 2**30
"""Bytes that all files may take together, where the user names no limit."""

SAMPLE_DATA = "sample-data"
"""The folder of the sample data of scorings, and their name in `usage`."""

Kind = Literal["features", "measure", "sample data"]
"""What a file holds: one volume's features, a measure, or the sample data of one scoring."""

_SUFFIXES: Mapping[Kind, str] = {"features": ".row", "measure": ".measure", "sample data": ".npz"}
_KINDS: Mapping[str, Kind] = {suffix: kind for kind, suffix in _SUFFIXES.items()}
_DIGEST_BYTES = 32
_OWNER_ONLY = 0o700
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}  # fmt: skip


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
class Cache:
    """A folder of features, measures and sample data of scorings, which runs may share.

    A file is written whole or not at all. One that is truncated, damaged or from elsewhere counts
    as absent; the log names it, and it is replaced.

    Attributes
    ----------
    folder
        The folder; it is made when the first file is kept.
    limit
        Bytes that all files may take together after `trim`.
    log
        Called once, with one sentence, where results cannot be kept, and once where a file is
        damaged.
    """

    folder: Path = field(default_factory=cache_folder)
    limit: int = field(default_factory=cache_limit)
    log: Log = to_logger
    _kept: int = field(default=0, init=False, repr=False)
    _refused: bool = field(default=False, init=False, repr=False)
    _damaged: bool = field(default=False, init=False, repr=False)

    def find(self, key: str, extractor: str, dim: int) -> Float32[np.ndarray, " dim"] | None:
        """Return a volume's features; None where they are absent or damaged."""
        data = self._checked(self._path("features", extractor, key), key)
        if data is None or len(data) != 4 * dim:
            return None
        return np.frombuffer(data, dtype="<f4").astype(np.float32)

    def keep(self, key: str, extractor: str, row: Float32[np.ndarray, " dim"]) -> None:
        """Keep a volume's features; where that fails, log it once and keep no more."""
        data = np.ascontiguousarray(row, dtype="<f4").tobytes()
        self._write(self._path("features", extractor, key), _packed(key, data))

    def find_measure(self, key: str, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays of a measure, by name; None where they are absent or damaged."""
        data = self._checked(self._path("measure", name, key), key)
        if data is None:
            return None
        try:
            return unpack_npz(data)
        except ValueError:
            return None

    def keep_measure(self, key: str, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays of a measure; where that fails, log it once and keep no more."""
        data, named = io.BytesIO(), dict[str, Any](arrays)
        np.savez(data, **named)
        self._write(self._path("measure", name, key), _packed(key, data.getvalue()))

    def find_sample_data(self, key: str) -> bytes | None:
        """Return the bytes of a scoring's sample data; None where there are none."""
        return _read(self._path("sample data", SAMPLE_DATA, key))

    def keep_sample_data(self, key: str, content: bytes) -> None:
        """Keep the sample data of a scoring; where that fails, log it."""
        if len(content) > self.limit:
            self.log(
                f"the sample data of this scoring take {len(content) / 1e6:,.0f} MB, more than "
                f"the cache may hold, and are not kept: raise {LIMIT_VARIABLE}, or add "
                "--sample-data FILE."
            )
            return
        self._write(self._path("sample data", SAMPLE_DATA, key), content)

    def _checked(self, path: Path, key: str) -> bytes | None:
        """Return what a file holds after its key and its checksum; None where they are wrong."""
        content = _read(path)
        if content is None:
            return None
        data = _unpacked(content, key)
        if data is None and not self._damaged:
            self._damaged = True
            self.log(
                f"{path}: this file of the cache is damaged, and what it held is computed again. "
                "Other damaged files are not named. Test the disk if this happens again."
            )
        return data

    def _write(self, path: Path, content: bytes) -> None:
        if self._refused:
            return
        try:
            for folder in (self.folder, path.parent.parent, path.parent):
                folder.mkdir(_OWNER_ONLY, parents=True, exist_ok=True)
            write_atomic(path, content, private=True)
        except OSError as error:
            self._refused = True
            self.log(
                f"results are not kept for the next run: {self.folder}: {error.strerror}. Set "
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
        remove_leftovers(self.folder)
        try:
            files = sorted(_files(self.folder), key=lambda file: (file.used, file.path.name))
        except (UsageError, OSError) as error:
            self.log(f"the cache was not trimmed to its limit: {error}")
            return
        excess = sum(file.size for file in files) - self.limit
        for file in files:
            if excess <= 0:
                break
            _remove(file.path)
            excess -= file.size

    def _path(self, kind: Kind, name: str, key: str) -> Path:
        return self.folder / _folder_name(name) / key[:2] / f"{key}{_SUFFIXES[kind]}"


# ---------------------------------------------------------------- what is in the cache


@dataclass(frozen=True)
class Usage:
    """The space that the files of one kind and name take.

    Attributes
    ----------
    kind
        What they hold.
    name
        Of the extractor or the measure; `SAMPLE_DATA` for the sample data.
    files
        Their number: of volumes with features, of measures, or of scorings.
    size
        In bytes.
    """

    kind: Kind
    name: str
    files: int
    size: int


def usage(folder: Path) -> list[Usage]:
    """Return the number and size of the files of every kind and name, in this order.

    Raises
    ------
    UsageError
        The folder, or one in it, cannot be read.
    """
    sizes: dict[tuple[Kind, str], list[int]] = {}
    for file in _files(folder):
        sizes.setdefault((file.kind, file.name), []).append(file.size)
    return [Usage(*which, len(found), sum(found)) for which, found in sorted(sizes.items())]


def clear(folder: Path, kind: Kind | None = None, name: str | None = None) -> list[Usage]:
    """Remove the files of a kind and a name (None: of all), and return what was removed.

    Files of other programs stay.

    Raises
    ------
    UsageError
        There is neither a plugin nor a file of that name, or a folder cannot be read.
    """
    found = usage(folder)
    if kind is not None and name is not None:
        _check_known(kind, name, found)
    chosen = [one for one in found if kind in (None, one.kind) and name in (None, one.name)]
    which = {(one.kind, one.name) for one in chosen}
    for file in list(_files(folder)):
        if (file.kind, file.name) in which:
            _remove(file.path)
    remove_leftovers(folder)
    return chosen


def _check_known(kind: Kind, name: str, found: list[Usage]) -> None:
    from synthbench import registry

    plugins: Literal["extractors", "metrics"] = "extractors" if kind == "features" else "metrics"
    known = {one.name for one in found if one.kind == kind} | set(registry.names(plugins))
    if name not in known:
        raise UsageError(f"--{plugins.removesuffix('s')} {name}: {near_miss(name, known)}")


# ---------------------------------------------------------------- files


def _read(path: Path) -> bytes | None:
    """Return a file's bytes, and note that it was used; None where it is absent."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # `trim` removes files in the order of their last use.
    with suppress(OSError):
        os.utime(path)
    return content


def _packed(key: str, data: bytes) -> bytes:
    return bytes.fromhex(key) + hashlib.sha256(data).digest() + data


def _unpacked(content: bytes, key: str) -> bytes | None:
    stored, checksum = content[:_DIGEST_BYTES], content[_DIGEST_BYTES : 2 * _DIGEST_BYTES]
    data = content[2 * _DIGEST_BYTES :]
    if stored != bytes.fromhex(key) or checksum != hashlib.sha256(data).digest():
        return None
    return data


@dataclass(frozen=True)
class _File:
    path: Path
    kind: Kind
    name: str
    size: int
    used: int


def _files(folder: Path) -> Iterator[_File]:
    for named in _listed(folder):
        for numbered in _listed(named) if named.is_dir() else ():
            if not re.fullmatch("[0-9a-f]{2}", numbered.name) or not numbered.is_dir():
                continue
            for path in _listed(numbered):
                kind = _KINDS.get(path.suffix)
                # Another process may have removed it since it was listed.
                with suppress(FileNotFoundError):
                    if kind is not None and not path.name.startswith("."):
                        status = path.stat()
                        name = unquote(named.name)
                        yield _File(path, kind, name, status.st_size, status.st_mtime_ns)


def _listed(folder: Path) -> list[Path]:
    """Return what a folder of the cache holds; nothing where it is absent.

    Raises
    ------
    UsageError
        It cannot be read. (`Path.glob` would leave it out.)
    """
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(
            f"{folder}: this part of the cache cannot be read: {error.strerror}. Make it readable, "
            f"or set {FOLDER_VARIABLE} to another folder."
        ) from error


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _folder_name(name: str) -> str:
    """Return the folder's name for a name of any kind; `unquote` reverses it."""
    return quote(name, safe="").replace(".", "%2E")
