"""What `lsgan3d` and `vaegan3d` share as plugins: training, weights, sampling."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import BaseModel
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.generators.adversarial.losses import LSGAN, Adversarial
from synthbench.generators.adversarial.networks import VolumeGenerator
from synthbench.generators.adversarial.seen import DRAWS
from synthbench.generators.adversarial.settings import GANSettings
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import Progress, Stage, one_step
from synthbench.generators.loop import sources, train
from synthbench.generators.networks.weights import load, part, seeded
from synthbench.runs.folder import Run
from synthbench.runtime.processes import is_main, processes

log = logging.getLogger("synthbench")


class LatentVolumes(sources.TrainingVolumes):
    """A source of training volumes, each with latent numbers and draws of the augmentation."""

    def __init__(self, volumes: Volumes, settings: GANSettings, run: Run, latents: int) -> None:
        super().__init__(volumes, settings, run)
        self.size = (latents, settings.latent)

    def batch(  # type: ignore[override]
        self, items: Sequence[int], draws: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return these volumes, augmented, with standard normal and with uniform numbers."""
        (volumes,) = super().batch(items, draws)
        z = torch.stack([torch.randn(self.size, generator=g) for g in draws])
        seen = torch.stack([torch.rand(2, DRAWS, generator=g) for g in draws])
        return volumes, z, seen


class AdversarialPlugin:
    """A plugin that trains a generator against a discriminator, and samples in one step."""

    name: ClassVar[str]
    settings: ClassVar[type[GANSettings]]
    networks: ClassVar[type[LSGAN]]

    def stages(self, settings: BaseModel) -> list[Stage]:
        """Return the networks, which are trained together."""
        assert isinstance(settings, GANSettings)
        return [
            Stage(
                lambda: self.networks(settings), Adversarial(), settings,
                samples=lambda shape: (
                    (1, *shape), (self.networks.latents, settings.latent), (2, DRAWS),
                ),
            )
        ]  # fmt: skip

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
    ) -> None:
        """Train; the averaged weights of all networks become the run's weights."""
        assert isinstance(settings, GANSettings)
        if monitor and monitor.validation is not None and not settings.score_every and is_main():
            log.warning(
                "%s has no validation loss, so the validation volumes are not used. Set "
                "score_every: it keeps the weights whose samples are nearest to them.", self.name
            )  # fmt: skip
        shape = volumes.space.shape
        model = seeded(settings.seed, lambda: self.networks(settings, shape))
        if init is not None and not resume:
            load(model, init.load_weights(), str(init.folder))
        elif model.generator.mean is not None and not resume:
            model.generator.mean.data.copy_(_mean_of(volumes))

        def draw(network: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
            assert isinstance(network, LSGAN)
            return drawn(network.generator, settings.latent, shape, seed)

        source = LatentVolumes(volumes, settings, run, self.networks.latents)
        task = sources.Task(
            model, Adversarial(), source, settings, draw, optimizers=settings.optimizers
        )
        averaged = train.train(task, run, resume=resume, monitor=monitor, progress=progress)
        if is_main():
            run.update(parameters=sum(p.numel() for p in model.generator.parameters()))
            run.save_weights({name: value.numpy() for name, value in averaged.items()})

    def sampling(self, run: Run, sampler: str | None, steps: int | None) -> dict[str, str | int]:
        """Return no fields: a volume takes one call of the network.

        Raises
        ------
        UsageError
            A sampler or a number of steps is named.
        """
        return one_step(self.name, sampler, steps)

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed. Each is drawn alone, so no volume depends on a batch."""
        self.sampling(run, sampler, steps)
        settings = run.settings(self.settings)
        shape = run.space.shape
        generator = seeded(settings.seed, lambda: VolumeGenerator(settings, shape))
        load(generator, part(run.load_weights(), "generator."), str(run.folder))
        device = processes().device if torch.cuda.is_available() else torch.device("cpu")
        generator.to(device).eval()
        for seed in seeds:
            yield drawn(generator, settings.latent, shape, seed)


@torch.inference_mode()
def drawn(
    generator: VolumeGenerator, latent: int, shape: Sequence[int], seed: int
) -> Float32[np.ndarray, "d h w"]:
    """Return the volume of a seed, in [0, 1]."""
    device = next(generator.parameters()).device
    # Drawn on the CPU, so that a seed gives the same numbers on every device.
    z = torch.randn((1, latent), generator=torch.Generator().manual_seed(seed)).to(device)
    volume = generator(z, shape)[0, 0].clamp(0, 1)
    array: Float32[np.ndarray, "d h w"] = volume.float().cpu().numpy()
    return array


def _mean_of(volumes: Volumes) -> Float32[Tensor, "d h w"]:
    total = np.zeros(volumes.space.shape)
    for volume in volumes:
        total += volume
    return torch.from_numpy((total / len(volumes)).astype(np.float32))
