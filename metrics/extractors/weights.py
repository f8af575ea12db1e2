"""Weight files: their folder, their download, and the check of their SHA-256 before every use.

The folder is that of the environment variable SYNTHBENCH_WEIGHTS, else `weights` in the cache
folder of the user. Where the authors of a file publish no hash, the user gives one once
(`synthbench fetch NAME --sha256 HASH`). It is recorded in a JSON file in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from synthbench.errors import UsageError, WeightsError
from synthbench.runtime.callbacks import Progress, no_progress
from synthbench.runtime.documents import json_fields
from synthbench.runtime.files import NO_ROOM, write_atomic

if TYPE_CHECKING:
    import requests

Advance = Callable[[int, int], None]
"""Called with the bytes so far and in all; 0 where that is not known."""

FOLDER_VARIABLE = "SYNTHBENCH_WEIGHTS"
RECORD_FILENAME = "recorded_sha256.json"
PART_SUFFIX = ".part"
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 30.0
CHUNK_BYTES = 2**18
MEGABYTE = 10**6
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that its authors publish.

    Attributes
    ----------
    name
        The extractor's name, as in `synthbench fetch NAME`.
    url
        The address of the file.
    sha256
        Its SHA-256, lower-case hexadecimal; None where nobody has published one.
    filename
        Its name in the weights folder.
    megabytes
        Its approximate size in 10^6 bytes.
    licence
        SPDX identifier of the licence of the weights.
    md5
        Its MD5, lower-case hexadecimal, where its authors publish an MD5 and no SHA-256. When a
        file with this MD5 is fetched, its SHA-256 is recorded.
    """

    name: str
    url: str
    sha256: str | None
    filename: str
    megabytes: int
    licence: str
    md5: str | None = None


