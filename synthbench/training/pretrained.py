"""Published generators: weights that other people trained, as a run folder that `sample` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.errors import RunError, UsageError, WeightsError, near_miss
from synthbench.metrics.extractors.weights import WeightFile, fetch
from synthbench.runs.folder import Run, environment
from synthbench.runtime.callbacks import Log, no_log

_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


@dataclass(frozen=True)
class Published:
    """A published generator.

    Attributes
    ----------
    generator, preset
        The generator that samples from it, and its preset.
    files
        Files of its weights by role.
    terms
        The terms of use, in one sentence.
    trained_on
        The dataset, as a model card names it.
    subjects
        Number of training subjects.
    """

    generator: str
    preset: str
    files: Mapping[str, WeightFile]
    terms: str
    trained_on: str
    subjects: int


def _brain_ldm(role: str, identifier: str, md5: str, megabytes: int) -> WeightFile:
    return WeightFile(
        name="monai-brain-ldm",
        url=_DRIVE + identifier,
        sha256=None,
        filename=f"monai-brain-ldm-{role}.pt",
        megabytes=megabytes,
        licence="Apache-2.0",
        md5=md5,
    )


PUBLISHED = {
    "monai-brain-ldm": Published(
        generator="ldm3d",
        preset="pinaya",
        files={
            "autoencoder": _brain_ldm(
                "autoencoder", "1CZHwxHJWybOsDavipD0EorDPOo_mzNeX",
                "329e97b3085643ff235f11f049856242", 20,
            ),
            "unet": _brain_ldm(
                "unet", "1XO-ak93ZuOcGTCpgRtqgIeZq3dG5ExN6",
                "21c3047556fb671caf0556f1cce6ef22", 2200,
            ),
        },
        terms="the bundle is Apache-2.0, a research prototype that is not to be used clinically; "
        "it was trained on UK Biobank, whose terms bind those who have its data",
        trained_on="UK Biobank",
        subjects=31740,
    ),
}  # fmt: skip


def published(name: str) -> Published:
    """Return a published generator by its name.

    Raises
    ------
    UsageError
        There is no such name; the nearest is suggested.
    """
    if name not in PUBLISHED:
        raise UsageError(f"--pretrained: '{name}' is unknown: {near_miss(name, list(PUBLISHED))}")
    return PUBLISHED[name]


def fetch_published(name: str, *, log: Log = no_log) -> dict[str, Path]:
    """Fetch and verify the weights of a published generator; return their files by role.

    Files that are there already are not fetched again.

    Raises
    ------
    SynthbenchError
        The name is unknown, a download failed, or a file has another hash.
    """
    one = published(name)
    log(f"{name}: {one.terms}.")
    return {role: fetch(file) for role, file in one.files.items()}


def pretrained_run(generator: str, name: str, out: Path, *, log: Log = no_log) -> Run:
    """Write a run folder that holds a published generator, without any training.

    Parameters
    ----------
    generator
        The generator that samples from it.
    name
        One of `PUBLISHED`.
    out
        A new folder.
    log
        Called with messages for the user; with the licence before anything is fetched.

    Raises
    ------
    SynthbenchError
        The name is unknown or belongs to another generator, the folder is not empty, or the weights
        cannot be fetched or are not the published ones.
    """
    one = published(name)
    if generator != one.generator:
        raise UsageError(
            f"--pretrained: {name} belongs to {one.generator}, not to {generator}: "
            f"synthbench train {one.generator} --pretrained {name} --out {out}"
        )
    run = Run(Path(out))
    if run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise RunError(f"{out}: already there and not empty. Name another folder with --out.")
    files = fetch_published(name, log=log)
    states = {role: _state_dict(file) for role, file in files.items()}
    _write(run, name, one, states)
    log(
        f"{out} holds {name}: synthbench sample {out} --n 1 --out synth/ --condition age=0.5 "
        "(conditions go from 0 to 1; the bundle does not say what these mean in natural units)"
    )
    return run


def _write(run: Run, name: str, one: Published, states: Mapping[str, Mapping[str, Any]]) -> None:
    from synthbench.generators.latent import published
    from synthbench.generators.latent.settings import LDM3DSettings
    from synthbench.runs.configuration import resolve

    conditions = [f"conditions=[{','.join(published.CONDITIONS)}]"]
    common, own = resolve(
        one.generator, preset=one.preset, overrides=[*published.OVERRIDES, *conditions]
    )
    assert isinstance(own, LDM3DSettings)
    arrays = published.weights(own, states["autoencoder"], states["unet"], published.SHAPE)
    affine = np.eye(4)
    # The bundle does not say where its volumes lie: they are centred on the box of MNI152.
    affine[:3, 3] = np.array([0.0, -18.0, 18.0]) - (np.array(published.SHAPE) - 1) / 2
    run.folder.mkdir(parents=True, exist_ok=True)
    run.save_weights(arrays)
    run.update(
        generator=one.generator,
        pretrained={"name": name, **published.ABOUT},
        cohort={
            "fingerprint": f"unknown: {one.trained_on}",
            "n": one.subjects,
            "subjects": one.subjects,
            "embedded": False,
        },
        sources=[{
            "name": one.trained_on, "licence": "", "terms": one.terms,
            "url": "https://github.com/Project-MONAI/model-zoo",
        }],
        space={"shape": list(published.SHAPE), "affine": affine.ravel().tolist()},
        conditions=published.conditions().as_json(),
        scale_factor=1.0,
        latent_shape=list(own.latent_shape(published.SHAPE)),
        parameters=sum(value.size for value in arrays.values()),
        environment=environment(),
        finished=True,
    )  # fmt: skip
    run.write_config({**common.model_dump(mode="json"), **own.model_dump(mode="json")})


def _state_dict(file: Path) -> dict[str, Any]:
    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"{file}: must be a PyTorch file of tensors; reading failed with "
            f"{type(error).__name__}: {error}. Delete it and fetch it again."
        ) from error
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise WeightsError(
            f"{file}: must be a state dict, tensors by parameter name; found a "
            f"{type(state).__name__}. Delete it and fetch it again."
        )
    return state
