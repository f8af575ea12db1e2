"""A Slurm array that takes the parts of a command, through submitit.

Each task is a command line of synthbench. submitit pickles it, as a few words, into a folder that
only the user can enter, and unpickles nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from synthbench.errors import RunError, Stopped, UsageError
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger
from synthbench.runtime.documents import check_fields, is_there, json_fields
from synthbench.runtime.files import write_atomic
from synthbench.runtime.lock import LOCK, only_writer
from synthbench.runtime.part import Part

if TYPE_CHECKING:
    from submitit import Job

REQUEUES = 20
"""How often a task goes on after the end of its time."""

FOLDER = "jobs"
"""The folder of the files of submitit: scripts and logs."""

_RECORD = "array.json"
_POLL_S: Mapping[str, float] = {"slurm": 5.0, "local": 0.2}
_PROGRAMS = ("sbatch", "srun", "squeue", "scancel")
_REQUEUED = (-1, 144)  # how submitit ends a task that goes on later: by Slurm, or on this machine
_QUEUED = "PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING"
_OURS = frozenset({
    "additional_parameters", "array", "error", "input", "job_name", "nodes", "ntasks",
    "ntasks_per_node", "num_gpus", "open_mode", "output", "requeue", "signal", "srun_args",
    "stderr_to_stdout", "teardown", "use_srun",
})  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What an array is submitted with.

    Attributes
    ----------
    executor
        "slurm", or "local": processes of this machine, all at once, to try a command.
    minutes
        Time of a task; it is requeued at the end.
    options
        Options of sbatch, with underscores; `setup` is a list of lines of a shell.
    """

    executor: Literal["slurm", "local"] = "slurm"
    minutes: int = 60
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Settings:
        """Return the settings that texts such as "partition=gpu" name.

        Raises
        ------
        UsageError
            A text has another form, names what synthbench sets, or comes twice.

        >>> Settings.parse(["partition=gpu", "time=90", "gpus-per-node=1"])
        Settings(executor='slurm', minutes=90, options={'partition': 'gpu', 'gpus_per_node': 1})
        """
        found: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            name = name.strip().lstrip("-").replace("-", "_")
            where = f"--slurm-set {text}"
            if not (name and equals and value) or not value.isprintable():
                raise UsageError(f"{where}: write it as NAME=VALUE, such as partition=gpu.")
            if name in _OURS:
                raise UsageError(f"{where}: synthbench sets {name} itself. Leave it out.")
            if name == "setup":
                found.setdefault(name, []).append(value)
            elif name in found:
                raise UsageError(f"{where}: {name} is set twice. Leave one out.")
            else:
                found[name] = _value(value)
        minutes, executor = found.pop("time", cls.minutes), found.pop("executor", cls.executor)
        if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 1:
            raise UsageError(f"--slurm-set time={minutes}: write the minutes of a task: time=240.")
        if executor not in ("slurm", "local"):
            raise UsageError(f"--slurm-set executor={executor}: there are slurm and local.")
        return cls(executor, minutes, found)

    def check(self) -> None:
        """Check that this machine can submit.

        Raises
        ------
        UsageError
            submitit is not installed, or a command of Slurm is not found.
        """
        if find_spec("submitit") is None:
            raise UsageError(
                "--slurm needs submitit, which is not installed. Type: pip install "
                "'synthbench[cluster]'"
            )
        absent = [name for name in _PROGRAMS if shutil.which(name) is None]
        if self.executor == "slurm" and absent:
            raise UsageError(
                f"--slurm: {', '.join(absent)} not found on PATH. Type the command on a machine "
                "that submits to Slurm, or try it here: --slurm-set executor=local"
            )


def _value(text: str) -> str | int | bool:
    if text.isascii() and text.isdigit():
        return int(text)
    return True if text == "true" else text


