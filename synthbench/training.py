"""Training: from a cohort to a run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from synthbench.monitor import previewer
from synthbench.run import Run, environment
from synthbench.settings import validated
from synthbench.space import Intensity, Space, quantity
from synthbench.tracking import check_trackers, trackers

PREVIEWS = 4
ATLAS_SUBJECTS = 64
ATLAS_SHAPE = (48, 56, 48)

Say = Callable[[str], None]


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


def train(
    generator: str | None = None,
    *,
    out: Path,
    real: Path | None = None,
    validation: Path | None = None,
    preset: str | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    init: Path | None = None,
    track: Sequence[str] = (),
    energy: bool = False,
    resume: bool = False,
    assume_grid: float | None = None,
    accept: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
    say: Say = lambda message: None,
) -> Run:
    """Train a generator and return its run folder.

    Parameters
    ----------
    generator
        Its name; may be left out with `resume`.
    out
        The run folder: new, or one to resume.
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
    progress
        Called with (done, total, words) while training.
    say
        Called with sentences for the user.

    Raises
    ------
    SynthbenchError
        What cannot be run, before anything is overwritten.
    """
    if resume:
        if preset or config or overrides or real or init or validation or track or energy:
            raise UsageError(
                "--resume continues with the run's own configuration: leave out --real, "
                "--validation, --preset, --config, --set, --init, --track and --energy."
            )
        run = Run.open(out)
        settings, own = _configured(run, generator)
        if run.record.get("finished"):
            say(f"{out} has finished; nothing to resume.")
            return run
        if run.record.get("trained") and run.weights_file.is_file():
            say(f"{out} is trained; what was left are its preview and its card.")
            return _finished(run, say)
    else:
        if generator is None:
            raise UsageError("name a generator; `synthbench list generators` shows them.")
        settings, own = resolve(
            generator,
            preset=preset,
            config=config,
            overrides=overrides,
            real=_absolute(real),
            init=_absolute(init),
            validation=_absolute(validation),
            assume_grid=assume_grid,
            track=tuple(track),
            energy=energy,
        )
        run = Run(Path(out))
        _refuse_full(run.folder)
    plugin = registry.load("generators", settings.generator)()
    by_steps = trains_by_steps(plugin)
    _check_watched(settings, own, by_steps)
    if by_steps:
        from synthbench.generators.estimate import check_freeze, stages

        check_freeze(stages(plugin, own))
    from synthbench.processes import processes

    state = processes()
    main, wait = bool(state.is_main_process), state.wait_for_everyone
    # A resumed run has its first steps behind it, and needs the other run no more.
    starting = _starting(settings) if not resume else None
    # All processes have looked into the folder before one of them writes there.
    wait()
    cohorts = _cohorts(settings, own, run, main, wait, say)
    # A resumed run has passed; what was accepted stands in its record.
    findings = [] if resume else preflight.check(cohorts, accept, say)
    cohort = cohorts["train"]
    volumes = training_volumes(cohort, settings)
    # All raise where they cannot be, before anything is written.
    if hasattr(own, "check_grid"):
        own.check_grid(volumes.space.shape)
    rows, conditions = _conditions(own, cohorts)
    perceptual = _perceptual(own, volumes.space)
    if resume and run.record["cohort"]["fingerprint"] != cohort.fingerprint:
        raise RunError(
            f"{out}: the training cohort has changed since the run began (its fingerprint is "
            f"{cohort.fingerprint[:12]}..., the run's {run.record['cohort']['fingerprint'][:12]}"
            "...). Restore the files, or train anew."
        )
    if main and not resume:
        # The configuration comes last: a folder that has one can be resumed.
        run.folder.mkdir(parents=True, exist_ok=True)
        run.update(
            generator=settings.generator,
            finished=False,
            cohort=_cohort_record(cohort, embedded=settings.real is None),
            validation=(_cohort_record(cohorts["validation"]) if "validation" in cohorts else None),
            # The terms of what the other run was trained on bind these weights too.
            sources=[*sources(cohort), *(starting.record.get("sources", []) if starting else [])],
            subgroups=subgroups(cohort),
            space={"shape": volumes.space.shape, "affine": volumes.space.affine},
            conditions=None if conditions is None else conditions.as_json(),
            accepted=sorted({f.rule for f in findings if f.severity == "error"}),
            initialised_from=None if starting is None else starting.record["weights_sha256"],
            environment=environment(),
        )
        run.write_config({**settings.model_dump(mode="json"), **own.model_dump(mode="json")})
    wait()
    say(
        f"{settings.generator}"
        + (f" (preset {settings.preset})" if settings.preset else "")
        + f" on {len(cohort)} volumes, {volumes.space}; into {run.folder}"
    )
    began = time.monotonic()
    gpus = state.num_processes if state.device.type == "cuda" else 0
    with _measured(settings, run, gpus, _machines()) as log:
        if by_steps:
            watched = _monitor(settings, own, cohorts, rows, volumes.space, log, say)
            plugin.fit(
                volumes, own, run, resume=resume, init=starting, progress=progress,
                monitor=watched, **_told(own, rows, perceptual),
            )  # fmt: skip
        elif main:
            plugin.fit(volumes, own, run, resume=resume, init=starting, progress=progress)
    wait()
    if main:
        if "training_seconds" not in run.record:
            run.update(training_seconds=round(time.monotonic() - began, 1))
        # From here on the weights are final: a run that is stopped need not be fitted again.
        hours = round(gpu_hours(run.record["training_seconds"], gpus), 3)
        run.update(gpu_hours=hours, trained=True)
    return _finished(run, say)


def _finished(run: Run, say: Say) -> Run:
    """Draw the preview of a trained run and write its card."""
    from synthbench.processes import processes

    state = processes()
    if state.is_main_process:
        name, grid = run.record["generator"], run.record["space"]
        space = Space.of(grid["shape"], np.array(grid["affine"]).reshape(4, 4))
        drawn = list(registry.load("generators", name)().sample(run, range(PREVIEWS)))
        previewer(name, space)(drawn, run.folder / "preview.png")
        write_model_card(run, say=say)
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


def trains_by_steps(plugin: Any) -> bool:
    """Whether the generator uses the training loop: in all processes, and watched."""
    from synthbench.generators.loop import LoopSettings

    return issubclass(plugin.settings, LoopSettings)


def _machines() -> int:
    """How many machines the processes are spread over; launchers say how many each has."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, int(os.environ.get("WORLD_SIZE", "1")) // max(1, here))


