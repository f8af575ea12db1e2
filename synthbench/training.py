"""Training: from a cohort to a run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from synthbench import preflight, registry
from synthbench.cards import sources, subgroups, write_model_card
from synthbench.cohort import Cohort, Volumes, read_cohort
from synthbench.conditions import Conditions, Row, rows_of
from synthbench.energy import Meter, add, check_meter, gpu_hours
from synthbench.errors import RunError, UsageError, near_miss
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import (
    GridRule,
    Settings,
    TrainedBySteps,
    check_settings_used,
    conditions_named,
    perceptual_named,
)
from synthbench.monitor import previewer
from synthbench.run import Run, environment
from synthbench.runtime.callbacks import Log, no_log
from synthbench.settings import by_names_of_today, from_options, validated
from synthbench.space import Intensity, Space, quantity
from synthbench.tracking import check_trackers, trackers

PREVIEWS = 4
ATLAS_SUBJECTS = 64
ATLAS_SHAPE = (48, 56, 48)


class SpaceSettings(BaseModel):
    """The grid to train on.

    `shape` alone divides the cohort's field of view (the voxels change size); `spacing` alone
    covers it; both crop or pad around the brains' common centre; neither keeps the grid.
    """

    model_config = ConfigDict(extra="forbid")

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        default=None, examples=[ATLAS_SHAPE]
    )
    spacing: PositiveFloat | None = Field(default=None, examples=[2.0])


class RunSettings(BaseModel):
    """What a run's configuration holds beside the generator's own settings."""

    model_config = ConfigDict(extra="forbid")

    generator: str
    preset: str | None = None
    real: str | None = None
    assume_grid: float | None = None
    init: str | None = None
    validation: str | None = None
    track: tuple[str, ...] = ()
    energy: bool = False
    score_extractor: str = Field(
        default="random-resnet10", description="of scores during training (score_every)"
    )
    space: SpaceSettings = SpaceSettings()
    intensity: Intensity = "percentile"

    @field_validator("intensity")
    @classmethod
    def _known(cls, rule: Intensity) -> Intensity:
        quantity(rule)  # raises where there is no such rule
        return rule


def presets(generator: str) -> list[str]:
    """Return the names of a generator's presets."""
    folder = files("synthbench.generators") / "presets"
    found = [p.name for p in folder.iterdir() if p.name.endswith(".yaml")]
    return sorted(
        name.removeprefix(f"{generator}-").removesuffix(".yaml")
        for name in found
        if name.startswith(f"{generator}-")
    )


def resolve(
    generator: str,
    *,
    preset: str | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    **given: Any,
) -> tuple[RunSettings, BaseModel]:
    """Merge a preset, a YAML file and `key=value` overrides into typed settings.

    Parameters
    ----------
    generator
        Its name in the registry.
    preset
        A YAML file that ships with the generator; None: `tiny` without CUDA, with it `paper`, or
        `small` where there is none, if the generator has presets.
    config
        A YAML file of the same keys, over the preset; a run's `config.yaml` will do.
    overrides
        `key=value`, over both; a dot goes one level down, values are read as YAML.
    given
        Fields of `RunSettings`.

    Raises
    ------
    UsageError
        A preset or key is unknown, or a value is not what its key takes.
    """
    known = presets(generator)
    if preset is not None and preset not in known and generator in registry.names("generators"):
        raise UsageError(
            f"--preset: {generator} has no preset '{preset}': {near_miss(preset, known)}"
            if known
            else f"--preset: {generator} has no presets; leave it out."
        )
    plugin = registry.load("generators", generator)()
    if preset is None and "tiny" in known:
        preset = _preset_for_this_machine(known)
    merged: dict[str, Any] = {}
    if preset is not None:
        merged = _preset(generator, preset)
    if config is not None:
        merged = _merged(merged, _yaml_file(config, generator))
    for override in overrides:
        merged = _merged(merged, _override(override))
    merged = by_names_of_today(plugin.settings, merged)
    common = {"space", "intensity", "score_extractor"}
    own = set(plugin.settings.model_fields)
    for key in merged:
        if key not in common | own:
            raise UsageError(f"{generator} has no setting '{key}': {near_miss(key, common | own)}")
    shared = {k: v for k, v in merged.items() if k in common}
    return (
        validated(
            RunSettings, {**shared, "generator": generator, "preset": preset, **given}, generator
        ),
        validated(plugin.settings, {k: v for k, v in merged.items() if k in own}, generator),
    )


