"""The configuration of a run: preset, file and overrides, merged into typed settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

from synthbench import registry
from synthbench.errors import RunError, UsageError, near_miss
from synthbench.runs.folder import FIX, Run
from synthbench.runs.validation import by_names_of_today, validated
from synthbench.runtime.documents import parse_yaml, yaml_fields
from synthbench.volumes.intensity import Intensity, quantity

_NOT_OF_THE_METHOD = frozenset({
    "preset", "real", "assume_grid", "suffix", "filters", "init", "validation", "track", "energy",
    "checkpoint_every", "validate_every", "preview_every", "previews",
})  # fmt: skip

ATLAS_SHAPE = (48, 56, 48)


class SpaceSettings(BaseModel):
    """The grid to train on.

    With `shape` alone, the cohort's field of view gets that many voxels: their size changes. With
    `spacing` alone, voxels of that size cover the field of view. With both, volumes are cropped or
    padded around the common centre of the brains, by whole voxels where the size is theirs. With
    neither, the grid stays.
    """

    model_config = ConfigDict(extra="forbid")

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        default=None, examples=[ATLAS_SHAPE]
    )
    spacing: PositiveFloat | None = Field(default=None, examples=[2.0])


class RunSettings(BaseModel):
    """The settings of a run that are not the generator's own."""

    model_config = ConfigDict(extra="forbid")

    generator: str
    preset: str | None = None
    real: str | None = None
    assume_grid: float | None = None
    suffix: str | None = Field(default=None, description="end of the names of the files to take")
    filters: tuple[str, ...] = Field(default=(), description="BIDS entities, as ENTITY=VALUE")
    init: str | None = None
    validation: str | None = None
    track: tuple[str, ...] = ()
    energy: bool = False
    score_extractor: str = Field(
        default="random-resnet10",
        description="extractor of the scores during training (score_every)",
    )
    space: SpaceSettings = SpaceSettings()
    intensity: Intensity = "percentile"

    @field_validator("intensity")
    @classmethod
    def _known(cls, rule: Intensity) -> Intensity:
        quantity(rule)  # raises for an unknown rule
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
    **fields: Any,
) -> tuple[RunSettings, BaseModel]:
    """Return the settings of the run and of the generator.

    A YAML file changes settings of the preset, and `key=value` overrides change both. With the
    field `init`, a run to start from, the settings that belong to its weights come in place of the
    preset's.

    Parameters
    ----------
    generator
        Name of the generator.
    preset
        Name of a preset of the generator. None, if it has presets: `tiny` without CUDA; with CUDA
        `paper`, or `small` where there is no `paper`, or `tiny` where there is neither.
    config
        A YAML file of settings, such as a run's `config.yaml`.
    overrides
        `key=value`. A dot in a key goes one level down; values are read as YAML.
    fields
        Other fields of `RunSettings`.

    Raises
    ------
    UsageError
        A preset or a key is unknown, a value has the wrong kind, or the run of `init` is one of
        another generator.
    RunError
        The run of `init` cannot be read.
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
    wanted: dict[str, Any] = {}
    if preset is not None:
        wanted = _preset(generator, preset)
    if fields.get("init") is not None:
        run = Run.open(Path(fields["init"]))
        if (other := run.record["generator"]) != generator:
            raise UsageError(f"--init: {fields['init']} is a run of {other}, not of {generator}.")
        wanted = merged(wanted, of_network(run.settings(plugin.settings)))
    if config is not None:
        wanted = merged(wanted, _yaml_file(config, generator))
    for text in overrides:
        wanted = merged(wanted, override(text))
    wanted = by_names_of_today(plugin.settings, wanted)
    common = {"space", "intensity", "score_extractor"}
    own = set(plugin.settings.model_fields)
    for key in wanted:
        if key not in common | own:
            raise UsageError(f"{generator} has no setting '{key}': {near_miss(key, common | own)}")
    shared = {k: v for k, v in wanted.items() if k in common}
    try:
        return (
            validated(
                RunSettings,
                {**shared, "generator": generator, "preset": preset, **fields},
                generator,
            ),
            validated(plugin.settings, {k: v for k, v in wanted.items() if k in own}, generator),
        )
    except UsageError as error:
        if config is None:
            raise
        raise UsageError(f"--config {config}: {error}") from error


def of_network(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that belong to the weights, at every level, as JSON values.

    These are what the classes of the settings name in `OF_NETWORK`, their bases included.
    """
    names = {name for base in type(settings).__mro__ for name in vars(base).get("OF_NETWORK", ())}
    found = settings.model_dump(mode="json", include=names)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name not in found and isinstance(value, BaseModel) and (below := of_network(value)):
            found[name] = below
    return found