@dataclass(frozen=True)
class Task:
    """A command line of synthbench that writes into a folder of its own.

    Attributes
    ----------
    words
        What is typed after `synthbench`. They can be read in the files of the array.
    folder
        The folder, whose lock an earlier session of the task may have left.
    """

    words: tuple[str, ...]
    folder: Path

    def __call__(self) -> None:
        """Run the command in this process, so that signals reach it.

        Raises
        ------
        RunError
            It failed.
        """
        if os.environ.get("SLURM_RESTART_COUNT"):
            # Slurm runs a task once at a time: this lock is of its earlier session.
            (self.folder / LOCK).unlink(missing_ok=True)
        sys.argv = ["synthbench", *self.words]
        try:
            runpy.run_module("synthbench", run_name="__main__")
        except SystemExit as ended:
            if ended.code in _REQUEUED:
                raise
            # 1: a check failed, and what was asked for is written.
            if ended.code not in (None, 0, 1):
                raise RunError(f"synthbench ended with the status {ended.code}") from None

    def checkpoint(self) -> Any:
        """Return what submitit runs after the end of the time: the same, which then goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Submitted(BaseModel):
    """What `array.json` says of the array that was submitted last.

    Attributes
    ----------
    command
        The sha256 of the words of all parts.
    executor
        As in `Settings`.
    jobs
        By part, its number in the scheduler.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    command: str
    executor: Literal["slurm", "local"]
    jobs: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], str]


