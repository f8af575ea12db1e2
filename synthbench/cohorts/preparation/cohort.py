"""Preparing a whole cohort: one task per scan, and a table of the results."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.datasets.scans import Scan
from synthbench.cohorts.preparation.settings import Settings
from synthbench.errors import CheckFailed, RunError, Stopped, SynthbenchError, UsageError
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger
from synthbench.runtime.cluster import dask_client
from synthbench.runtime.files import holding, write_atomic
from synthbench.runtime.lock import only_writer
from synthbench.runtime.parent import end_with_parent

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
        return _prepared_cohort(source, Path(out), chosen, layout, (jobs, dask), progress, log)


def _prepared_cohort(
    source: Path | str | CohortFiles,
    out: Path,
    chosen: Settings,
    layout: str | None,
    workers: tuple[int, str | None],
    progress: Progress,
    log: Log,
) -> pd.DataFrame:
    """Prepare a cohort, as the only writer into the folder; return the summary."""
    # These need SimpleITK and dipy, so they are imported after the check.
    from synthbench.cohorts.datasets.selection import chosen_scans
    from synthbench.cohorts.preparation.derivative import (
        Destination,
        check_folder,
        table_bytes,
        write_covariates,
        write_description,
    )

    found = chosen_scans(source, layout=layout)
    log("\n".join(found.account()))
    log(f"brain extraction: {chosen.brain_extraction}; --brain chooses another")
    scans = _scans(found.rows)
    destinations = [Destination.of(scan, out) for scan in scans]
    check_folder(out, destinations, chosen)

    rows: list[Row | None] = [None] * len(scans)
    try:
        with _workers(*workers) as parallel:
            write_description(out, Path(str(source)).name, found.terms, chosen)
            progress("", 0, len(scans))
            for done, (index, row) in enumerate(_run(parallel, scans, out, chosen), start=1):
                rows[index] = row
                progress(_label(row), done, len(scans))
    except KeyboardInterrupt:
        complete = sum(destination.record() is not None for destination in destinations)
        raise Stopped(
            f"stopped; {complete} of {len(scans)} scans are done. Repeat the command to go on.",
            signal.SIGINT,
        ) from None
    summary = pd.DataFrame([row for row in rows if row])
    write_atomic(out / "summary.tsv", table_bytes(summary))
    good = (summary["status"] == "ok").to_numpy()
    if good.any():
        write_covariates(out, found.rows[good])
    if not good.all():
        raise CheckFailed(_failures(summary[~good], len(summary), out))
    return summary


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


def _failures(failed: pd.DataFrame, total: int, out: Path) -> str:
    named = zip(failed["scan"][:20], failed["reason"][:20], strict=True)
    lines = "\n  ".join(f"{scan}: {reason}" for scan, reason in named)
    more = f"\n  and {len(failed) - 20} more" if len(failed) > 20 else ""
    return (
        f"{len(failed)} of {total} scans could not be prepared:\n  {lines}{more}\n"
        f"The others are in {out}; see {out / 'summary.tsv'}. Repeat the command to try again."
    )


# ---------------------------------------------------------------- arguments


def _with_tool(settings: Settings) -> Settings:
    """Return the settings with the version and hash of the tool that extracts the brain."""
    from synthbench.cohorts.preparation.external import find_tool

    external = settings.brain_extraction != "builtin"
    tool = find_tool(settings.brain_extraction) if external else {}
    return settings.model_copy(update={"tool": tool})


def _scans(rows: pd.DataFrame) -> list[Scan]:
    texts = rows.reindex(columns=["path", "participant_id", "session", "run", "axes"])
    return [
        Scan(Path(path), person, *(v if isinstance(v, str) else None for v in (visit, run, axes)))
        for path, person, visit, run, axes in texts.itertuples(index=False)
    ]


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
