"""Merging: the parts of a call, which several jobs drew, as one folder of samples.

The folder is that of the undivided call, to the byte: the same volumes, sidecars and shards, and
the tables, the dataset card and the seal over all of them. Only the seconds in sidecars, which are
measured, differ from those of another call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from synthbench.errors import UsageError
from synthbench.runs.folder import Run
from synthbench.runs.seal import check_sealed_before, seal_folder, verify
from synthbench.runs.sidecar import sidecar_file
from synthbench.runtime import tar
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.files import link_or_copy
from synthbench.runtime.lock import only_writer
from synthbench.runtime.part import PartRecord, all_parts, check_own
from synthbench.sampling.folder import check_is_for_samples, volumes_in
from synthbench.sampling.sampling import complete
from synthbench.sampling.source import Source

_DESCRIPTION = "dataset_description.json"


def merge(
    parts: Sequence[Path],
    out: Path,
    *,
    run: Run | Path | str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> list[Path]:
    """Join the folders of all parts of a call of `sample` or `import`, and return the volumes.

    Files are linked where the file system can link them, and copied where not; the parts stay.

    Parameters
    ----------
    parts
        The folders of all parts, in any order.
    out
        A new folder, or one of an earlier call with the same parts.
    run
        The run that they were drawn from; None: where it was then.
    progress
        Called with (done, total, name) after each file.
    log
        Called with messages for the user.

    Raises
    ------
    UsageError
        A part is missing, doubled, not finished, of another call, or was changed since it was
        written; or `out` holds something else. The message names it.
    """
    out = Path(out)
    found = all_parts([Path(part) for part in parts], out)
    first, record = found[0]
    finish = _completion(record, run, log)
    for folder, one in found:
        _check_whole(folder, f"{one.part}/{one.of}")
    files = {file: out / file.name for folder, _ in found for file in _files_in(folder)}
    with only_writer(out):
        check_own(out, None)
        check_is_for_samples(out)
        check_sealed_before(out, volumes_in(out))
        _check_no_others(out, files.values())
        link_or_copy(first / _DESCRIPTION, out / _DESCRIPTION)
        for done, (file, target) in enumerate(files.items(), 1):
            link_or_copy(file, target)
            if progress:
                progress(done, len(files), target.name)
        finish(out)
        return volumes_in(out)


def _completion(
    record: PartRecord, run: Run | Path | str | None, log: Log
) -> Callable[[Path], object]:
    """Return what writes all that a folder has beside its volumes."""
    run = record.run if run is None else run
    options: dict[str, Any] = record.options
    if run is None:
        name = str(options["name"])
        return lambda out: seal_folder(out, volumes_in(out), run=None, generator=name, log=log)
    source = Source.of(run, **options)
    return lambda out: complete(source, out, log)


def _check_whole(folder: Path, part: str) -> None:
    found = verify(folder)
    wrong = [*found.changed, *found.missing]
    if wrong:
        raise UsageError(
            f"{folder}: {len(wrong)} files of the part {part} are changed or missing since it was "
            f"written (first: {wrong[0]}). Delete them, and repeat the command that wrote it."
        )


def _files_in(folder: Path) -> list[Path]:
    """Return the files of a part that hold volumes and sidecars; a shard holds both."""
    files: dict[Path, None] = {}
    for volume in volumes_in(folder):
        inside = tar.split(volume)
        # The sidecar last: a volume without one counts as not written.
        files |= dict.fromkeys((volume, sidecar_file(volume)) if inside is None else inside[:1])
    return list(files)


def _check_no_others(out: Path, targets: Iterable[Path]) -> None:
    wanted = set(targets)
    others = [f.name for f in sorted(out.glob("synth-*")) if f not in wanted]
    if others:
        raise UsageError(
            f"--out {out}: it holds {others[0]}, which is in none of the parts. Name a new folder."
        )
