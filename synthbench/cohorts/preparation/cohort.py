"""Preparing a whole cohort: one task per scan, and a table of the results."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.datasets.scans import Scan
from synthbench.cohorts.datasets.selection import Selection, chosen_scans
from synthbench.cohorts.preparation.settings import Settings
from synthbench.errors import RunError, Stopped, SynthbenchError, UsageError
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger
from synthbench.runtime.cluster import dask_client
from synthbench.runtime.files import holding
from synthbench.runtime.lock import only_writer
from synthbench.runtime.parent import end_with_parent
from synthbench.runtime.part import Part, check_own

if TYPE_CHECKING:
    from joblib import Parallel


Row = dict[str, Any]

_MEASURED = ("brain_ml", "correlation_head", "correlation_brain", "noise_sd")


def prepare(
    source: Path | str | CohortFiles,
    out: Path | str,
    *,
    settings: Settings | None = None,
    layout: str | None = None,
    jobs: int = 1,
    dask: str | None = None,
    part: Part | None = None,
    progress: Progress = no_progress,
    log: Log = to_logger,
) -> pd.DataFrame:
    """Write every T1-weighted scan of a cohort, prepared, into a BIDS derivative.

    Scans with the same content and settings that are already there are kept, so a run that was
    killed can be repeated. Volumes, masks and pictures are the same bytes in each run and for any
    `jobs`; the seconds in a sidecar are not.

    Parameters
    ----------
    source
        A cohort's folder in a known layout, or a manifest (`synthbench data select` writes one).
    out
        A new folder, or one of an earlier run with the same settings.
    settings
        Grid, brain extraction, denoising and all other settings; None: the defaults. The version
        of an external tool is added to them.
    layout
        The layout's name; None recognises it.
    jobs
        Number of scans at a time, each in its own process on one core.
    dask
        The address of a Dask scheduler that takes the tasks instead ("tcp://host:8786"). Its
        workers need the same files at the same paths.
    part
        The part of the scans that is prepared, where several jobs share them; each has a folder
        of its own, and `synthbench.cohorts.preparation.merging` joins them. None: all scans.
    progress
        Called with the last scan's name (and "kept" from an earlier run, or "failed"), the number
        of finished scans, and the number of all scans.
    log
        Called with sentences for the user: the scans that were found, and the terms of use.

    Returns
    -------
    DataFrame
        One row per scan, as in `summary.tsv`: `scan`, `status` ("ok" or "failed"), `reason`,
        `brain_ml`, `correlation_head`, `correlation_brain` (with the template), `noise_sd`,
        `seconds`, and `kept`: True where it was there from an earlier run.

    Raises
    ------
    CheckFailed
        Scans failed; the message names them. All others were prepared.
    CohortError
        The source has no scan, or cannot be read as a cohort.
    RunError
        The system ended a process.
    Stopped
        The user interrupted it; finished scans are kept.
    UsageError
        A parameter is not usable, a package or tool is missing, or `out` holds something else.
    """
    _check_packages("SimpleITK", "dipy", extra="prepare")
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least 1 is needed.")
    with only_writer(Path(out)):
        chosen = _with_tool(settings or Settings())
        found = chosen_scans(source, layout=layout)
        log("\n".join(found.account()))
        log(f"brain extraction: {chosen.brain_extraction}; --brain chooses another")
        name = Path(str(source)).name
        return _prepared_cohort(name, found, Path(out), chosen, (jobs, dask), part, progress)


def merge(
    parts: Sequence[Path], out: Path | str, *, progress: Progress = no_progress
) -> pd.DataFrame:
    """Join the parts of `prepare`; as `synthbench.cohorts.preparation.merging.merge`."""
    _check_packages("SimpleITK", "dipy", extra="prepare")
    from synthbench.cohorts.preparation.merging import merge as merge_parts

    return merge_parts(parts, Path(out), progress=progress)


def _prepared_cohort(
    name: str,
    found: Selection,
    out: Path,
    chosen: Settings,
    workers: tuple[int, str | None],
    part: Part | None,
    progress: Progress,
) -> pd.DataFrame:
    """Prepare scans, as the only writer into the folder; return the summary."""
    # These need SimpleITK and dipy, so they are imported after the check.
    from synthbench.cohorts.preparation.derivative import (
        Destination,
        check_folder,
        write_description,
    )
    from synthbench.cohorts.preparation.merging import (
        PartTables,
        part_record,
        scans_of,
        write_tables,
    )

    # All of them, also where a part is prepared: what is wrong with a name is said by each job.
    check_folder(out, [Destination.of(scan, out) for scan in scans_of(found.rows)], chosen)
    record, own = None, found.rows
    if part is not None:
        record = part_record(part, name, found, chosen)
        places = part.chosen(range(len(own)))
        own = own.iloc[places[0] : places[-1] + 1].reset_index(drop=True)
    check_own(out, record)
    scans = scans_of(own)

    rows: list[Row | None] = [None] * len(scans)
    try:
        with _workers(*workers) as parallel:
            write_description(out, name, found.terms, chosen)
            if record is not None:
                record.write(out, finished=False)
            progress("", 0, len(scans))
            for done, (index, row) in enumerate(_run(parallel, scans, out, chosen), start=1):
                rows[index] = row
                progress(_label(row), done, len(scans))
    except KeyboardInterrupt:
        complete = sum(Destination.of(scan, out).record() is not None for scan in scans)
        raise Stopped(
            f"stopped; {complete} of {len(scans)} scans are done. Repeat the command to go on.",
            signal.SIGINT,
        ) from None
    tables = PartTables(own, [row for row in rows if row])
    if record is not None:
        tables.write(out)
        record.write(out, finished=True)
    return write_tables(out, tables)


def prepare_task(scan: Scan, out: Path, settings: Settings) -> Row:
    """Prepare one scan of a cohort, or keep it, and return its row of the summary.

    An error becomes the reason in its row, and does not stop the other scans.
    """
    from synthbench.cohorts.preparation.derivative import Destination

    destination = Destination.of(scan, out)
    empty = {**dict.fromkeys((*_MEASURED, "seconds")), "kept": False}
    try:
        with holding(out):  # a worker process does not know what the command holds
            sidecar, kept = _prepared(scan, destination, settings)
    except SynthbenchError as error:
        return {"scan": destination.name, "status": "failed", "reason": _one_line(error), **empty}
    except Exception as error:
        reason = f"{type(error).__name__}: {_one_line(error)}"
        return {"scan": destination.name, "status": "failed", "reason": reason, **empty}
    measured = sidecar["Measured"]
    facts = {name: measured[name] for name in _MEASURED}
    facts |= {"seconds": measured["total_seconds"], "kept": kept}
    return {"scan": destination.name, "status": "ok", "reason": None, **facts}


def _label(row: Row) -> str:
    state = "failed" if row["status"] == "failed" else "kept" if row["kept"] else ""
    return f"{row['scan']} ({state})" if state else str(row["scan"])


def _prepared(scan: Scan, destination: Any, settings: Settings) -> tuple[Row, bool]:
    """Return the sidecar of a prepared scan, and True where it was there before."""
    from synthbench.cohorts.preparation.image import read_image
    from synthbench.cohorts.preparation.pipeline import prepare_scan

    began = time.perf_counter()
    image = read_image(scan.path, scan.axes)
    source = {"file": scan.path.name, "sha256": image.digest}
    record: Row | None = destination.record()
    if record is not None:
        if record["Source"]["sha256"] == image.digest:
            return record, True
        raise UsageError(
            f"{destination.sidecar.name} was made from other voxels than {scan.path.name} has "
            "now. Delete it and repeat the command: the scan is then prepared again."
        )
    prepared = prepare_scan(image, settings)
    seconds = time.perf_counter() - began
    written: Row = destination.write(prepared, settings, source, seconds)
    return written, False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


# ---------------------------------------------------------------- arguments


def _with_tool(settings: Settings) -> Settings:
    """Return the settings with the version and hash of the tool that extracts the brain."""
    from synthbench.cohorts.preparation.external import find_tool

    external = settings.brain_extraction != "builtin"
    tool = find_tool(settings.brain_extraction) if external else {}
    return settings.model_copy(update={"tool": tool})


def _check_packages(*names: str, extra: str) -> None:
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"data prepare needs {' and '.join(missing)}, which is not installed. "
            f"Type: pip install 'synthbench[{extra}]'"
        )


# ---------------------------------------------------------------- tasks


@contextmanager
def _workers(jobs: int, dask: str | None) -> Iterator[Parallel]:
    """Yield the runner of tasks: processes of this machine, or a Dask scheduler's workers."""
    from joblib import Parallel, parallel_config

    with ExitStack() as stack:
        if dask is not None:
            stack.enter_context(dask_client(dask, "prepare,cluster"))
            stack.enter_context(parallel_config(backend="dask"))
        else:
            stack.enter_context(parallel_config(backend="loky", inner_max_num_threads=1))
        try:
            yield Parallel(
                n_jobs=jobs if dask is None else -1, return_as="generator_unordered", batch_size=1
            )
        except BrokenProcessPool as error:
            raise RunError(
                f"--jobs {jobs}: the system ended a process, probably because memory was full. "
                "Finished scans are kept: repeat the command with fewer jobs."
            ) from error


def _run(
    parallel: Parallel, scans: list[Scan], out: Path, settings: Settings
) -> Iterator[tuple[int, Row]]:
    """Yield each scan's index and row, in the order in which they finish."""
    from joblib import delayed

    own = os.getpid()
    yield from parallel(
        delayed(_numbered)(index, scan, out, settings, own) for index, scan in enumerate(scans)
    )


def _numbered(
    index: int, scan: Scan, out: Path, settings: Settings, asked_by: int
) -> tuple[int, Row]:
    if os.getppid() == asked_by:  # a process of joblib, not of a Dask cluster
        end_with_parent()
    return index, prepare_task(scan, out, settings)
