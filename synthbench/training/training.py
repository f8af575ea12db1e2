"""Training: from a cohort to a run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from synthbench import registry
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.disclosure import subgroups
from synthbench.cohorts.provenance import sources
from synthbench.errors import RunError, Stopped, UsageError
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import TrainedBySteps, check_settings_used
from synthbench.runs import checkpoint
from synthbench.runs.configuration import (
    RunSettings,
    configured,
    of_network,
    resolve,
    without_paths,
)
from synthbench.runs.folder import Run, environment, is_shipped
from synthbench.runs.model_card import write_model_card
from synthbench.runs.validation import from_options
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.files import NO_ROOM
from synthbench.runtime.lock import content_of, only_writer
from synthbench.training.changes import changed
from synthbench.training.changes import record as record_changes
from synthbench.training.data import Data, Job, cohort_record, read_data
from synthbench.training.energy import Meter, add, check_meter, gpu_hours
from synthbench.training.monitor import previewer
from synthbench.training.tracking import check_trackers, trackers
from synthbench.volumes.grid import Space

PREVIEWS = 4


@dataclass(frozen=True)
class TrainingRequest:
    """The options of a training.

    Attributes
    ----------
    out
        The run folder: new, or one to resume.
    generator
        Name of the generator; may be left out with `resume`.
    real
        The training cohort; None: the embedded atlas cohort, written into the run folder.
    validation
        Volumes of other subjects, for validation losses and for scores during training.
    preset, config, overrides
        As in `synthbench.runs.configuration.resolve`.
    init
        A run of the same generator; training starts from its weights.
    track
        Trackers by name: tensorboard, wandb, mlflow.
    energy
        True: measure the electricity of the training.
    resume
        True: continue the run in `out` with its own configuration. `overrides` may then change
        some settings (`synthbench.generators.loop.settings`, CHANGED_ON_RESUME); more steps
        prolong a run that has finished.
    assume_grid
        Voxel size in mm for arrays without geometry.
    suffix, filters
        Which files of the cohorts' folders are their volumes: the end of their names, and BIDS
        entities as ENTITY=VALUE (`synthbench.cohorts.choice.Choice.parse`).
    accept
        Rules of `synthbench.cohorts.preflight.check.RULES` whose errors do not stop the training;
        the run's record names them.
    """

    out: Path
    generator: str | None = None
    real: Path | None = None
    validation: Path | None = None
    preset: str | None = None
    config: Path | None = None
    overrides: Sequence[str] = ()
    init: Path | None = None
    track: Sequence[str] = ()
    energy: bool = False
    resume: bool = False
    assume_grid: float | None = None
    suffix: str | None = None
    filters: Sequence[str] = ()
    accept: Sequence[str] = ()


def train(
    generator: str | None = None,
    *,
    out: Path,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
    **options: Any,
) -> Run:
    """Train a generator and return its run folder.

    Parameters
    ----------
    generator, out
        Name of the generator, and the run folder.
    progress
        Called with (done, total, text) while training.
    log
        Called with messages for the user.
    options
        The other fields of `TrainingRequest`: real, validation, preset, config, overrides, init,
        track, energy, resume, assume_grid, suffix, filters, accept.

    Raises
    ------
    SynthbenchError
        The training is impossible. It is raised before anything is overwritten.
    TypeError
        There is no such option; the nearest is named.
    """
    options = {"generator": generator, "out": out, **options}
    return run_training(from_options(TrainingRequest, "train", options), progress, log)


def run_training(
    request: TrainingRequest,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> Run:
    """Train as requested and return the run folder; raises as `train` does."""
    from synthbench.runtime.processes import is_main

    if request.resume:
        Run.open(request.out)  # a folder that is not there is not made
    with only_writer(request.out) if is_main() else nullcontext():
        try:
            return _trained(request, progress, log)
        except OSError as error:
            if error.errno in NO_ROOM and (Path(request.out) / "config.yaml").is_file():
                raise RunError(
                    f"{error.filename}: {error.strerror}. Make room on that disk, then continue: "
                    f"synthbench train --resume --out {request.out}"
                ) from error
            raise


def _trained(
    request: TrainingRequest, progress: Callable[[int, int, str], None] | None, log: Log
) -> Run:
    """Train as requested, as the only writer into the run folder; return the run."""
    job = _continued(request) if request.resume else _new(request)
    run = job.run
    if request.resume and not job.changes:
        if run.record.get("finished"):
            log(f"{run.folder} has finished; nothing to resume. --set steps=N prolongs it.")
            return run
        if run.record.get("trained") and run.weights_file.is_file():
            log(f"{run.folder} is trained; its preview and its card are written now.")
            return _finished(run, log)
    _check_job(job)
    from synthbench.runtime.processes import processes

    state = processes()
    # A resumed run has done its first steps, and no longer needs the run that it started from.
    starting = None if request.resume else _starting(job, log)
    # No process writes into the folder before all have checked that it is empty.
    state.wait_for_everyone()
    data = read_data(job, request.accept, log)
    if request.resume:
        _check_unchanged(run, data.cohorts["train"])
        if job.changes and state.is_main_process:
            _write_changes(job, log)
    elif state.is_main_process:
        _write_beginning(job, data, starting)
    state.wait_for_everyone()
    log(
        f"{job.settings.generator}"
        + (f" (preset {job.settings.preset})" if job.settings.preset else "")
        + f" on {len(data.volumes)} volumes, {data.volumes.space}; into {run.folder}"
    )
    try:
        _fit(job, data, starting, progress, log)
    except Stopped:
        raise
    except Exception:
        if state.is_main_process and not request.resume:
            _withdraw_beginning(run)
        raise
    return _finished(run, log)


def _continued(request: TrainingRequest) -> Job:
    """Return the job of a run that is continued, with its own configuration."""
    requested = (
        request.preset, request.config, request.real, request.init, request.validation,
        request.track, request.energy,
    )  # fmt: skip
    if any(requested):
        raise UsageError(
            "--resume continues with the run's own configuration: leave out --real, "
            "--validation, --preset, --config, --init, --track and --energy."
        )
    run = Run.open(request.out)
    settings, own = configured(run, request.generator)
    plugin = registry.load("generators", settings.generator)()
    new, found = changed(run, own, request.overrides, settings.generator)
    if found:
        _check_goes_on(run, own, new)
    return Job(run, settings, new, plugin, True, found)


def _check_goes_on(run: Run, own: BaseModel, new: BaseModel) -> None:
    """Raise where a run with these settings, in place of its own, has no step left to do.

    A run that has not finished may have no step left: its weights are then written.
    """
    from synthbench.generators.loop.settings import StepSettings
    from synthbench.runtime.processes import processes

    assert isinstance(own, StepSettings)
    assert isinstance(new, StepSettings)
    newest = checkpoint.newest(run)
    done = 0 if newest is None else newest.step
    total = new.total_steps(run.record["cohort"]["n"], processes().num_processes)
    ended = bool(run.record.get("trained"))
    if total < done or (ended and total == done):
        raise UsageError(
            f"--resume: {run.folder} has done {done} steps, and these settings end at {total}. Set "
            "more steps (or epochs)."
        )
    stops = ("early_stopping", "patience", "steps", "epochs")
    if ended and all(getattr(own, name) == getattr(new, name) for name in stops):
        raise UsageError(
            f"--resume: {run.folder} stopped early at step {done}. To go on, set a larger "
            "patience, or early_stopping=null."
        )


def _write_changes(job: Job, log: Log) -> None:
    """Write the changed settings into the record and the configuration of a continued run."""
    run = job.run
    record_changes(run, job.changes)
    run.update(finished=False, trained=False)
    run.write_config({**run.config, **job.own.model_dump(mode="json")})
    for change in job.changes:
        log(f"from step {change.step} on: {change.setting}={change.after} (was {change.before})")


def _new(request: TrainingRequest) -> Job:
    """Return the job of a new run."""
    if request.generator is None:
        raise UsageError("name a generator; `synthbench list generators` shows them.")
    settings, own = resolve(
        request.generator,
        preset=request.preset,
        config=request.config,
        overrides=request.overrides,
        real=_absolute(request.real),
        init=_run_to_start_from(request.init),
        validation=_absolute(request.validation),
        assume_grid=request.assume_grid,
        suffix=request.suffix,
        filters=tuple(request.filters),
        track=tuple(request.track),
        energy=request.energy,
    )
    run = Run(Path(request.out))
    run.refuse_content("Continue it with --resume, or name")
    return Job(run, settings, own, registry.load("generators", settings.generator)(), False)


def _check_unchanged(run: Run, cohort: Cohort) -> None:
    before = run.record["cohort"]["fingerprint"]
    if before != cohort.fingerprint:
        raise RunError(
            f"{run.folder}: the training cohort has changed since the run began (its fingerprint "
            f"is {cohort.fingerprint[:12]}..., in run.json it is {before[:12]}...). Restore the "
            "files, or train a new run."
        )


def _write_beginning(job: Job, data: Data, starting: Run | None) -> None:
    """Write the record of a new run, then its configuration."""
    run, cohort, space = job.run, data.cohorts["train"], data.volumes.space
    validation = data.cohorts.get("validation")
    # The configuration comes last: a folder with a configuration can be resumed.
    run.folder.mkdir(parents=True, exist_ok=True)
    run.update(
        generator=job.settings.generator,
        finished=False,
        cohort=cohort_record(cohort, embedded=job.settings.real is None),
        validation=None if validation is None else cohort_record(validation),
        # The terms of the cohort of the other run also hold for these weights.
        sources=[*sources(cohort), *(starting.record.get("sources", []) if starting else [])],
        subgroups=subgroups(cohort),
        space={"shape": space.shape, "affine": space.affine},
        conditions=None if data.conditions is None else data.conditions.as_json(),
        accepted=data.accepted,
        initialised_from=None if starting is None else starting.weights_sha256,
        environment=environment(),
    )
    run.write_config({**job.settings.model_dump(mode="json"), **job.own.model_dump(mode="json")})


_BEGINNING = {"config.yaml", "run.json", "atlas", "volumes.json", "volumes.npy"}


def _withdraw_beginning(run: Run) -> None:
    """Remove the beginning of a run whose fit has failed, so that the folder is free again.

    What the generator wrote itself (losses, checkpoints, its own files) stays, and so does the
    beginning then.
    """
    if content_of(run.folder) <= _BEGINNING:
        for name in ("config.yaml", "run.json", "volumes.json", "volumes.npy"):
            (run.folder / name).unlink(missing_ok=True)


def _fit(
    job: Job,
    data: Data,
    starting: Run | None,
    progress: Callable[[int, int, str], None] | None,
    log: Log,
) -> None:
    """Fit the generator: in all processes where it is trained by steps, else in the main one."""
    from synthbench.runtime.processes import processes

    state, run = processes(), job.run
    # Keywords that only a generator with that capability takes.
    keywords: dict[str, Any] = {}
    if data.conditions is not None:
        keywords["conditions"] = data.rows["train"]
    if data.perceptual is not None:
        keywords["perceptual"] = data.perceptual
    began = time.monotonic()
    gpus = state.num_processes if state.device.type == "cuda" else 0
    with _measured(job.settings, run, gpus, _machines()) as log_values:
        by_steps = isinstance(job.plugin, TrainedBySteps)
        if by_steps:
            keywords["monitor"] = _monitor(job, data, log_values, log)
        if by_steps or state.is_main_process:
            job.plugin.fit(
                data.volumes, job.own, run,
                resume=job.resume, init=starting, progress=progress, **keywords,
            )  # fmt: skip
    state.wait_for_everyone()
    if state.is_main_process:
        if "training_seconds" not in run.record:
            run.update(training_seconds=round(time.monotonic() - began, 1))
        # The weights are final now: a run that is stopped later is not fitted again.
        hours = round(gpu_hours(run.record["training_seconds"], gpus), 3)
        run.update(gpu_hours=hours, trained=True)


def _finished(run: Run, log: Log) -> Run:
    """Write the preview and the card of a trained run, and return the run."""
    from synthbench.runtime.processes import processes

    state = processes()
    if state.is_main_process:
        name, grid = run.record["generator"], run.record["space"]
        space = Space.of(grid["shape"], np.array(grid["affine"]).reshape(4, 4))
        drawn = list(registry.load("generators", name)().sample(run, range(PREVIEWS)))
        previewer(name, space)(drawn, run.folder / "preview.png")
        write_model_card(run, log=log)
        run.update(finished=True)
    state.wait_for_everyone()
    return run


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _run_to_start_from(init: Path | None) -> str | None:
    return str(init) if init is not None and is_shipped(init) else _absolute(init)


def _starting(job: Job, log: Log) -> Run | None:
    """Return the run to start from, with its weights; None where none is named."""
    from synthbench.generators.unfinished import warning, with_weights

    settings = job.settings
    if settings.init is None:
        return None
    run = Run.open(Path(settings.init))
    there = of_network(run.settings(job.plugin.settings))
    if there:
        here = of_network(job.own)
        others = [f"{k}={here[k]} (there {there[k]})" for k in there if here[k] != there[k]]
        log(
            f"--init: the settings of the network are those of {settings.init}"
            + (f", but for {', '.join(others)}." if others else ".")
        )
    run = with_weights(run, job.plugin)
    if run.unfinished is not None:
        log(f"--init: {warning(run)}")
    return run


def _machines() -> int:
    """Return the number of machines; the launcher sets how many processes each has."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, int(os.environ.get("WORLD_SIZE", "1")) // max(1, here))


