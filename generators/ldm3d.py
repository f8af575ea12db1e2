"""`ldm3d`: latent diffusion of volumes, conditioned on covariates.

Pinaya et al. 2022 (arXiv 2209.07162): an autoencoder (stage 1,
`synthbench.generators.latent.autoencoder`) and a diffusion U-Net on its latents (stage 2). The
U-Net gets the conditions twice: as constant channels beside the latents, and as the context of
cross-attention. Classifier-free guidance is Ho and Salimans 2022 (arXiv 2207.12598).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import BaseModel
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Row
from synthbench.errors import UsageError
from synthbench.generators.contracts import Monitor
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.generator import Frame, Perceptual, Progress, Stage
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


class LDM3D:
    """Conditional latent diffusion."""

    name = "ldm3d"
    summary = "latent diffusion with covariates (Pinaya et al.): presets tiny, small, pinaya"
    needs = "tiny: two CPU cores, half an hour; small: a GPU; pinaya: large GPUs, days"
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
            chosen = self._chosen(settings, None, None, None)

            def draw(model: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
                return sampler.draw(model, seed, sampler.drawn_row(seed), chosen)

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

    def sampling(
        self, run: Run, sampler: str | None, steps: int | None, *, guidance: float | None = None
    ) -> dict[str, str | int | float]:
        """Return the sampler, its number of steps and, for a conditional run, the guidance.

        Raises
        ------
        UsageError
            The sampler is unknown or cannot take so many steps, or guidance is named for a run
            without conditions.
        """
        return self._chosen(_settings(run), sampler, steps, guidance)

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
        conditions: Sequence[Row] | None = None,
        guidance: float | None = None,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed. Each is drawn alone, so no volume depends on a batch.

        Parameters
        ----------
        run, seeds, sampler, steps
            As for every generator.
        conditions
            One row per seed, in natural units; None: each row is drawn from the training
            marginals, by the seed alone.
        guidance
            w in u + w (c - u); None: the run's own.

        Raises
        ------
        UsageError
            The number of rows is not the number of seeds, or the run has no conditions.
        """
        chosen = self.sampling(run, sampler, steps, guidance=guidance)
        network, drawer = _trained(run)
        conditional = drawer.encoding.width > 0
        if conditions is not None and (not conditional or len(conditions) != len(seeds)):
            raise UsageError(
                f"{run.folder}: {len(conditions)} rows of conditions for {len(seeds)} seeds"
                + (", and the run was trained without any." if not conditional else ".")
            )
        for place, seed in enumerate(seeds):
            row = drawer.drawn_row(seed) if conditions is None else conditions[place]
            yield drawer.draw(network, seed, row, chosen)

    def trajectory(
        self,
        run: Run,
        seed: int,
        *,
        sampler: str | None,
        steps: int | None,
        frames: int,
        conditions: Row | None = None,
        guidance: float | None = None,
    ) -> Iterator[Frame]:
        """Yield the decoded states at about `frames` calls of the network, the last included.

        `conditions` None: the row that `sample` draws from this seed. `guidance` as in `sample`.
        """
        chosen = self.sampling(run, sampler, steps, guidance=guidance)
        network, drawer = _trained(run)
        calls = Diffusion.network_calls(str(chosen["sampler"]), int(chosen["steps"]))
        kept = set(np.linspace(0, calls - 1, min(frames, calls)).round().astype(int).tolist())
        row = drawer.drawn_row(seed) if conditions is None else conditions
        shown: list[Frame] = []

        def watch(call: int, timestep: int, state: Tensor, clean: Tensor) -> None:
            if call in kept:
                predicted = drawer.decoded(clean, row).clip(0, 1)
                shown.append(Frame(call, timestep, drawer.decoded(state, row), predicted))

        drawer.draw(network, seed, row, chosen, watch)
        yield from shown

    def _chosen(
        self,
        settings: LDM3DSettings,
        sampler: str | None,
        steps: int | None,
        guidance: float | None,
    ) -> dict[str, str | int | float]:
        chosen = Diffusion(settings).sampling(sampler, steps)
        if not settings.conditions:
            if guidance is not None:
                raise UsageError(
                    "--guidance: the run was trained without conditions. Leave it out."
                )
            return {**chosen}
        used = settings.guidance if guidance is None else guidance
        if used < 0 or (used != 1 and not settings.null_embedding):
            raise UsageError(
                "--guidance: must be at least 0, and exactly 1 without a null embedding; "
                f"found {used:g}."
            )
        return {**chosen, "guidance": used}


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