def _check_watched(settings: RunSettings, own: Any, by_steps: bool) -> None:
    check_trackers(settings.track)
    if settings.energy:
        check_meter()
    if not by_steps:
        if settings.validation or settings.track:
            raise UsageError(
                f"{settings.generator} is not trained by steps: leave out --validation and --track."
            )
        return
    if own.score_every and not settings.validation:
        raise UsageError(
            "score_every: scores during training are against volumes that are not trained on; "
            "name them with --validation (synthbench data split draws them)."
        )


# ---------------------------------------------------------------- cohorts


def _cohorts(
    settings: RunSettings, own: BaseModel, run: Run, main: bool, wait: Callable[[], None], say: Say
) -> dict[str, Cohort]:
    train = _training_cohort(settings, own, run, main, wait, say)
    if settings.validation is None:
        return {"train": train}
    validation = read_cohort(
        Path(settings.validation), role="validation", assume_grid=settings.assume_grid
    )
    return {"train": train, "validation": validation}


def _training_cohort(
    settings: RunSettings, own: BaseModel, run: Run, main: bool, wait: Callable[[], None], say: Say
) -> Cohort:
    if settings.real is not None:
        return read_cohort(Path(settings.real), role="real", assume_grid=settings.assume_grid)
    folder = run.folder / "atlas"
    shape = settings.space.shape or ATLAS_SHAPE
    say(
        f"no --real: training on {ATLAS_SUBJECTS} simulated subjects of the embedded atlas "
        f"cohort, {shape[0]} x {shape[1]} x {shape[2]}, written to {folder}"
    )
    if main and not (folder / "participants.tsv").is_file():
        from synthbench.atlas import atlas_cohort

        atlas_cohort(ATLAS_SUBJECTS, folder, seed=getattr(own, "seed", 0), shape=shape)
    wait()
    return read_cohort(folder, role="atlas")


def training_volumes(cohort: Cohort, settings: RunSettings) -> Volumes:
    shape, spacing = settings.space.shape, settings.space.spacing
    centre = cohort.brain_centre() if shape and spacing else None
    return cohort.volumes(cohort.grid.regrid(shape, spacing, centre), settings.intensity)


def _conditions(
    own: Any, cohorts: Mapping[str, Cohort]
) -> tuple[dict[str, list[Row]], Conditions | None]:
    """Return the covariates that a generator is to be told, and what training learns of them."""
    names: tuple[str, ...] = getattr(own, "conditions", ())
    if not names:
        return {}, None
    rows = {role: rows_of(cohort, names) for role, cohort in cohorts.items()}
    conditions = Conditions.fit(rows["train"], names)
    for told in rows.values():
        conditions.encode(told)
    return rows, conditions


def _perceptual(own: Any, space: Space) -> Any:
    """Return the distance that a generator is to be trained with, or None."""
    name: str | None = getattr(own, "perceptual", None)
    if name is None:
        return None
    from synthbench.metrics.extractors.perceptual import perceptual_distance

    return perceptual_distance(name, registry.load("extractors", name)(), space)


def _told(own: Any, rows: Mapping[str, list[Row]], perceptual: Any) -> dict[str, Any]:
    """Return the arguments of `fit` that only generators with these settings take."""
    given = {"conditions": rows.get("train"), "perceptual": perceptual}
    return {name: value for name, value in given.items() if hasattr(own, name)}


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
    settings: RunSettings,
    own: Any,
    cohorts: Mapping[str, Cohort],
    rows: Mapping[str, list[Row]],
    space: Space,
    log: Callable[[int, Mapping[str, float]], None] | None,
    say: Say,
) -> Any:
    from synthbench.generators.loop import Monitor
    from synthbench.monitor import Scorer

    held_out = cohorts.get("validation")
    validation = None if held_out is None else held_out.volumes(space, settings.intensity)
    score = None
    if validation is not None and own.score_every:
        score = Scorer(validation, settings.score_extractor, say)
    return Monitor(
        validation=validation,
        conditions=rows.get("validation"),
        score=score,
        preview=previewer(settings.generator, space) if own.preview_every else None,
        log=log,
    )