def run_parts(
    words: Sequence[str],
    folders: Sequence[Path],
    settings: Settings,
    *,
    finished: Sequence[int] = (),
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> None:
    """Run a verb that has the options --out and --shard as an array, a part into each folder.

    Parameters
    ----------
    words
        What is typed after `synthbench`, without --out and --shard. Others can read them while a
        task runs.
    folders
        Of all parts, in order, in one folder that all machines see (`part_folders`).
    progress
        Called with (done, total, text) after each part.
    settings, finished, log
        As in `run_array`, which also says what is raised.
    """
    settings.check()
    tasks = {}
    for number, folder in enumerate(folders, 1):
        own = ("--out", str(folder), "--shard", str(Part(number, len(folders))))
        tasks[number] = Task((*words, *own), folder)

    def reported(what: str, done: int, total: int) -> None:
        if progress:
            progress(done, total, what)

    parts = folders[0].parent
    with only_writer(parts):
        run_array(tasks, parts, settings, finished=finished, progress=reported, log=log)


def part_folders(out: Path, of: int) -> list[Path]:
    """Return the folders of the parts of what goes into a folder: OUT-parts/1, OUT-parts/2, ..."""
    out = out.absolute()
    parts = out.with_name(f"{out.name}-parts")
    return [parts / str(number) for number in range(1, of + 1)]


def run_array(
    tasks: Mapping[int, Task],
    folder: Path,
    settings: Settings,
    *,
    finished: Sequence[int] = (),
    progress: Progress = no_progress,
    log: Log = to_logger,
) -> None:
    """Submit the parts of a command as one array, and wait until all have ended.

    Where the array of an earlier call is still at work, it is waited for, and none is submitted.

    Parameters
    ----------
    tasks
        By number, from 1, all parts of the command.
    folder
        A folder that all machines see; scripts and logs go into `jobs` in it. The caller is its
        only writer.
    finished
        Parts that need no task.
    progress
        Called with "part I", the number of finished parts, and of all.

    Raises
    ------
    RunError
        Tasks failed; the message names each, and its log. The others have finished.
    Stopped
        The user interrupted it: the array is cancelled.
    UsageError
        Slurm refused the array, or the folder holds parts of another command.
    """
    settings.check()
    words = [(number, tasks[number].words) for number in sorted(tasks)]
    command = hashlib.sha256(json.dumps(words).encode()).hexdigest()
    before = _submitted_before(folder, command)
    missing = [number for number in tasks if number not in finished]
    if not missing:
        return
    jobs = {} if before is None else _at_work(before, folder, log)
    if not jobs:
        if before is not None and before.executor == "slurm":
            for task in tasks.values():  # they have ended, wherever that was
                (task.folder / LOCK).unlink(missing_ok=True)
        jobs = _submitted({number: tasks[number] for number in missing}, folder, settings)
        names = {str(number): job.job_id for number, job in jobs.items()}
        record = _Submitted(command=command, executor=settings.executor, jobs=names)
        write_atomic(folder / _RECORD, record.model_dump_json(indent=1).encode())
        log(f"tasks submitted: {len(jobs)}; their logs are in {folder / FOLDER}")
    try:
        failed = _waited(jobs, len(tasks), progress, _POLL_S[settings.executor])
    except KeyboardInterrupt:
        _cancel(jobs)
        raise Stopped(
            "stopped, and the tasks are cancelled. Repeat the command to go on.", signal.SIGINT
        ) from None
    if failed:
        named = "\n  ".join(f"part {n}: {jobs[n].paths.stderr}" for n in failed[:20])
        more = f"\n  and {len(failed) - 20} more" if len(failed) > 20 else ""
        raise RunError(
            f"{len(failed)} of {len(tasks)} parts failed; their logs say why:\n  {named}{more}\n"
            "The others are kept: repeat the command to go on."
        )


def _submitted_before(folder: Path, command: str) -> _Submitted | None:
    """Return the array that was submitted last from a folder; None where none was."""
    file = folder / _RECORD
    if not is_there(file, UsageError):
        return None
    fix = "Delete it where no task of it is at work, and repeat the command."
    fields = json_fields(file, error=UsageError, fix=fix)
    found = check_fields(_Submitted, fields, file, error=UsageError, fix=fix)
    if found.command != command:
        raise UsageError(
            f"{folder}: it holds the parts of another command, or of another number of --jobs. "
            "Repeat that one, or name another --out, or delete the folder."
        )
    return found


def _at_work(before: _Submitted, folder: Path, log: Log) -> dict[int, Job[None]]:
    """Return the tasks of an earlier array by part, where Slurm still has one of them."""
    if before.executor == "local":
        return {}
    numbers = sorted({job.partition("_")[0] for job in before.jobs.values()})
    queue = ["squeue", "--noheader", f"--jobs={','.join(numbers)}", f"--states={_QUEUED}"]
    asked = subprocess.run(queue, capture_output=True, encoding="utf-8", check=False)
    # Slurm forgets an array some minutes after its end.
    if asked.returncode and "Invalid job id" not in asked.stderr:
        raise UsageError(
            f"{' '.join(queue)}: {' '.join(asked.stderr.split())}. An earlier call submitted this "
            "array, and it may be at work: repeat the command when Slurm answers."
        )
    if not asked.stdout.strip():
        return {}
    from submitit import SlurmJob

    log(f"the array {', '.join(numbers)} of an earlier call is at work: waiting for it")
    return {int(n): SlurmJob(folder / FOLDER, job_id=job) for n, job in before.jobs.items()}


def _submitted(tasks: Mapping[int, Task], folder: Path, settings: Settings) -> dict[int, Job[None]]:
    """Submit tasks as an array, and return the jobs by part."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    # It would write what it does to standard output, which is the verb's.
    said = logging.getLogger("submitit")
    for handler in list(said.handlers):
        said.removeHandler(handler)
    jobs = folder / FOLDER
    jobs.mkdir(parents=True, exist_ok=True)
    jobs.chmod(0o700)  # what others put there would be run
    executor: submitit.Executor
    if settings.executor == "local":
        executor = submitit.LocalExecutor(jobs, max_num_timeout=REQUEUES)
        executor.update_parameters(timeout_min=settings.minutes)
    else:
        executor = submitit.SlurmExecutor(jobs, max_num_timeout=REQUEUES)
        known = executor._valid_parameters()
        own = {name: value for name, value in settings.options.items() if name in known}
        other = {
            name.replace("_", "-"): value
            for name, value in settings.options.items()
            if name not in known
        }
        executor.update_parameters(
            job_name="synthbench", time=settings.minutes,
            additional_parameters={"requeue": True, **other}, **own,
        )  # fmt: skip
    try:
        submitted = executor.submit_array(list(tasks.values()))
    except (FailedJobError, FailedSubmissionError) as error:
        words = " ".join(str(error).split())
        raise UsageError(f"--slurm: sbatch did not take the array: {words}") from error
    return dict(zip(tasks, submitted, strict=True))


def _waited(
    jobs: Mapping[int, Job[None]], total: int, progress: Progress, every_s: float
) -> list[int]:
    """Wait for all jobs to end, and return the parts of those that failed."""
    waiting, failed = dict(jobs), []
    done = total - len(jobs)
    while waiting:
        for number, job in list(waiting.items()):
            if not job.done():
                continue
            del waiting[number]
            if job.exception() is None:
                done += 1
                progress(f"part {number}", done, total)
            else:
                failed.append(number)
                progress(f"part {number} (failed)", done, total)
        if waiting:
            time.sleep(every_s)
    return sorted(failed)


def _cancel(jobs: Mapping[int, Job[None]]) -> None:
    from submitit import SlurmJob

    numbers = {j.job_id.partition("_")[0] for j in jobs.values() if isinstance(j, SlurmJob)}
    if numbers:
        subprocess.run(["scancel", *sorted(numbers)], check=False)
    for job in jobs.values():
        if not isinstance(job, SlurmJob):
            job.cancel(check=False)