def _preset(generator: str, name: str) -> dict[str, Any]:
    """Return the settings of a preset; with `extends` it changes those of another preset."""
    file = files("synthbench.generators") / "presets" / f"{generator}-{name}.yaml"
    own = dict(parse_yaml(file.read_bytes()))
    below = own.pop("extends", None)
    return own if below is None else merged(_preset(generator, below), own)


def _preset_for_this_machine(known: Sequence[str]) -> str:
    import torch

    if not torch.cuda.is_available():
        return "tiny"
    return next((name for name in ("paper", "small") if name in known), "tiny")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of `above` in place of their own, at every level."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        both[key] = merged(old, value) if nested else value  # type: ignore[arg-type]
    return both


def _yaml_file(file: Path, generator: str) -> dict[str, Any]:
    loaded = yaml_fields(
        Path(file), error=UsageError, fix="--config needs a YAML mapping of settings."
    )
    if loaded.get("generator", generator) != generator:
        raise UsageError(f"--config {file} is for {loaded['generator']}, not for {generator}.")
    # A run's config.yaml also has the paths of its data. They are not taken over.
    about_the_run = (
        "generator", "preset", "real", "assume_grid", "suffix", "filters", "init", "validation",
        "track", "energy",
    )  # fmt: skip
    return {k: v for k, v in loaded.items() if k not in about_the_run}


def override(text: str) -> dict[str, Any]:
    """Return the settings of a text `key=value`; a dot in the key goes one level down.

    Raises
    ------
    UsageError
        It is not `key=value`, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {text}: write it as key=value, for example --set steps=100")
    try:
        nested: Any = parse_yaml(value)
    except ValueError as error:
        raise UsageError(f"--set {text}: the value is not YAML: {error}") from error
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return dict(nested)


def method(config: Mapping[str, Any]) -> str:
    """Return a hash of all settings of a training but its seeds: 12 hexadecimal digits.

    Runs with the same hash are one method, trained again. Paths, and what only watches a training,
    do not count.
    """
    settings = {name: value for name, value in config.items() if name not in _NOT_OF_THE_METHOD}
    settings["initialised"] = config.get("init") is not None
    text = json.dumps(_without_seeds(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def without_paths(value: Any) -> Any:
    """Return settings without their paths, which belong to one machine and may name people.

    >>> without_paths({"autoencoder_run": "runs/ae", "lr": 0.1, "stages": ["/data/a", "x"]})
    {'autoencoder_run': '(a path)', 'lr': 0.1, 'stages': ['(a path)', 'x']}
    """
    if isinstance(value, Mapping):
        return {key: without_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(part) for part in value]
    is_path = isinstance(value, str) and any(sign in value for sign in "/\\")
    return "(a path)" if is_path else value


def _without_seeds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_seeds(part) for key, part in value.items() if key != "seed"}
    return value


def configured(run: Run, generator: str | None) -> tuple[RunSettings, BaseModel]:
    """Return the settings with which a run began.

    Raises
    ------
    UsageError
        It is a run of another generator, or its configuration does not fit this version.
    """
    saved = run.config
    name = saved.get("generator")
    if name is None:
        raise RunError(f"{run.folder / 'config.yaml'}: generator is missing. {FIX}")
    if generator not in (None, name):
        raise UsageError(f"{run.folder} is a run of {name}, not of {generator}.")
    chosen = {k: v for k, v in saved.items() if k in RunSettings.model_fields}
    plugin = registry.load("generators", name)()
    own = {k: v for k, v in saved.items() if k not in chosen}
    try:
        return validated(RunSettings, chosen, name), validated(plugin.settings, own, name)
    except UsageError as error:
        raise UsageError(f"{run.folder / 'config.yaml'}: {error}") from error
