"""The weights of a latent diffusion that has not finished, from the checkpoints of its stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synthbench.errors import RunError
from synthbench.generators.latent.latents import LatentMean
from synthbench.generators.latent.settings import STAGE_1, LDM3DSettings
from synthbench.generators.networks.weights import part
from synthbench.runs import checkpoint
from synthbench.runs.folder import FIX, CheckpointWeights, Run
from synthbench.runtime.arrays import read_npy

NETWORK = "U-Net"
"""The name of stage 2's network in messages."""


def mean_file(run: Run) -> Path:
    """Return the file with the fitted mean of the latents, which is there while stage 2 trains."""
    return run.folder / "latent-mean.npy"


def unfinished_weights(run: Run, settings: LDM3DSettings, width: int) -> CheckpointWeights | None:
    """Return the weights of a run that stopped in one of its stages; None without a checkpoint.

    A run that stopped in stage 1, or before the first checkpoint of stage 2, has an autoencoder
    only: another run can start from it, but nothing can be sampled.

    Parameters
    ----------
    run, settings
        The run and its settings.
    width
        Columns of the encoded conditions.

    Raises
    ------
    RunError
        The mean of the latents was fitted, and its file is not there.
    """
    stage = run.part(STAGE_1)
    record = stage.record if (stage.folder / "run.json").is_file() else {}
    if not record.get("finished"):
        first = checkpoint.last_good(stage)
        if first is None:
            return None
        newest, averaged = first
        autoencoder = part(averaged, "autoencoder.")
        return CheckpointWeights(
            _named("autoencoder", autoencoder), newest.step, newest.seconds, STAGE_1, NETWORK
        )
    before = float(record.get("training_seconds", 0.0))
    known = _named("autoencoder", stage.load_weights())
    second = checkpoint.last_good(run)
    if second is None:
        return CheckpointWeights(known, int(record.get("steps", 0)), before, STAGE_1, NETWORK)
    newest, averaged = second
    arrays = {**known, **_named("unet", averaged), "latent_mean": _mean(run, settings, width)}
    return CheckpointWeights(arrays, newest.step, before + newest.seconds, NETWORK)


def _named(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": values for name, values in arrays.items()}


def _mean(run: Run, settings: LDM3DSettings, width: int) -> np.ndarray:
    if not settings.residual:
        return LatentMean.zero(tuple(run.record["latent_shape"]), width).coefficients
    file = mean_file(run)
    if not file.is_file():
        raise RunError(
            f"{file}: not there, so the volumes of this unfinished run cannot be decoded. Continue "
            f"the run: synthbench train --resume --out {run.folder}"
        )
    return read_npy(file, error=RunError, fix=FIX)