@dataclass(frozen=True)
class TrainingRequest:
    """What a training is asked for.

    Attributes
    ----------
    out
        The run folder: new, or one to resume.
    generator
        Its name; may be left out with `resume`.
    real
        The training cohort; None: the embedded atlas cohort, written into the run folder.
    validation
        Volumes of other subjects: validation losses and scores during training are of these.
    preset, config, overrides
        See `resolve`.
    init
        A run of the same generator whose weights to start from.
    track
        Trackers by name: tensorboard, wandb, mlflow.
    energy
        Measure what the training draws from the mains.
    resume
        Continue the run in `out` with its own configuration.
    assume_grid
        Voxel size in mm for arrays without geometry.
    accept
        Rules of `synthbench.preflight.RULES` whose errors stop nothing; the run's record names
        them.
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
    accept: Sequence[str] = ()


def train(
    generator: str | None = None,
    *,
    out: Path,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = no_log,
    **options: Any,
) -> Run:
    """Train a generator and return its run folder.

    Parameters
    ----------
    generator, out
        Its name, and the run folder.
    progress
        Called with (done, total, words) while training.
    log
        Called with sentences for the user.
    options
        The other fields of `TrainingRequest`: real, validation, preset, config, overrides, init,
        track, energy, resume, assume_grid, accept.

    Raises
    ------
    SynthbenchError
        What cannot be run, before anything is overwritten.
    TypeError
        There is no such option; the nearest is named.
    """
    given = {"generator": generator, "out": out, **options}
    return run_training(from_options(TrainingRequest, "train", given), progress, log)


def run_training(
    request: TrainingRequest,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = no_log,
) -> Run:
    """Train as requested and return the run folder; see `train`."""
    job = _continued(request) if request.resume else _new(request)
    run = job.run
    if request.resume:
        if run.record.get("finished"):
            log(f"{run.folder} has finished; nothing to resume.")
            return run
        if run.record.get("trained") and run.weights_file.is_file():
            log(f"{run.folder} is trained; what was left are its preview and its card.")
            return _finished(run, log)
    _check_job(job)
    from synthbench.processes import processes

    state = processes()
    # A resumed run has its first steps behind it, and needs the other run no more.
    starting = None if request.resume else _starting(job.settings)
    # All processes have looked into the folder before one of them writes there.
    state.wait_for_everyone()
    data = _data(job, request.accept, log)
    if request.resume:
        _check_unchanged(run, data.cohorts["train"])
    elif state.is_main_process:
        _write_beginning(job, data, starting)
    state.wait_for_everyone()
    log(
        f"{job.settings.generator}"
        + (f" (preset {job.settings.preset})" if job.settings.preset else "")
        + f" on {len(data.volumes)} volumes, {data.volumes.space}; into {run.folder}"
    )
    _fit(job, data, starting, progress, log)
    return _finished(run, log)


@dataclass(frozen=True)
class _Job:
    """A training: its folder, its settings, and the generator."""

    run: Run
    settings: RunSettings
    own: BaseModel
    plugin: Any
    resume: bool


@dataclass(frozen=True)
class _Data:
    """What a training is given.

    `rows` are covariates by role, without roles where the generator is given none; `accepted` are
    the preflight rules whose errors the user accepted.
    """

    cohorts: Mapping[str, Cohort]
    volumes: Volumes
    rows: Mapping[str, list[Row]]
    conditions: Conditions | None
    perceptual: Any
    accepted: list[str]


def _continued(request: TrainingRequest) -> _Job:
    """Return a run's job with its own configuration."""
    asked = (
        request.preset, request.config, request.overrides, request.real, request.init,
        request.validation, request.track, request.energy,
    )  # fmt: skip
    if any(asked):
        raise UsageError(
            "--resume continues with the run's own configuration: leave out --real, "
            "--validation, --preset, --config, --set, --init, --track and --energy."
        )
    run = Run.open(request.out)
    settings, own = _configured(run, request.generator)
    return _Job(run, settings, own, registry.load("generators", settings.generator)(), True)


