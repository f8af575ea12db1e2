"""Files inside uncompressed tar files, read by a path that leads into the tar file.

A set of 100,000 volumes is 200,000 files, more than many file systems and clusters allow. In shards
of WebDataset's form, a volume and its sidecar are members of a tar file. The path of a member is
that of its tar file, and its name: `OUT/synth-000000-000099.tar/synth-000007.nii.gz`.

A tar file has no table of contents: each member has a header of 512 bytes before its content. The
headers are read once per tar file and process, and a member is read at its offset.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

SUFFIX = ".tar"
END = bytes(2 * tarfile.BLOCKSIZE)
"""The end of a tar file: two empty blocks."""


class Span(NamedTuple):
    """Where a member lies in its tar file: the offset of its first byte, and its bytes."""

    offset: int
    length: int


class Content(NamedTuple):
    """What a tar file holds.

    Attributes
    ----------
    members
        Where each whole member lies, by its name, in their order.
    cut
        The name of the member that the file ends in; None where the last one is whole.
    ended
        True where the end of a tar file follows. Without it, members may be missing.
    """

    members: dict[str, Span]
    cut: str | None
    ended: bool


class TruncatedError(OSError):
    """A member is missing because its tar file ends before it."""


def split(path: Path) -> tuple[Path, str] | None:
    """Return the tar file that a path leads into and the member's name; None for other paths.

    >>> shard, name = split(Path("out/a.tar/b/c.nii"))
    >>> shard.as_posix(), name
    ('out/a.tar', 'b/c.nii')
    """
    parts = Path(path).parts
    for end, part in enumerate(parts[:-1], 1):
        if part.lower().endswith(SUFFIX):
            shard = Path(*parts[:end])
            if not shard.is_dir():
                return shard, "/".join(parts[end:])
    return None


def folder_of(path: Path) -> Path:
    """Return the folder that a file lies in; for a member, the folder of its tar file."""
    inside = split(path)
    return (path if inside is None else inside[0]).parent


def is_file(path: Path) -> bool:
    """Return True where a path is that of a file, or of a whole member of a tar file."""
    if path.is_file():
        return True
    try:
        return span(path) is not None
    except OSError:
        return False


def content(shard: Path) -> Content:
    """Return what a tar file holds.

    A header that is damaged hides its own member only: the next header is searched behind it.

    Raises
    ------
    OSError
        The file cannot be opened, is no tar file, holds a name twice, or has a member whose name
        leads out of it; `filename` is the tar file.
    """
    found = os.stat(shard)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(shard))
    return _content(os.path.abspath(shard), found.st_size, found.st_mtime_ns)


@cache  # of any number: volumes are read in the order of their hashes, so all shards in turn
def _content(shard: str, size: int, _changed: int) -> Content:
    members: dict[str, Span] = {}
    cut, last = None, 0
    with open(shard, "rb") as file:
        for member in _headers(file, shard):
            span = Span(member.offset_data, member.size if member.isreg() else 0)
            last = span.offset + span.length + padding(span.length)
            if not member.isreg() or member.sparse is not None:
                continue
            name = _plain(member.name, shard)
            if name in members:
                raise OSError(errno.EINVAL, f"it holds {name!a} twice", shard)
            if span.offset + span.length > size:
                cut = name
                break
            members[name] = span
        file.seek(last)
        ended = cut is None and file.read(len(END)) == END
    if not members and cut is None and not ended:
        raise OSError(errno.EINVAL, "it is no tar file, or is empty", shard)
    return Content(members, cut, ended)


def _headers(file: IO[bytes], shard: str) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar file, up to the first whose content is cut off."""
    try:
        with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it keeps all headers
                yield member
    except tarfile.ReadError:
        return  # it is cut off: what was found before is right
    except (tarfile.TarError, ValueError) as error:
        raise OSError(errno.EINVAL, f"its headers cannot be read ({error})", shard) from error


def _plain(name: str, shard: str) -> str:
    """Return the name of a member; raise an OSError where it would lead out of the tar file."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise OSError(errno.EINVAL, f"it holds the name {name!a}, which leads out of it", shard)
    return path.as_posix()


def span(path: Path) -> tuple[Path, Span] | None:
    """Return the tar file of a member and where it lies; None for a path into no tar file.

    Raises
    ------
    TruncatedError
        The tar file ends before the member does.
    OSError
        The tar file cannot be read, or has no such member.
    """
    inside = split(path)
    if inside is None:
        return None
    shard, name = inside
    held = content(shard)
    if name in held.members:
        return shard, held.members[name]
    if name == held.cut or not held.ended:
        words = f"its shard {shard.name} is truncated, and ends before it"
        raise TruncatedError(errno.EIO, words, str(path))
    raise OSError(errno.ENOENT, f"its shard {shard.name} does not hold it", str(path))


def open_binary(path: Path) -> io.BufferedReader:
    """Open a file, or a member of a tar file, for reading; raise as `span` does."""
    found = span(path)
    if found is None:
        return path.open("rb")
    shard, where = found
    return io.BufferedReader(_Region(shard.open("rb", buffering=0), where))


class _Region(io.RawIOBase):
    """A part of an open file, read as a file of its own."""

    def __init__(self, file: Any, where: Span) -> None:
        self._file, self._where, self._at = file, where, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._where.length}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        left = max(0, self._where.length - self._at)
        self._file.seek(self._where.offset + self._at)
        got: int = self._file.readinto(memoryview(buffer)[:left])
        self._at += got
        return got

    def close(self) -> None:
        self._file.close()
        super().close()


def entry(name: str, content: bytes) -> bytes:
    """Return the bytes of a member in a tar file: header, content, padding.

    The same name and content give the same bytes: no time and no owner stands in the header.
    """
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    header = member.tobuf(format=tarfile.USTAR_FORMAT)
    return header + content + bytes(padding(len(content)))


def padding(length: int) -> int:
    """Return the number of zeros after a member of this length: up to the next whole block."""
    return -length % tarfile.BLOCKSIZE
