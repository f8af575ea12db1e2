"""Published diffusion transformers as runs of `dit-tiles`: their files, their licence, the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthbench.errors import WeightsError
from synthbench.generators.networks.weights import read_state
from synthbench.runs.folder import Run, environment
from synthbench.runtime.documents import json_fields, parse_yaml, read_text
from synthbench.runtime.files import sha256_file
from synthbench.simulation.deformation import box_affine

NAME = "facebook/DiT-XL-2-256"
LICENCE = "cc-by-nc-4.0"
PRESET = "xl2"
PARTS = ("transformer", "vae")
"""The folders of a model in the layout of diffusers, each with a config.json and weights."""

_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


@dataclass(frozen=True)
class Model:
    """A published transformer and its autoencoder.

    Attributes
    ----------
    name, licence
        Its name, and the licence of its weights.
    files
        The files of its weights, by part.
    configs
        The configurations by part; None: those of the preset.
    """

    name: str
    licence: str
    files: Mapping[str, Path]
    configs: Mapping[str, Mapping[str, Any]] | None = None


def is_model_folder(path: Path) -> bool:
    """Return True where a path is a folder in the layout of diffusers."""
    return all((path / part / "config.json").is_file() for part in PARTS)


def model_of_folder(folder: Path) -> Model:
    """Return the model of a local folder.

    Its licence is what the front matter of its README.md says. A folder that says nothing is taken
    for a copy of facebook/DiT-XL-2-256.

    Raises
    ------
    WeightsError
        A file is missing or not readable.
    """
    files, configs = {}, {}
    for part in PARTS:
        there = [folder / part / name for name in _FILES if (folder / part / name).is_file()]
        if not there:
            raise WeightsError(
                f"{folder / part}: holds no {' or '.join(_FILES)}. Copy the whole model."
            )
        files[part] = there[0]
        configs[part] = json_fields(
            folder / part / "config.json", error=WeightsError, fix="Copy it again."
        )
    return Model(folder.resolve().name, _stated_licence(folder) or LICENCE, files, configs)


def _stated_licence(folder: Path) -> str | None:
    """Return the licence in the front matter of a model card, as hubs write it."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    fix = "Its front matter names the licence: copy it again, or correct it."
    lines = read_text(card, error=WeightsError, fix=fix).split("---", 2)
    if len(lines) < 3 or lines[0].strip():
        return None
    try:
        front = parse_yaml(lines[1])
    except ValueError as error:
        raise WeightsError(f"{card}: its front matter is not YAML: {error}. {fix}") from error
    stated = front.get("license") if isinstance(front, dict) else None
    return str(stated).lower() if stated else None


def write_model(run: Run, model: Model) -> None:
    """Write a published transformer into a run folder.

    Raises
    ------
    WeightsError
        The files are not those of a DiT and its autoencoder.
    """
    from synthbench.generators.tiles import published
    from synthbench.generators.tiles.settings import DiTTilesSettings
    from synthbench.runs.configuration import resolve

    read = {part: read_state(file) for part, file in model.files.items()}
    configs = model.configs
    changes = [] if configs is None else published.overrides(configs["transformer"], configs["vae"])
    common, own = resolve("dit-tiles", preset=PRESET, overrides=changes)
    assert isinstance(own, DiTTilesSettings)
    arrays = published.weights(own, read["transformer"], read["vae"])
    shape = common.space.shape
    assert shape is not None
    # The configuration comes last: without it, the folder counts as not written.
    run.update(
        generator="dit-tiles",
        pretrained={
            "name": model.name,
            "sha256": {part: sha256_file(file) for part, file in model.files.items()},
            "about": "trained on photographs: fine-tune it (--init) before you sample from it",
        },
        cohort={
            "fingerprint": "unknown: photographs", "n": 0, "subjects": 0, "embedded": False,
        },
        sources=[{
            "name": model.name, "licence": model.licence,
            "terms": "The licence also holds for weights that are fine-tuned from these, and for "
            "what is sampled from them.",
            "url": f"https://huggingface.co/{NAME}" if model.name == NAME else "",
        }],
        space={"shape": list(shape), "affine": box_affine(shape).ravel().tolist()},
        conditions=[],
        parameters=sum(value.size for value in arrays.values()),
        environment=environment(),
        finished=True,
    )  # fmt: skip
    run.save_weights(arrays)
    run.write_config({**common.model_dump(mode="json"), **own.model_dump(mode="json")})
