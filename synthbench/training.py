"""Training and sampling: from a cohort to a run folder, from a run folder to volumes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

import synthbench
from synthbench import preflight, registry
from synthbench.cohort import Cohort, Volumes, read_cohort
from synthbench.errors import RunError, UsageError, near_miss
from synthbench.files import nifti_bytes, write_atomic
from synthbench.montage import montage
from synthbench.run import Run, environment
from synthbench.space import Intensity, Space, quantity

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

    shape: tuple[int, int, int] | None = None
    spacing: float | None = None


class RunSettings(BaseModel):
    """What a run's configuration holds beside the generator's own settings."""

    model_config = ConfigDict(extra="forbid")

    generator: str
    preset: str | None = None
    real: str | None = None
    assume_grid: float | None = None
    init: str | None = None
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
        A YAML file that ships with the generator; None: `tiny` without CUDA, `paper` with it,
        where the generator has presets.
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
        preset = _preset_for_this_machine()
    merged: dict[str, Any] = {}
    if preset is not None:
        text = (
            files("synthbench.generators") / "presets" / f"{generator}-{preset}.yaml"
        ).read_text()
        merged = dict(yaml.safe_load(text))
    if config is not None:
        merged = _merged(merged, _yaml_file(config, generator))
    for override in overrides:
        merged = _merged(merged, _override(override))
    common = {"space", "intensity"}
    own = set(plugin.settings.model_fields)
    for key in merged:
        if key not in common | own:
            raise UsageError(f"{generator} has no setting '{key}': {near_miss(key, common | own)}")
    try:
        run_settings = RunSettings(
            **{k: v for k, v in merged.items() if k in common},
            **{"generator": generator, "preset": preset, **given},
        )
        own_settings = plugin.settings(**{k: v for k, v in merged.items() if k in own})
    except ValidationError as error:
        raise UsageError(f"{generator}: {_first_problem(error)}") from error
    return run_settings, own_settings


def train(
    generator: str | None = None,
    *,
    out: Path,
    real: Path | None = None,
    preset: str | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    init: Path | None = None,
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
    preset, config, overrides
        See `resolve`.
    init
        A run of the same generator whose weights to start from.
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
        run = Run.open(out)
        if preset or config or overrides or real or init:
            raise UsageError(
                "--resume continues with the run's own configuration: leave out --real, "
                "--preset, --config, --set and --init."
            )
        saved = run.config
        name = saved["generator"]
        if generator not in (None, name):
            raise UsageError(f"{out} is a run of {name}, not of {generator}.")
        chosen = {k: v for k, v in saved.items() if k in RunSettings.model_fields}
        settings = RunSettings(**chosen)
        plugin = registry.load("generators", name)()
        own = plugin.settings(**{k: v for k, v in saved.items() if k not in chosen})
        if run.record.get("finished"):
            say(f"{out} has finished; nothing to resume.")
            return run
    else:
        if generator is None:
            raise UsageError("name a generator; `synthbench list generators` shows them.")
        settings, own = resolve(
            generator,
            preset=preset,
            config=config,
            overrides=overrides,
            real=None if real is None else str(Path(real).resolve()),
            init=None if init is None else str(Path(init).resolve()),
            assume_grid=assume_grid,
        )
        plugin = registry.load("generators", generator)()
        run = Run(Path(out))
    from synthbench.processes import processes

    state = processes()
    main, wait = bool(state.is_main_process), state.wait_for_everyone
    # A resumed run has its first steps behind it, and needs the other run no more.
    starting = Run.open(Path(settings.init)) if settings.init and not resume else None
    if starting and starting.record["generator"] != settings.generator:
        raise UsageError(
            f"--init: {settings.init} is a run of {starting.record['generator']}, "
            f"not of {settings.generator}."
        )
    if not resume and main:
        if run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
            raise RunError(
                f"{out}: already there and not empty. Continue it with --resume, "
                "or name another folder with --out."
            )
        run.folder.mkdir(parents=True, exist_ok=True)
    cohort = _training_cohort(settings, own, run, main, wait, say)
    # A resumed run has passed; what was accepted stands in its record.
    findings = [] if resume else preflight.check({"train": cohort}, accept, say)
    volumes = _training_volumes(cohort, settings)
    if resume and run.record["cohort"]["fingerprint"] != cohort.fingerprint:
        raise RunError(
            f"{out}: the training cohort has changed since the run began (its fingerprint is "
            f"{cohort.fingerprint[:12]}..., the run's {run.record['cohort']['fingerprint'][:12]}"
            "...). Restore the files, or train anew."
        )
    if main and not resume:
        run.write_config({**settings.model_dump(mode="json"), **own.model_dump(mode="json")})
        run.update(
            generator=settings.generator,
            finished=False,
            cohort={
                "fingerprint": cohort.fingerprint,
                "n": len(cohort),
                "subjects": len(set(cohort.subjects)),
                "embedded": settings.real is None,
            },
            space={"shape": volumes.space.shape, "affine": volumes.space.affine},
            accepted=sorted({f.rule for f in findings if f.severity == "error"}),
            initialised_from=None if starting is None else starting.record["weights_sha256"],
            environment=environment(),
        )
    wait()
    say(
        f"{settings.generator}"
        + (f" (preset {settings.preset})" if settings.preset else "")
        + f" on {len(cohort)} volumes, {volumes.space}; into {run.folder}"
    )
    began = time.monotonic()
    if main or _trains_in_processes(plugin):
        plugin.fit(volumes, own, run, resume=resume, init=starting, progress=progress)
    wait()
    if main:
        if "training_seconds" not in run.record:
            run.update(training_seconds=round(time.monotonic() - began, 1))
        _preview(plugin, run, volumes.space)
        run.update(finished=True)
    wait()
    return run


def sample(
    run: Run | Path | str,
    n: int,
    out: Path,
    *,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Sample volumes from a finished run; one seed, one NIfTI file and one sidecar a volume.

    Parameters
    ----------
    run
        A finished run.
    n
        How many volumes: seeds `seed` to `seed + n - 1`.
    out
        A folder; files that this run, sampler and seed already wrote there are kept, so an
        interrupted call can be repeated.
    sampler, steps
        Of the generator; None: the run's own.

    Returns
    -------
    list of Path
        The volumes, in order of seed: 16 bit, the training space's affine, in [0, 1] or, where
        the run was trained on a quantitative map, in its unit.

    Raises
    ------
    SynthbenchError
        The run has not finished, or `out` holds volumes of another origin.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if n < 1 or seed < 0:
        raise UsageError(f"--n must be at least 1 and --seed at least 0; found {n} and {seed}.")
    record = run.record
    if not run.weights_file.is_file():
        run.load_weights()  # raises, and says what to do
    plugin = registry.load("generators", record["generator"])()
    space = Space.of(record["space"]["shape"], np.array(record["space"]["affine"]).reshape(4, 4))
    # Everything but seed and cost is common to all volumes of this call; a file that says
    # otherwise comes from somewhere else.
    rule = run.config.get("intensity", "percentile")
    measured = quantity(rule)
    origin = {
        "synthetic": True,
        "generator": record["generator"],
        **plugin.sampling(run, sampler, steps),
        "weights_sha256": record["weights_sha256"],
        "training_cohort": record["cohort"]["fingerprint"],
        "training_seconds": record.get("training_seconds"),
        "parameters": record.get("parameters"),
        "software": f"synthbench {synthbench.__version__}",
        **({} if measured is None else {"intensity": rule, "unit": measured.unit}),
    }
    scale = 1.0 if measured is None else measured.scale
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    wanted = {s: out / f"synth-{s:06d}.nii.gz" for s in range(seed, seed + n)}
    todo = [s for s, file in wanted.items() if not _already(file, {**origin, "seed": s})]
    description = {
        "Name": f"Synthetic volumes from {record['generator']}",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "synthbench", "Version": synthbench.__version__}],
    }
    write_atomic(out / "dataset_description.json", json.dumps(description, indent=1).encode())
    began = time.monotonic()
    drawn = plugin.sample(run, todo, sampler=sampler, steps=steps)
    for done, (s, volume) in enumerate(zip(todo, drawn, strict=True), 1):
        words = f"SYNTHETIC: synthbench {record['generator']} seed {s}"
        write_atomic(wanted[s], nifti_bytes(volume, space, words, scale))
        cost = {"seed": s, "seconds": round(time.monotonic() - began, 3)}
        sidecar = json.dumps({**origin, **cost}, indent=1)
        write_atomic(_sidecar(wanted[s]), sidecar.encode())
        began = time.monotonic()
        if progress:
            progress(done, len(todo), "")
    return list(wanted.values())


# ---------------------------------------------------------------- configuration


def _preset_for_this_machine() -> str:
    import torch

    return "paper" if torch.cuda.is_available() else "tiny"


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
    about_the_run = ("generator", "preset", "real", "assume_grid", "init")
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


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    found = f"; found {problem['input']!r}" if where else ""
    return f"{where + ': ' if where else ''}{problem['msg'].removeprefix('Value error, ')}{found}"


# ---------------------------------------------------------------- cohort and processes


def _trains_in_processes(plugin: Any) -> bool:
    from synthbench.generators.loop import LoopSettings

    return issubclass(plugin.settings, LoopSettings)


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


def _training_volumes(cohort: Cohort, settings: RunSettings) -> Volumes:
    shape, spacing = settings.space.shape, settings.space.spacing
    centre = cohort.brain_centre() if shape and spacing else None
    return cohort.volumes(cohort.grid.regrid(shape, spacing, centre), settings.intensity)


def _preview(plugin: Any, run: Run, space: Space) -> None:
    volumes = list(plugin.sample(run, range(PREVIEWS)))
    label = f"{run.record['generator']}: synthetic, seeds 0 to {PREVIEWS - 1}"
    montage({label: volumes}, space, run.folder / "preview.png")


# ---------------------------------------------------------------- samples on disk


def _sidecar(volume: Path) -> Path:
    return volume.with_name(volume.name.removesuffix(".nii.gz") + ".json")


def _already(file: Path, origin: Mapping[str, Any]) -> bool:
    """Whether the volume is there from the same origin; raise if it has another."""
    if not file.is_file():
        return False
    sidecar = _sidecar(file)
    found = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    if not found:
        return False  # killed between volume and sidecar: drawn again
    differs = [key for key, value in origin.items() if found.get(key) != value]
    if differs:
        raise UsageError(
            f"{file}: already there with another {', '.join(differs)}. Use an empty --out."
        )
    return True