def _check_job(job: Job) -> None:
    """Raise where the generator or this machine cannot do what the settings ask for.

    No setting of a user is ignored silently.
    """
    from synthbench.generators.loop.settings import LoopSettings, StepSettings

    settings, own, name = job.settings, job.own, job.settings.generator
    check_settings_used(name, job.plugin, own)
    check_trackers(settings.track)
    if settings.energy:
        check_meter()
    if not isinstance(job.plugin, TrainedBySteps):
        if isinstance(own, StepSettings):
            raise UsageError(
                f"{name} has the settings of a training by steps, but no method stages(). Add that "
                "method, or take other settings (docs/generators.md)."
            )
        if settings.validation or settings.track:
            raise UsageError(f"{name} is not trained by steps: leave out --validation and --track.")
        if settings.score_extractor != RunSettings.model_fields["score_extractor"].default:
            raise UsageError(
                f"score_extractor: {name} is not trained by steps, so there are no scores during "
                "training. Leave it out."
            )
        return
    if not isinstance(own, LoopSettings):
        raise UsageError(
            f"{name} has a method stages(), so its settings must be a "
            "synthbench.generators.loop.settings.LoopSettings (docs/generators.md)."
        )
    if own.score_every and not settings.validation:
        raise UsageError(
            "score_every: scores during training need volumes that are not trained on. Name them "
            "with --validation (synthbench data split makes such a set)."
        )
    if own.early_stopping == "validation" and not settings.validation:
        raise UsageError(
            "early_stopping: the validation loss needs volumes that are not trained on. Name them "
            "with --validation (synthbench data split makes such a set), or set "
            "early_stopping=training."
        )
    from synthbench.training.stages import check_freeze

    check_freeze(job.plugin.stages(own))