def weights_folder() -> Path:
    """Return the folder of weight files, which may not exist yet."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("synthbench") / "weights"


def locate(file: WeightFile) -> Path | None:
    """Return the path of the file in the weights folder without a check, or None."""
    path = weights_folder() / file.filename
    return path if path.is_file() else None


def known_sha256(file: WeightFile) -> str | None:
    """Return the published SHA-256 of a file, or the recorded one, or None.

    Raises
    ------
    WeightsError
        The record of hashes is unreadable.
    """
    return file.sha256 or _recorded().get(file.filename)


def verified(file: WeightFile) -> Path:
    """Return the path of a file whose SHA-256 is the expected one.

    Raises
    ------
    WeightsError
        The file is missing, its hash is not known, or it has another hash.
    """
    path, expected = locate(file), known_sha256(file)
    if path is None:
        raise WeightsError(
            f"{file.name}: its weights {file.filename} ({file.megabytes} MB, {file.licence}) are "
            f"not in {weights_folder()}. Type `{_fetch_command(file)}`{_by_hand(file)}"
        )
    if expected is None and file.md5 is not None:
        _check_md5(file, path)
        return path
    if expected is None:
        raise WeightsError(
            f"{file.name}: no sha256 is known for {file.filename}, so {path} is not used; found "
            f"{_sha256_of(path)}. Compare it with that of a copy that you trust, then type "
            f"`{_fetch_command(file)}`."
        )
    _check_sha256(file, path, expected)
    return path


def fetch(file: WeightFile, sha256: str | None = None, progress: Progress = no_progress) -> Path:
    """Download a weight file, verify it and return its path; a verified file is not downloaded.

    The download goes to a file that ends in `.part`, which gets the final name after the check of
    its hash. After an interruption this file remains, and the next call asks the server for the
    rest. Proxies are those of the environment.

    Parameters
    ----------
    file
        The file to fetch.
    sha256
        The hash that the file must have, where none is published; recorded for later loads.
    progress
        Called with (the file's name, megabytes so far, megabytes); 0 where the server does not say.

    Raises
    ------
    UsageError
        `sha256` is not 64 hexadecimal digits.
    WeightsError
        No hash is known or given, the given hash differs from the known one, the file in the
        folder or at the URL has another hash, or the download failed.
    """
    path = weights_folder() / file.filename
    if sha256 is None and file.md5 is not None and known_sha256(file) is None:
        if not path.exists():
            _download(file, path, None, progress)
        _check_md5(file, path)
        _record(file, _sha256_of(path))
        return path
    expected = _agreed_sha256(file, sha256)
    if not path.exists():
        _download(file, path, expected, progress)
    _check_sha256(file, path, expected)
    if file.sha256 is None:
        _record(file, expected)
    return path


def _agreed_sha256(file: WeightFile, given: str | None) -> str:
    known = known_sha256(file)
    if given is None:
        if known is None:
            raise WeightsError(
                f"{file.name}: no sha256 is published for {file.filename}, and nothing is "
                f"downloaded without one. Read it on the page that publishes {file.url}, then "
                f"type `{_fetch_command(file)}`."
            )
        return known
    given = given.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", given):
        raise UsageError(f"--sha256 must be 64 hexadecimal digits; found '{given}'.")
    if known is not None and given != known:
        source = "published" if file.sha256 else f"recorded in {_record_path()}"
        raise WeightsError(
            f"{file.name}: --sha256 must be {known}, the sha256 of {file.filename} that is "
            f"{source}; found {given}. Leave --sha256 out to use the known one."
        )
    return given


def _download(file: WeightFile, path: Path, sha256: str | None, progress: Progress) -> None:
    """Download to a `.part` file next to `path`, check it, and rename it to `path`.

    The check compares the SHA-256, or the file's MD5 where there is no SHA-256.
    """
    part = path.with_name(path.name + PART_SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True)

    def advance(done: int, total: int) -> None:
        progress(f"{file.filename}, MB", done // MEGABYTE, total // MEGABYTE)

    try:
        _receive_all(file.url, part, advance)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise WeightsError(
                f"{file.name}: {part}: {error.strerror}. Make room on that disk, or set "
                f"{FOLDER_VARIABLE} to a folder on another one; then type `{_fetch_command(file)}`."
            ) from error
        kept = f"; the {_size(part)} bytes in {part} are kept" if part.exists() else ""
        raise WeightsError(
            f"{file.name}: {file.url} could not be downloaded ({type(error).__name__}: "
            f"{error}){kept}. Try again{_by_hand(file)}"
        ) from error
    if path.exists() and not part.exists():
        return  # Another process fetched the same file, and finished first.
    kind, expected = ("md5", file.md5) if sha256 is None else ("sha256", sha256)
    found = _digest_of(part, kind)
    if found != expected:
        part.unlink()
        raise WeightsError(
            f"{file.name}: the file from {file.url} must have the {kind} {expected}; found "
            f"{found}. It was deleted. Try again; if the hash is the same, the published file has "
            "changed, and scores made with it would not be comparable."
        )
    part.replace(path)


def _receive_all(url: str, part: Path, advance: Advance) -> None:
    """Receive the rest of a file, and ask again after a connection that broke with some progress.

    Raises
    ------
    OSError
        The server cannot be reached, refuses, or sends nothing more.
    """
    import requests

    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    with requests.Session() as session:
        while True:
            before = _size(part)
            try:
                _receive(session, url, part, advance)
                return
            except broken:
                if _size(part) <= before:
                    raise


def _receive(session: requests.Session, url: str, part: Path, advance: Advance) -> None:
    """Append the missing rest of a file to `part`, in one request.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY), as always with requests. The
    hash of the whole file shows if the parts fit together.
    """
    have = _size(part)
    # Ranges count bytes of the reply, which must therefore not be compressed.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    with session.get(url, headers=headers, stream=True, timeout=timeout) as reply:
        if reply.status_code == RANGE_NOT_SATISFIABLE:
            return  # The part is complete.
        reply.raise_for_status()
        if reply.status_code != PARTIAL_CONTENT:
            have = 0
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else 0
        advance(have, total)
        # seek() and not append: a second process that fetches the file at the same time then
        # writes the same bytes to the same places.
        with part.open("r+b" if have else "wb") as stream:
            stream.seek(have)
            for chunk in reply.iter_content(CHUNK_BYTES):
                stream.write(chunk)
                have += len(chunk)
                advance(have, total)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check_sha256(file: WeightFile, path: Path, expected: str) -> None:
    found = _sha256_of(path)
    if found != expected:
        raise WeightsError(
            f"{file.name}: {path} must have the sha256 {expected}; found {found}. It is not "
            f"used. Move it away, then type `{_fetch_command(file)}`{_by_hand(file)}"
        )


def _check_md5(file: WeightFile, path: Path) -> None:
    found = _digest_of(path, "md5")
    if found != file.md5:
        raise WeightsError(
            f"{file.name}: {path} must have the md5 {file.md5}; found {found}. It is not used. "
            f"Move it away, then type `synthbench fetch {file.name}`{_by_hand(file)}"
        )


def _sha256_of(path: Path) -> str:
    return _digest_of(path, "sha256")


def _digest_of(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _fetch_command(file: WeightFile) -> str:
    known = known_sha256(file) or file.md5
    return f"synthbench fetch {file.name}" + ("" if known else " --sha256 HASH")


def _by_hand(file: WeightFile) -> str:
    return (
        f"; on a machine without a network, download {file.url} elsewhere and put it there as "
        f"{weights_folder() / file.filename}, or set {FOLDER_VARIABLE} to the folder that holds it."
    )


def _record_path() -> Path:
    return weights_folder() / RECORD_FILENAME


def _recorded() -> dict[str, str]:
    path = _record_path()
    if not path.is_file():
        return {}
    fix = "Delete it, and give the hashes again with `synthbench fetch NAME --sha256 HASH`."
    record = json_fields(path, error=WeightsError, fix=fix)
    return {filename: str(sha256) for filename, sha256 in record.items()}


def _record(file: WeightFile, sha256: str) -> None:
    record = {**_recorded(), file.filename: sha256}
    path = _record_path()
    write_atomic(path, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
