"""`ldm3d`: latent diffusion of volumes, conditioned on covariates.

Pinaya et al. 2022 (arXiv 2209.07162): an autoencoder (stage 1,
`synthbench.generators.latent.autoencoder`) and a diffusion U-Net on its latents (stage 2). The
U-Net gets the conditions twice: as constant channels beside the latents, and as the context of
cross-attention. Classifier-free guidance is Ho and Salimans 2022 (arXiv 2207.12598).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import BaseModel
from torch import nn

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Row
from synthbench.generators.contracts import Monitor
from synthbench.generators.diffusion.conditioned import ConditionedSampling, chosen
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.generator import Perceptual, Progress, Stage
from synthbench.generators.latent.autoencoder import Autoencoder, Reconstruction, Stage1
from synthbench.generators.latent.encoding import ConditionEncoding, encoding_of
from synthbench.generators.latent.latents import LatentMean, LatentSource, scale_factor
from synthbench.generators.latent.sampler import Sampler
from synthbench.generators.latent.settings import STAGE_1, LDM3DSettings
from synthbench.generators.latent.stages import (
    LatentDiffusion,
    encoded_rows,
    fit_autoencoder,
    held_out_latents,
    latents_of,
    named,
)
from synthbench.generators.latent.unfinished import mean_file, unfinished_weights
from synthbench.generators.loop import sources, train
from synthbench.generators.networks.unet import PatchedUNet
from synthbench.generators.networks.weights import arrays, load, part, seeded
from synthbench.runs.folder import CheckpointWeights, Run
from synthbench.runs.validation import by_names_of_today
from synthbench.runtime.processes import is_main, processes


class LDM3D(ConditionedSampling):
    """Conditional latent diffusion."""

    name = "ldm3d"
    summary = "latent diffusion with covariates (Pinaya et al.)"
    needs = "tiny: two CPU cores, half an hour; small: a GPU; pinaya: large GPUs, days"
    paper = "Pinaya et al. 2022, arXiv 2209.07162"
    licence = "as the training data"
    settings = LDM3DSettings

    def stages(self, settings: BaseModel) -> list[Stage]:
        """Return the networks to train: both, or only the U-Net with another run's autoencoder.

        The estimate that is made from them leaves out the perceptual distance, and counts one
        column per condition: enough for numbers and for conditions of two levels.
        """
        assert isinstance(settings, LDM3DSettings)
        channels = settings.autoencoder.latent_channels
        width = len(settings.conditions) * (2 if settings.null_embedding else 1)
        # The discriminator from the first step on: memory is largest once it has joined in.
        whole = settings.autoencoder.model_copy(update={"adversarial_after": 0})
        conditioning = ((width,),) if width else ()
        first = Stage(
            lambda: Stage1(whole), Reconstruction(), whole, "autoencoder", "autoencoder.",
            lambda shape: ((1, *shape), settings.latent_shape(shape)),
        )  # fmt: skip
        second = Stage(
            lambda: _unet(settings, channels, width), LatentDiffusion(Diffusion(settings)),
            settings, "U-Net",
            samples=lambda shape: (settings.latent_shape(shape), *conditioning),
        )  # fmt: skip
        return [first, second] if settings.autoencoder_run is None else [second]

    def fit(
        self,
        volumes: Volumes,
        settings: BaseModel,
        run: Run,
        *,
        resume: bool = False,
        init: Run | None = None,
        progress: Progress | None = None,
        monitor: Monitor | None = None,
        conditions: Sequence[Row] | None = None,
        perceptual: Perceptual | None = None,
    ) -> None:
        """Train both stages; their averaged weights become the run's weights.

        Parameters
        ----------
        volumes, settings, run, resume, init, progress, monitor
            As for every generator that is trained by steps.
        conditions
            Covariates of each training volume. The run's record holds their ranges and levels.
        perceptual
            The distance that `settings.perceptual` names.
        """
        assert isinstance(settings, LDM3DSettings)
        settings.check_grid(volumes.space.shape)
        monitor = monitor or Monitor()
        encoding = encoding_of(settings, run)
        rows = encoded_rows(encoding, conditions, len(volumes))
        started = None if init is None or resume else init.load_weights()
        autoencoder = fit_autoencoder(
            volumes, settings, run, monitor, perceptual, started, resume, named(progress, 1)
        )
        network = _network(settings, encoding)
        # A run that stopped in stage 1 gives its autoencoder only.
        if started is not None and part(started, "unet."):
            load(network, part(started, "unet."), str(init.folder) if init else "")
        watched = named(progress, 2)
        with latents_of(autoencoder, volumes, run, "training", watched) as training:
            latents, shape = training.read(), settings.latent_shape(volumes.space.shape)
            unconditional, dropout = encoding.hidden, settings.condition_dropout
            mean = LatentMean.zero(shape, encoding.width)
            if settings.residual:
                mean = LatentMean.fitted(latents, rows, unconditional, dropout)
            scale = scale_factor(latents, mean, rows)
            if is_main():
                run.update(scale_factor=scale, latent_shape=shape)
                if settings.residual:
                    np.save(mean_file(run), mean.coefficients, allow_pickle=False)
            sampler = Sampler(settings, autoencoder, mean, scale, encoding, volumes.space.shape)
            choice = chosen(settings, settings, None, None, None)

            def draw(model: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
                return sampler.draw(model, seed, sampler.drawn_row(seed), choice)

            with held_out_latents(sampler, run, monitor) as held_out:
                source = LatentSource(latents, mean, scale, rows, unconditional, dropout)
                objective = LatentDiffusion(Diffusion(settings))
                task = sources.Task(network, objective, source, settings, draw, held_out)
                averaged = train.train(task, run, resume=resume, monitor=monitor, progress=watched)
        if is_main():
            parts: dict[str, nn.Module] = {"autoencoder": autoencoder, "unet": network}
            first = run.part(STAGE_1).record.get("training_seconds", 0.0)
            run.update(
                parameters=sum(p.numel() for m in parts.values() for p in m.parameters()),
                stage_seconds=[first, run.record["training_seconds"]],
                training_seconds=round(first + run.record["training_seconds"], 1),
            )
            run.save_weights({
                **{f"autoencoder.{name}": value for name, value in arrays(autoencoder).items()},
                **{f"unet.{name}": value.numpy() for name, value in averaged.items()},
                "latent_mean": mean.coefficients,
            })  # fmt: skip
            mean_file(run).unlink(missing_ok=True)

    def unfinished_weights(self, run: Run) -> CheckpointWeights | None:
        """Return the weights that the checkpoints of both stages hold; None without one."""
        settings = _settings(run)
        return unfinished_weights(run, settings, encoding_of(settings, run).width)

    def run_settings(self, run: Run) -> tuple[LDM3DSettings, LDM3DSettings]:
        """Return the settings of a run, for its diffusion and for its guidance."""
        settings = _settings(run)
        return settings, settings

    def trained(self, run: Run) -> tuple[nn.Module, Sampler]:
        """Return a run's network and what draws with it, on this process's device."""
        return _trained(run)


def _settings(run: Run) -> LDM3DSettings:
    config = by_names_of_today(LDM3DSettings, run.config)
    return LDM3DSettings(**{k: config[k] for k in LDM3DSettings.model_fields if k in config})


def _network(settings: LDM3DSettings, encoding: ConditionEncoding) -> PatchedUNet:
    channels = settings.autoencoder.latent_channels
    return seeded(settings.seed, lambda: _unet(settings, channels, encoding.width))


def _unet(settings: LDM3DSettings, channels: int, condition_width: int) -> PatchedUNet:
    return PatchedUNet(
        settings, channels, channels, condition_width=condition_width,
        resblock_updown=settings.resblock_updown, upcast_attention=settings.upcast_attention,
        coordinates=settings.coordinates,
    )  # fmt: skip


def _trained(run: Run) -> tuple[PatchedUNet, Sampler]:
    """Return a run's U-Net and a sampler with its autoencoder, on this process's device."""
    settings, weights, record = _settings(run), run.load_weights(), run.record
    encoding = encoding_of(settings, run)
    autoencoder = seeded(0, lambda: Autoencoder(settings.autoencoder))
    network = _network(settings, encoding)
    load(autoencoder, part(weights, "autoencoder."), str(run.folder))
    load(network, part(weights, "unet."), str(run.folder))
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    shape = tuple(record["space"]["shape"])
    decoder, mean = autoencoder.to(device).eval(), LatentMean(weights["latent_mean"])
    sampler = Sampler(settings, decoder, mean, record["scale_factor"], encoding, shape)
    return network.to(device).eval(), sampler