def _new(request: TrainingRequest) -> _Job:
    """Return the job of a run that is to begin."""
    if request.generator is None:
        raise UsageError("name a generator; `synthbench list generators` shows them.")
    settings, own = resolve(
        request.generator,
        preset=request.preset,
        config=request.config,
        overrides=request.overrides,
        real=_absolute(request.real),
        init=_absolute(request.init),
        validation=_absolute(request.validation),
        assume_grid=request.assume_grid,
        track=tuple(request.track),
        energy=request.energy,
    )
    run = Run(Path(request.out))
    _refuse_full(run.folder)
    return _Job(run, settings, own, registry.load("generators", settings.generator)(), False)


def _data(job: _Job, accept: Sequence[str], log: Log) -> _Data:
    """Read the cohorts and all that goes with them; raise before anything is written."""
    cohorts = _cohorts(job, log)
    # A resumed run has passed; what was accepted stands in its record.
    findings = [] if job.resume else preflight.check(cohorts, accept, log)
    volumes = training_volumes(cohorts["train"], job.settings)
    if isinstance(job.own, GridRule):
        job.own.check_grid(volumes.space.shape)
    rows, conditions = _conditions(job.own, cohorts)
    perceptual = _perceptual(job.own, volumes.space)
    accepted = sorted({f.rule for f in findings if f.severity == "error"})
    return _Data(cohorts, volumes, rows, conditions, perceptual, accepted)


def _check_unchanged(run: Run, cohort: Cohort) -> None:
    before = run.record["cohort"]["fingerprint"]
    if before != cohort.fingerprint:
        raise RunError(
            f"{run.folder}: the training cohort has changed since the run began (its fingerprint "
            f"is {cohort.fingerprint[:12]}..., the run's {before[:12]}...). Restore the files, or "
            "train anew."
        )


def _write_beginning(job: _Job, data: _Data, starting: Run | None) -> None:
    """Write the record of a run that begins, and then its configuration."""
    run, cohort, space = job.run, data.cohorts["train"], data.volumes.space
    validation = data.cohorts.get("validation")
    # The configuration comes last: a folder that has one can be resumed.
    run.folder.mkdir(parents=True, exist_ok=True)
    run.update(
        generator=job.settings.generator,
        finished=False,
        cohort=_cohort_record(cohort, embedded=job.settings.real is None),
        validation=None if validation is None else _cohort_record(validation),
        # The terms of what the other run was trained on bind these weights too.
        sources=[*sources(cohort), *(starting.record.get("sources", []) if starting else [])],
        subgroups=subgroups(cohort),
        space={"shape": space.shape, "affine": space.affine},
        conditions=None if data.conditions is None else data.conditions.as_json(),
        accepted=data.accepted,
        initialised_from=None if starting is None else starting.record["weights_sha256"],
        environment=environment(),
    )
    run.write_config({**job.settings.model_dump(mode="json"), **job.own.model_dump(mode="json")})


def _fit(
    job: _Job,
    data: _Data,
    starting: Run | None,
    progress: Callable[[int, int, str], None] | None,
    log: Log,
) -> None:
    """Fit the generator: in all processes where it is trained by steps, else in the main one."""
    from synthbench.processes import processes

    state, run = processes(), job.run
    # Keywords that only a generator with that capability takes.
    given: dict[str, Any] = {}
    if data.conditions is not None:
        given["conditions"] = data.rows["train"]
    if data.perceptual is not None:
        given["perceptual"] = data.perceptual
    began = time.monotonic()
    gpus = state.num_processes if state.device.type == "cuda" else 0
    with _measured(job.settings, run, gpus, _machines()) as numbers:
        by_steps = isinstance(job.plugin, TrainedBySteps)
        if by_steps:
            given["monitor"] = _monitor(job, data, numbers, log)
        if by_steps or state.is_main_process:
            job.plugin.fit(
                data.volumes, job.own, run,
                resume=job.resume, init=starting, progress=progress, **given,
            )  # fmt: skip
    state.wait_for_everyone()
    if state.is_main_process:
        if "training_seconds" not in run.record:
            run.update(training_seconds=round(time.monotonic() - began, 1))
        # From here on the weights are final: a run that is stopped need not be fitted again.
        hours = round(gpu_hours(run.record["training_seconds"], gpus), 3)
        run.update(gpu_hours=hours, trained=True)


