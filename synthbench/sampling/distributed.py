"""Sampling by the workers of a Dask cluster: a part of the call for each task, then merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthbench.errors import UsageError
from synthbench.runs.folder import Run
from synthbench.runs.part import Part
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.cluster import dask_client
from synthbench.sampling.merging import merge
from synthbench.sampling.sampling import SamplingRequest, run_sampling


def sample_on_dask(
    request: SamplingRequest,
    address: str,
    jobs: int,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> list[Path]:
    """Sample as requested on a Dask cluster, and return the volumes.

    Each task draws one of `jobs` parts into the folder OUT-parts, and the parts are merged. Where a
    worker dies, another one goes on with its part. A call that was stopped can be repeated.

    Parameters
    ----------
    request
        Without a part. The workers need the run and OUT at the same paths. They get the key of a
        watermark too.
    address
        Of the scheduler.
    jobs
        Number of parts; the same when the call is repeated.
    progress
        Called with (done, total, text) after each part.

    Raises
    ------
    SynthbenchError
        No scheduler answers, or as `sample` and `merge` do.
    """
    if request.part is not None:
        raise UsageError("--dask: leave out --shard, because --jobs divides the call.")
    out = Path(request.out).absolute()
    run = request.run.folder if isinstance(request.run, Run) else request.run
    conditions = request.conditions
    if isinstance(conditions, (str, Path)):
        conditions = Path(conditions).absolute()
    key = request.watermark
    if key is not None and key.startswith("@"):
        key = f"@{Path(key[1:]).absolute()}"
    whole = replace(request, run=_absolute(run), conditions=conditions, watermark=key)
    parts = out.with_name(f"{out.name}-parts")
    folders = [parts / str(number) for number in range(1, jobs + 1)]
    with dask_client(address, "cluster") as client:
        from distributed import as_completed

        tasks = [
            client.submit(run_sampling, replace(whole, part=Part(i, jobs), out=folder), pure=False)
            for i, folder in enumerate(folders, 1)
        ]
        names: dict[Any, str] = {task.key: f"part {i}" for i, task in enumerate(tasks, 1)}
        for done, task in enumerate(as_completed(tasks), 1):
            task.result()  # raises what the worker raised
            if progress:
                progress(done, jobs, names[task.key])
    return merge(folders, out, log=log)


def _absolute(run: Path | str) -> Path | str:
    """Return the folder of a run by its whole path; the name of a shipped run as it is."""
    return Path(run).absolute() if Path(run).is_dir() else run
