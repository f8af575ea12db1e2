"""Published generators: weights that other people trained, as a run folder that `sample` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.errors import UsageError, near_miss
from synthbench.generators.networks.weights import read_state
from synthbench.metrics.extractors.weights import WeightFile, fetch
from synthbench.runs.folder import Run, environment
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger
from synthbench.runtime.lock import only_writer
from synthbench.training import pretrained_tiles

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
    licence
        The licence that a user must accept before anything is fetched; None: none.
    """

    generator: str
    preset: str
    files: Mapping[str, WeightFile]
    terms: str
    trained_on: str
    subjects: int
    licence: str | None = None


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


def _dit(part: str, megabytes: int) -> WeightFile:
    name = pretrained_tiles.NAME
    return WeightFile(
        # No hash is known to us: the page of each file shows its SHA256, and the user gives it.
        name=f"{name}/{part}",
        url=f"https://huggingface.co/{name}/resolve/main/{part}/diffusion_pytorch_model.bin",
        sha256=None,
        filename=f"{name.replace('/', '-')}-{part}.bin",
        megabytes=megabytes,
        licence="CC-BY-NC-4.0",
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
    pretrained_tiles.NAME: Published(
        generator="dit-tiles",
        preset=pretrained_tiles.PRESET,
        files={"transformer": _dit("transformer", 3000), "vae": _dit("vae", 335)},
        terms="the weights are CC BY-NC 4.0: no commercial use, of them, of weights that are "
        "fine-tuned from them, or of what is sampled from these",
        trained_on="ImageNet",
        subjects=0,
        licence=pretrained_tiles.LICENCE,
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


def check_licence(name: str, licence: str | None, accepted: str | None) -> None:
    """Raise where weights have a licence that must be accepted, and another one or none was.

    Parameters
    ----------
    name
        Name of the weights.
    licence
        Their licence; None: none that must be accepted.
    accepted
        The licence that the user accepts (`--accept-licence`).

    Raises
    ------
    UsageError
        It says what the licence binds, and what to type.
    """
    if licence is None and accepted is not None:
        raise UsageError(f"--accept-licence: {name} has no licence to accept. Leave it out.")
    if licence is not None and (accepted or "").lower() != licence:
        raise UsageError(
            f"{name}: its weights are under {licence}. This licence also holds for weights that "
            "are fine-tuned from them, and for what is sampled from these. Nothing was fetched or "
            f"read. If you accept it, add --accept-licence {licence}."
        )


def published_file(name: str) -> tuple[Published, WeightFile] | None:
    """Return the published generator and the file that NAME/ROLE names; None for other names."""
    of, _, role = name.rpartition("/")
    if of in PUBLISHED and role in PUBLISHED[of].files:
        return PUBLISHED[of], PUBLISHED[of].files[role]
    return None


def fetch_published(
    name: str,
    *,
    accept_licence: str | None = None,
    log: Log = to_logger,
    progress: Progress = no_progress,
) -> dict[str, Path]:
    """Fetch and verify the weights of a published generator; return their files by role.

    Files that are there already are not fetched again.

    Raises
    ------
    SynthbenchError
        The name is unknown, its licence was not accepted, a download failed, or a file has another
        hash.
    """
    one = published(name)
    log(f"{name}: {one.terms}.")
    check_licence(name, one.licence, accept_licence)
    return {role: fetch(file, progress=progress) for role, file in one.files.items()}


def pretrained_run(
    generator: str, name: str, out: Path, *, accept_licence: str | None = None, log: Log = to_logger
) -> Run:
    """Write a run folder that holds a published generator, without any training.

    Parameters
    ----------
    generator
        The generator that samples from it.
    name
        One of `PUBLISHED`, or for `dit-tiles` a local folder in the layout of diffusers.
    out
        A new folder.
    accept_licence
        The licence of the weights, where it must be accepted.
    log
        Called with messages for the user; with the licence before anything is fetched.

    Raises
    ------
    SynthbenchError
        The name is unknown or belongs to another generator, its licence was not accepted, the
        folder is not empty, or the weights cannot be fetched or are not the published ones.
    """
    folder = Path(name)
    local = generator == "dit-tiles" and name not in PUBLISHED and folder.is_dir()
    if local and not pretrained_tiles.is_model_folder(folder):
        raise UsageError(
            f"--pretrained {name}: must be a folder in the layout of diffusers, with "
            "transformer/config.json and vae/config.json. Name the folder that holds both."
        )
    owner = generator if local else published(name).generator
    if generator != owner:
        raise UsageError(
            f"--pretrained: {name} belongs to {owner}, not to {generator}: "
            f"synthbench train {owner} --pretrained {name} --out {out}"
        )
    run = Run(Path(out))
    with only_writer(run.folder):
        run.refuse_content("Name")
        return _written(run, generator, name, local, accept_licence, log)


def _written(
    run: Run, generator: str, name: str, local: bool, accept_licence: str | None, log: Log
) -> Run:
    """Write a published generator into an empty run folder, and return the run."""
    folder, out = Path(name), run.folder
    if local:
        model = pretrained_tiles.model_of_folder(folder)
        log(f"{name}: its weights are under {model.licence}.")
        check_licence(name, model.licence, accept_licence)
        pretrained_tiles.write_model(run, model)
    else:
        files = fetch_published(name, accept_licence=accept_licence, log=log)
        if generator == "dit-tiles":
            licence = published(name).licence or ""
            pretrained_tiles.write_model(run, pretrained_tiles.Model(name, licence, files))
        else:
            states = {role: read_state(file) for role, file in files.items()}
            _write(run, name, published(name), states)
    log(_next(generator, name, out))
    return run


def _next(generator: str, name: str, out: Path) -> str:
    """Return the message with the command that comes next."""
    if generator == "dit-tiles":
        return (
            f"{out} holds {name}, which knows photographs only. Fine-tune it: synthbench train "
            f"dit-tiles --config {out}/config.yaml --init {out} --real REAL --out runs/mine"
        )
    return (
        f"{out} holds {name}: synthbench sample {out} --n 1 --out synth/ --condition age=0.5 "
        "(conditions go from 0 to 1; the bundle does not say what these mean in natural units)"
    )


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
    # The configuration comes last: without it, the folder counts as not written.
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
    run.save_weights(arrays)
    run.write_config({**common.model_dump(mode="json"), **own.model_dump(mode="json")})