def _finished(run: Run, log: Log) -> Run:
    """Draw the preview of a trained run and write its card."""
    from synthbench.processes import processes

    state = processes()
    if state.is_main_process:
        name, grid = run.record["generator"], run.record["space"]
        space = Space.of(grid["shape"], np.array(grid["affine"]).reshape(4, 4))
        drawn = list(registry.load("generators", name)().sample(run, range(PREVIEWS)))
        previewer(name, space)(drawn, run.folder / "preview.png")
        write_model_card(run, say=log)
        run.update(finished=True)
    state.wait_for_everyone()
    return run


# ---------------------------------------------------------------- configuration


def _preset(generator: str, name: str) -> dict[str, Any]:
    """Read a preset; one that extends another names its differences alone."""
    file = files("synthbench.generators") / "presets" / f"{generator}-{name}.yaml"
    own = dict(yaml.safe_load(file.read_text()))
    below = own.pop("extends", None)
    return own if below is None else _merged(_preset(generator, below), own)


def _preset_for_this_machine(known: Sequence[str]) -> str:
    import torch

    if not torch.cuda.is_available():
        return "tiny"
    return "paper" if "paper" in known else "small"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _yaml_file(file: Path, generator: str) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"--config {file}: not readable: {error}") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"--config {file}: a YAML mapping of settings is needed.")
    if loaded.get("generator", generator) != generator:
        raise UsageError(f"--config {file} is for {loaded['generator']}, not for {generator}.")
    # A run's config.yaml also says where its data lay; that is not a setting to take over.
    about_the_run = (
        "generator", "preset", "real", "assume_grid", "init", "validation", "track", "energy",
    )  # fmt: skip
    return {k: v for k, v in loaded.items() if k not in about_the_run}


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {text}: write it as key=value, for example --set steps=100")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: the value is not YAML: {error}") from error
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return dict(nested)


# ---------------------------------------------------------------- a run's beginning


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _configured(run: Run, generator: str | None) -> tuple[RunSettings, BaseModel]:
    """Return the settings that a run was begun with."""
    saved = run.config
    name = saved["generator"]
    if generator not in (None, name):
        raise UsageError(f"{run.folder} is a run of {name}, not of {generator}.")
    chosen = {k: v for k, v in saved.items() if k in RunSettings.model_fields}
    plugin = registry.load("generators", name)()
    own = {k: v for k, v in saved.items() if k not in chosen}
    return validated(RunSettings, chosen, name), validated(plugin.settings, own, name)


def _refuse_full(folder: Path) -> None:
    """Raise where something is in the way; what a run killed at its start left is not."""
    early = set() if (folder / "config.yaml").is_file() else {"atlas", "run.json"}
    there = {p.name for p in folder.iterdir()} - early if folder.is_dir() else set()
    if there or (folder.exists() and not folder.is_dir()):
        raise RunError(
            f"{folder}: already there and not empty. Continue it with --resume, "
            "or name another folder with --out."
        )


def _starting(settings: RunSettings) -> Run | None:
    if settings.init is None:
        return None
    run = Run.open(Path(settings.init))
    if run.record["generator"] != settings.generator:
        raise UsageError(
            f"--init: {settings.init} is a run of {run.record['generator']}, "
            f"not of {settings.generator}."
        )
    return run