@contextmanager
def _measured(
    settings: RunSettings, run: Run, gpus: int, machines: int
) -> Iterator[Callable[[int, Mapping[str, float]], None] | None]:
    """Start trackers and the energy meter; yield the function that trackers get values with.

    It is None without trackers. The energy is added to the run's record however the training ends,
    except when the process is killed.
    """
    # Paths of data are not sent to trackers.
    kept = {k: v for k, v in run.config.items() if k not in ("real", "validation", "init")}
    config = without_paths(kept)
    newest = max(run.checkpoints.glob("step-*"), default=None)
    first_step = 0 if newest is None else int(newest.name.removeprefix("step-"))
    with ExitStack() as stack:
        tracker = stack.enter_context(
            trackers(settings.track, run.folder, config, first_step=first_step)
        )
        if settings.energy:
            meter = stack.enter_context(Meter(gpus, machines))
            stack.callback(_add_energy, run, meter)
        yield tracker.log if settings.track else None


def _add_energy(run: Run, meter: Meter) -> None:
    if reading := meter.reading():
        run.update(energy=add(run.record.get("energy"), reading))


def _monitor(
    job: Job,
    data: Data,
    log_values: Callable[[int, Mapping[str, float]], None] | None,
    log: Log,
) -> Monitor:
    """Return the monitor of a training by steps; `log_values` sends values to trackers."""
    from synthbench.generators.loop.settings import LoopSettings
    from synthbench.training.diversity import DiversityCheck
    from synthbench.training.monitor import Scorer

    settings, own, space = job.settings, job.own, data.volumes.space
    assert isinstance(own, LoopSettings)
    held_out = data.cohorts.get("validation")
    validation = None if held_out is None else held_out.volumes(space, settings.intensity)
    score = None
    if validation is not None and own.score_every:
        score = Scorer(validation, settings.score_extractor, log)
    return Monitor(
        validation=validation,
        conditions=data.rows.get("validation"),
        score=score,
        preview=previewer(settings.generator, space) if own.preview_every else None,
        log=log_values,
        diversity=DiversityCheck(data.volumes, own.diversity_volumes, log)
        if own.diversity_every
        else None,
    )
