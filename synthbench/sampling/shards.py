"""Shards of samples: tar files of volumes and their sidecars, written one volume after the other.

A shard that is not finished has another name. It is continued after its last whole volume.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path

from synthbench.cohorts.shards import PARTIAL, TABLE, volumes_of
from synthbench.errors import CohortError, UsageError
from synthbench.render import delimited
from synthbench.runs.sidecar import sidecar_file
from synthbench.runtime import tar
from synthbench.runtime.files import flush, sha256_file, write_atomic

_ANOTHER = "Name a new folder, or repeat the command with the shards that it began with."


def shard_files(out: Path, seeds: Sequence[int], shards: int) -> dict[int, Path]:
    """Return the file of each seed's volume, in shards of consecutive seeds of nearly equal number.

    Parameters
    ----------
    out
        The folder of the shards.
    seeds
        In order.
    shards
        Their number.

    Raises
    ------
    UsageError
        There are more shards than volumes.
    """
    if not 1 <= shards <= len(seeds):
        raise UsageError(
            f"--shards {shards}: a number from 1 to the number of volumes, {len(seeds)}, is needed."
        )
    files: dict[int, Path] = {}
    for low, high in pairwise(len(seeds) * k // shards for k in range(shards + 1)):
        shard = out / f"synth-{seeds[low]:06d}-{seeds[high - 1]:06d}{tar.SUFFIX}"
        files |= {seed: shard / f"synth-{seed:06d}.nii.gz" for seed in seeds[low:high]}
    return files


def shards_in(out: Path) -> list[Path]:
    """Return the finished shards of samples in a folder, by name."""
    return sorted(f for f in out.glob(f"synth-*{tar.SUFFIX}") if not f.name.endswith(PARTIAL))


def sharded_volumes(out: Path) -> list[Path]:
    """Return the volumes with a sidecar in the finished shards of a folder.

    Raises
    ------
    UsageError
        A shard cannot be read.
    """
    try:
        found = [volume for shard in shards_in(out) for volume in volumes_of(shard)]
    except CohortError as error:
        raise UsageError(f"{error} Or delete it, so that its volumes are drawn again.") from error
    return [volume for volume in found if tar.is_file(sidecar_file(volume))]


def check_division(out: Path, files: Mapping[int, Path]) -> None:
    """Check that a folder holds no volumes that are divided among files in another way.

    Parameters
    ----------
    files
        The file of each seed's volume that the call is to write.

    Raises
    ------
    UsageError
        It holds single files in place of shards, or shards in place of single files, or shards of
        the same seeds with other names, or one that lacks volumes.
    """
    wanted = {seed: tar.split(file) for seed, file in files.items()}
    shards = {inside[0].name for inside in wanted.values() if inside is not None}
    there = [f.name.replace(PARTIAL, tar.SUFFIX) for f in sorted(out.glob(f"synth-*{tar.SUFFIX}"))]
    if not shards and there:
        raise UsageError(
            f"--out {out}: it holds shards ({there[0]}), and single files would be mixed with "
            f"them. {_ANOTHER}"
        )
    single = sorted(out.glob("synth-*.nii.gz")) if shards else []
    if single:
        raise UsageError(
            f"--out {out}: it holds single files ({single[0].name}), and shards would be mixed "
            "with them. Name a new folder."
        )
    for name in there:
        seeds = _seeds_of(name)
        if name not in shards and not files.keys().isdisjoint(seeds):
            raise UsageError(
                f"--out {out}: it holds the shard {name}, whose seeds are divided in another way "
                f"here. {_ANOTHER}"
            )
    finished = set(shards_in(out))
    for shard, expected in by_shard(files.values()):
        lost = [f.name for f in expected if not _whole(f)] if shard in finished else []
        if lost:
            raise UsageError(
                f"{shard}: it lacks {len(lost)} of its {len(expected)} volumes (first: {lost[0]}), "
                "so it is truncated or damaged. Delete it, so that they are drawn again."
            )


def by_shard(files: Iterable[Path]) -> list[tuple[Path, list[Path]]]:
    """Return each shard and its volumes, from volumes in order of seed."""
    return [(shard, list(held)) for shard, held in groupby(files, key=lambda file: file.parent)]


def _whole(volume: Path) -> bool:
    return tar.is_file(volume) and tar.is_file(sidecar_file(volume))


def _seeds_of(shard: str) -> range:
    numbers = shard.removesuffix(tar.SUFFIX).split("-")[1:]
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        raise UsageError(
            f"{shard}: it has the name of no shard of this version (synth-FIRST-LAST.tar). Name a "
            "new folder."
        )
    return range(int(numbers[0]), int(numbers[1]) + 1)


def partial(shard: Path) -> Path:
    """Return the name of a shard until it is finished.

    >>> partial(Path("synth-000000-000099.tar")).name
    'synth-000000-000099.partial.tar'
    """
    return shard.with_name(shard.name.removesuffix(tar.SUFFIX) + PARTIAL)


def begun(files: Iterable[Path]) -> dict[Path, Path]:
    """Return the volumes that unfinished shards hold, up to the first of each that is not whole.

    Parameters
    ----------
    files
        Volumes in shards, in order of seed.

    Returns
    -------
    dict
        By the volume's path in the finished shard, its path in the unfinished one.
    """
    found: dict[Path, Path] = {}
    for shard, expected in by_shard(files):
        if not partial(shard).exists():
            continue
        for file in expected:
            volume = partial(shard) / file.name
            if not _whole(volume):
                break
            found[file] = volume
    return found


def cut_after(shard: Path, kept: Iterable[Path]) -> None:
    """Cut an unfinished shard after the volumes that are kept: what follows is not whole."""
    spans = [tar.span(sidecar_file(volume)) for volume in kept]
    ends = [one[1].offset + one[1].length + tar.padding(one[1].length) for one in spans if one]
    with _opened(partial(shard)) as descriptor:
        os.ftruncate(descriptor, max(ends, default=0))


def remove_stale(out: Path) -> None:
    """Remove unfinished shards of a folder that are also there finished."""
    for shard in shards_in(out):
        partial(shard).unlink(missing_ok=True)


def append(file: Path, content: bytes, sidecar: bytes) -> None:
    """Append a volume and its sidecar to its shard, and wait until they are on the disk.

    Raises
    ------
    OSError
        They could not be written; `filename` is the shard.
    """
    unfinished = partial(file.parent)
    entries = tar.entry(file.name, content) + tar.entry(sidecar_file(file).name, sidecar)
    _append(unfinished, entries)


def finish(shard: Path) -> None:
    """Write the end of a shard, and give it its own name."""
    _append(partial(shard), tar.END)
    os.replace(partial(shard), shard)
    flush(shard.parent)


def write_table(out: Path, volumes: Sequence[Path]) -> None:
    """Write `shards.tsv`: path, offset and bytes in the shard, and sha256 of each volume."""
    lines = [["path", "offset", "bytes", "sha256"]]
    for volume in volumes:
        found = tar.span(volume)
        assert found is not None
        path = volume.relative_to(out).as_posix()
        lines.append([path, str(found[1].offset), str(found[1].length), sha256_file(volume)])
    write_atomic(out / TABLE, delimited.lines(lines).encode())


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    """Open a file at its end; a link of its name is not followed, as it may lead anywhere."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(file, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _append(file: Path, content: bytes) -> None:
    try:
        with _opened(file) as descriptor:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
    except OSError as error:
        number = error.errno or errno.EIO
        raise OSError(number, os.strerror(number), str(file)) from error