def _machines() -> int:
    """How many machines the processes are spread over; launchers say how many each has."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, int(os.environ.get("WORLD_SIZE", "1")) // max(1, here))


def _check_job(job: _Job) -> None:
    """Raise where the settings ask for what the generator, or this machine, cannot do.

    Nothing that a user sets is dropped in silence.
    """
    from synthbench.generators.loop import LoopSettings, StepSettings

    settings, own, name = job.settings, job.own, job.settings.generator
    check_settings_used(name, job.plugin, own)
    check_trackers(settings.track)
    if settings.energy:
        check_meter()
    if not isinstance(job.plugin, TrainedBySteps):
        if isinstance(own, StepSettings):
            raise UsageError(
                f"{name} has the settings of a training by steps, but no method stages(), so it "
                "would not be trained by steps (docs/generators.md)."
            )
        if settings.validation or settings.track:
            raise UsageError(f"{name} is not trained by steps: leave out --validation and --track.")
        if settings.score_extractor != RunSettings.model_fields["score_extractor"].default:
            raise UsageError(
                f"score_extractor: {name} is not trained by steps, so nothing is scored meanwhile. "
                "Leave it out."
            )
        return
    if not isinstance(own, LoopSettings):
        raise UsageError(
            f"{name} has a method stages(), so its settings must be a "
            "synthbench.generators.loop.LoopSettings (docs/generators.md)."
        )
    if own.score_every and not settings.validation:
        raise UsageError(
            "score_every: scores during training are against volumes that are not trained on; "
            "name them with --validation (synthbench data split draws them)."
        )
    from synthbench.generators.estimate import check_freeze

    check_freeze(job.plugin.stages(own))


# ---------------------------------------------------------------- cohorts


def _cohorts(job: _Job, log: Log) -> dict[str, Cohort]:
    train, settings = _training_cohort(job, log), job.settings
    if settings.validation is None:
        return {"train": train}
    validation = read_cohort(
        Path(settings.validation), role="validation", assume_grid=settings.assume_grid
    )
    return {"train": train, "validation": validation}


def _training_cohort(job: _Job, log: Log) -> Cohort:
    settings = job.settings
    if settings.real is not None:
        return read_cohort(Path(settings.real), role="real", assume_grid=settings.assume_grid)
    from synthbench.processes import processes

    state, folder = processes(), job.run.folder / "atlas"
    shape = settings.space.shape or ATLAS_SHAPE
    log(
        f"no --real: training on {ATLAS_SUBJECTS} simulated subjects of the embedded atlas "
        f"cohort, {shape[0]} x {shape[1]} x {shape[2]}, written to {folder}"
    )
    if state.is_main_process and not (folder / "participants.tsv").is_file():
        from synthbench.atlas import atlas_cohort

        seed = job.own.seed if isinstance(job.own, Settings) else 0
        atlas_cohort(ATLAS_SUBJECTS, folder, seed=seed, shape=shape)
    state.wait_for_everyone()
    return read_cohort(folder, role="atlas")


def training_volumes(cohort: Cohort, settings: RunSettings) -> Volumes:
    """Return a cohort's volumes on the grid and the scale that the settings name."""
    shape, spacing = settings.space.shape, settings.space.spacing
    centre = cohort.brain_centre() if shape and spacing else None
    return cohort.volumes(cohort.grid.regrid(shape, spacing, centre), settings.intensity)


def _conditions(
    own: BaseModel, cohorts: Mapping[str, Cohort]
) -> tuple[dict[str, list[Row]], Conditions | None]:
    """Return the covariates that the settings name, by role, and their ranges and levels."""
    names = conditions_named(own)
    if not names:
        return {}, None
    rows = {role: rows_of(cohort, names) for role, cohort in cohorts.items()}
    conditions = Conditions.fit(rows["train"], names)
    for of_role in rows.values():
        conditions.encode(of_role)  # raises where a value is not to be had
    return rows, conditions


def _perceptual(own: BaseModel, space: Space) -> Any:
    """Return the perceptual distance that the settings name, or None."""
    name = perceptual_named(own)
    if name is None:
        return None
    from synthbench.metrics.extractors.perceptual import perceptual_distance

    return perceptual_distance(name, registry.load("extractors", name)(), space)


def _cohort_record(cohort: Cohort, **more: Any) -> dict[str, Any]:
    return {
        "fingerprint": cohort.fingerprint,
        "n": len(cohort),
        "subjects": len(set(cohort.subjects)),
        **more,
    }


# ---------------------------------------------------------------- what is watched and measured


@contextmanager
def _measured(
    settings: RunSettings, run: Run, gpus: int, machines: int
) -> Iterator[Callable[[int, Mapping[str, float]], None] | None]:
    """Start trackers and the energy meter; yield where numbers go, if anywhere.

    What was used is added to the run's record however the training ends, but for a kill.
    """
    # Where data lay stays on this machine.
    config = {k: v for k, v in run.config.items() if k not in ("real", "validation", "init")}
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
    job: _Job,
    data: _Data,
    numbers: Callable[[int, Mapping[str, float]], None] | None,
    log: Log,
) -> Monitor:
    """Return what watches a training by steps; `numbers` is where trackers take theirs."""
    from synthbench.generators.loop import LoopSettings
    from synthbench.monitor import Scorer

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
        log=numbers,
    )
