"""The two stages of latent diffusion: autoencoder, then U-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Row
from synthbench.errors import UsageError
from synthbench.generators.contracts import Monitor
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.generator import Perceptual, Progress
from synthbench.generators.latent.autoencoder import Autoencoder, Reconstruction, Stage1, ceiling
from synthbench.generators.latent.encoding import ConditionEncoding
from synthbench.generators.latent.latents import Encoder, LatentCache, LatentSource
from synthbench.generators.latent.sampler import Sampler
from synthbench.generators.latent.settings import STAGE_1, LDM3DSettings
from synthbench.generators.loop import sources, train
from synthbench.generators.networks.weights import arrays, load, part, seeded
from synthbench.runs.folder import Run
from synthbench.runtime.processes import is_main, processes


@dataclass(frozen=True)
class LatentDiffusion:
    """The diffusion of latents.

    Attributes
    ----------
    diffusion
        The process.
    """

    diffusion: Diffusion

    @property
    def timesteps(self) -> int:
        """The number of timesteps, T."""
        return self.diffusion.settings.timesteps

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b c d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b c d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return the loss of each sample; `conditioning` is its row of encoded conditions."""
        return self.diffusion.losses(lambda x, at: network(x, at, *conditioning), clean, t, noise)


class _Stage1Volumes(sources.TrainingVolumes):
    """A source of training volumes, each with the noise for its latents."""

    def __init__(self, volumes: Volumes, settings: LDM3DSettings, run: Run) -> None:
        super().__init__(volumes, settings.autoencoder, run)
        self.latent_shape = settings.latent_shape(volumes.space.shape)

    def batch(  # type: ignore[override]
        self, items: Sequence[int], draws: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Return these volumes, augmented, and standard normal noise of the latents' shape."""
        (volumes,) = super().batch(items, draws)
        noise = torch.stack([torch.randn(self.latent_shape, generator=g) for g in draws])
        return volumes, noise


def fit_autoencoder(
    volumes: Volumes,
    settings: LDM3DSettings,
    run: Run,
    monitor: Monitor,
    perceptual: Perceptual | None,
    started: Mapping[str, np.ndarray] | None,
    resume: bool,
    progress: Progress | None,
) -> Autoencoder:
    """Return the trained autoencoder on this process's device.

    Stage 1 is trained, unless it is done, or `settings.autoencoder_run` names another run's
    autoencoder. `started` holds the weights of `--init`.
    """
    stage = run.part(STAGE_1)
    done = (stage.folder / "run.json").is_file() and bool(stage.record.get("finished"))
    model = seeded(settings.autoencoder.seed, lambda: Stage1(settings.autoencoder, perceptual))
    autoencoder = model.autoencoder
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    if done:
        load(autoencoder, stage.load_weights(), str(stage.folder))
        return autoencoder.to(device).eval()
    if is_main():
        stage.folder.mkdir(exist_ok=True)
    if settings.autoencoder_run is not None:
        other = Run.open(Path(settings.autoencoder_run))
        load(autoencoder, part(other.load_weights(), "autoencoder."), str(other.folder))
        trained: dict[str, Any] = {"taken_from": other.weights_sha256}
    else:
        if started is not None:
            load(autoencoder, part(started, "autoencoder."), "--init")
        processes().wait_for_everyone()
        task = sources.Task(
            model, Reconstruction(), _Stage1Volumes(volumes, settings, stage), settings.autoencoder
        )
        averaged = train.train(
            task, stage, resume=resume, progress=progress,
            monitor=Monitor(log=_logged_apart(monitor)),
        )  # fmt: skip
        load(autoencoder, {k: v.numpy() for k, v in part(averaged, "autoencoder.").items()}, "")
        trained = {}
    autoencoder.to(device).eval()
    if is_main():
        held_out = monitor.validation
        of = (volumes, "training") if held_out is None else (held_out, "validation")
        reached = asdict(ceiling(autoencoder, *of))
        stage.save_weights(arrays(autoencoder))
        stage.update(finished=True, reconstruction=reached, **trained)
        run.update(reconstruction=reached)
    processes().wait_for_everyone()
    return autoencoder


@contextmanager
def latents_of(
    autoencoder: Encoder, volumes: Volumes, run: Run, role: str, progress: Progress | None
) -> Iterator[LatentCache]:
    """Yield the latents of a cohort; their files are removed on a clean exit."""
    cache = LatentCache(run.folder, role)
    stage = run.part(STAGE_1)
    if is_main():
        cache.fill(autoencoder, stage.record["weights_sha256"], volumes, progress)
    processes().wait_for_everyone()
    yield cache
    processes().wait_for_everyone()
    if is_main():
        cache.remove()


@contextmanager
def held_out_latents(sampler: Sampler, run: Run, monitor: Monitor) -> Iterator[LatentSource | None]:
    """Yield the latents of the validation volumes as a source, or None without such volumes."""
    if monitor.validation is None:
        yield None
        return
    rows = encoded_rows(sampler.encoding, monitor.conditions, len(monitor.validation))
    with latents_of(sampler.autoencoder, monitor.validation, run, "validation", None) as cache:
        yield LatentSource(cache.read(), sampler.mean, sampler.scale, rows)


def encoded_rows(
    encoding: ConditionEncoding, conditions: Sequence[Row] | None, n: int
) -> Float32[np.ndarray, "n k"]:
    """Return one row of encoded conditions per volume, for n volumes.

    Raises
    ------
    UsageError
        The number of rows is not n.
    """
    if not encoding.width:
        return np.zeros((n, 0), np.float32)
    if conditions is None or len(conditions) != n:
        raise UsageError(
            f"ldm3d: conditions: one row per volume is needed; found "
            f"{0 if conditions is None else len(conditions)} rows for {n} volumes."
        )
    return encoding.rows(conditions)


def named(progress: Progress | None, stage: int) -> Progress | None:
    """Return the callback with the number of the stage before its text."""
    if progress is None:
        return None
    return lambda done, total, text: progress(done, total, f"stage {stage} of 2, {text}")


def _logged_apart(monitor: Monitor) -> Callable[[int, Mapping[str, float]], None] | None:
    log = monitor.log
    if log is None:
        return None
    return lambda step, values: log(step, {f"{STAGE_1}/{k}": v for k, v in values.items()})
