"""`ddpm3d`: a 3-D denoising diffusion probabilistic model of whole volumes.

The method is Ho et al. 2020 (arXiv 2006.11239), the network MONAI's `DiffusionModelUNet`. Samples
take all timesteps, or fewer with a sampler of `synthbench.generators.diffusion.samplers`.

For small training sets there are other parts, which the presets of the paper do not use: a network
that sees parts of a volume (`network=local`), the diffusion of the difference from the mean
(`residual`), and samples that begin with a random shape (`components`). docs/ddpm3d.md says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64
from pydantic import BaseModel, Field, model_validator
from safetensors.numpy import save_file
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import RunError
from synthbench.generators.contracts import Monitor
from synthbench.generators.diffusion.process import Diffusion, Watch
from synthbench.generators.diffusion.schedule import DiffusionSettings
from synthbench.generators.generator import Frame, Progress, Stage
from synthbench.generators.loop import settings as settings_module
from synthbench.generators.loop import sources, train
from synthbench.generators.networks.local import CUBE, LocalDenoiser
from synthbench.generators.networks.precision import in_precision, precision_fields
from synthbench.generators.networks.unet import NetworkSettings, PatchedUNet
from synthbench.generators.networks.weights import load, seeded
from synthbench.generators.volume_prior import PREFIX, VolumePrior
from synthbench.runs import checkpoint
from synthbench.runs.folder import FIX, CheckpointWeights, Run
from synthbench.runtime.arrays import read_safetensors
from synthbench.runtime.files import replacing
from synthbench.runtime.processes import is_main, processes

FAINT = 0.02
"""Intensities below this are set to 0 where a residual is diffused. At the rim, where the mean is
near 0, all that is left of the noise would else be tissue. Extractors that standardise over voxels
above 0 see that first (docs/ddpm3d.md)."""

INPUTS = 5
"""Channels that the network of a residual gets."""


class DDPM3DSettings(settings_module.LoopSettings, NetworkSettings, DiffusionSettings):
    """Settings of `ddpm3d`: the training, the network, and the diffusion."""

    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "centred", "network", "width", "convolutions", "levels", "residual", "components",
        "start_noise", "start_spread",
    })  # fmt: skip

    centred: bool = Field(
        default=False, description="diffuse intensities in [-1, 1] rather than [0, 1]"
    )
    network: Literal["unet", "local"] = Field(
        default="unet",
        description="unet: MONAI's U-Net, which sees the whole volume; local: a network that sees "
        "parts of it, with its width and convolutions",
    )
    width: int = Field(default=48, ge=1, description="channels of the local network")
    convolutions: int = Field(
        default=3,
        ge=1,
        description="3 x 3 x 3 convolutions of the local network: a voxel of its result depends "
        "on the voxels at most 2 convolutions + 1 away",
    )
    levels: int = Field(
        default=0,
        ge=0,
        le=6,
        description="coarser grids that the local network sees as well, each of half the "
        "resolution of the one before",
    )
    residual: bool = Field(
        default=False,
        description="diffuse the difference from the mean of the training volumes, divided by its "
        "spread at each voxel; the network corrects what a Wiener filter predicts",
    )
    components: int = Field(
        default=0,
        ge=0,
        description="samples begin with a random combination of that many principal components "
        "of the training volumes, noised to start_noise; 0: with pure noise",
    )
    start_noise: float = Field(
        default=3.0, gt=0, description="noise over signal at the beginning, with components"
    )
    start_spread: float = Field(
        default=1.0,
        gt=0,
        description="with components: factor on the standard deviation of the random field that "
        "samples begin with; above 1 they are more varied",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> DDPM3DSettings:
        if self.residual and self.centred:
            raise ValueError("residual: a residual has mean zero already. Set centred=false")
        if self.components and not self.residual:
            raise ValueError("components: they are combined around the mean. Set residual=true")
        return self

    @property
    def factor(self) -> int:
        """The number that every side of the grid must be divisible by."""
        return CUBE if self.network == "local" else super().factor

    @property
    def first_noise(self) -> float | None:
        """Noise over signal at the beginning of a sample; None: pure noise."""
        return self.start_noise if self.components else None


@dataclass(frozen=True)
class VolumeDiffusion:
    """The diffusion of volumes with intensities in [0, 1].

    Attributes
    ----------
    diffusion
        The process.
    centred
        True where it runs on intensities in [-1, 1], False for [0, 1].
    residual
        True where it runs on the standardised residual of `prior`, inside its box.
    prior
        The mean, the spread and the shapes of the training volumes; None: not known yet, so that
        volumes are their own residuals.
    start_spread
        Factor on the standard deviation of the random field that samples begin with.
    """

    diffusion: Diffusion
    centred: bool
    residual: bool = False
    prior: VolumePrior | None = None
    start_spread: float = 1.0

    @property
    def timesteps(self) -> int:
        """The number of timesteps, T."""
        return self.diffusion.settings.timesteps

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b 1 d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b 1 d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return the loss of each volume; `conditioning` is empty."""
        if self.prior is None:
            clean = clean * 2 - 1 if self.centred else clean
            return self.diffusion.losses(self._predictor(network), clean, t, noise)
        prior = self.prior.to(clean.device)
        noise = prior.crop(noise) * prior.head
        losses = self.diffusion.losses(self._predictor(network), prior.residual(clean), t, noise)
        # The error beside the head is 0: the mean is taken over the head alone.
        return losses / prior.head.float().mean()

    def _predictor(self, network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the network as a function of the state alone.

        For a residual it is the prediction that the Wiener filter makes, plus a correction by the
        network. It gets the state and the filter's estimate, and that estimate as a volume, since
        tissues are told by intensities, with the mean and the spread that lead there.
        """
        if not self.residual:
            return network

        def predict(state: Tensor, t: Tensor) -> Tensor:
            if self.prior is None:
                prediction: Tensor = network(state.repeat(1, INPUTS, 1, 1, 1), t)
                return prediction
            prior = self.prior.to(state.device)
            state = state * prior.head
            clean = prior.wiener(state, *self.diffusion.levels(t))
            mean = prior.crop(prior.mean)
            # Differences from 0.5 times 4: about as large as the others.
            known = [4 * (mean + prior.spread * clean) - 2, 4 * mean - 2, 4 * prior.spread]
            inputs = [state, clean, *(channel.expand_as(state) for channel in known)]
            correction = network(torch.cat(inputs, dim=1), t) * prior.head
            corrected: Tensor = self.diffusion.prediction(clean, state, t) + correction
            return corrected

        return predict

    def to_unit(self, state: Tensor) -> Float32[np.ndarray, "d h w"]:
        """Return a state on the volumes' intensity scale, not clipped."""
        if self.prior is not None:
            volume = self.prior.to(state.device).volume(state.float())
        else:
            volume = (state + 1) / 2 if self.centred else state
        array: Float32[np.ndarray, "d h w"] = volume.float().cpu().numpy()[0, 0]
        return array

    def finished(self, clean: Tensor) -> Float32[np.ndarray, "d h w"]:
        """Return a clean volume, clipped to [0, 1]; of a residual, faint values become 0."""
        volume = self.to_unit(clean).clip(0, 1)
        return volume if self.prior is None else np.where(volume < FAINT, np.float32(0), volume)

    @torch.inference_mode()
    def draw(
        self,
        network: nn.Module,
        shape: Sequence[int],
        seed: int,
        sampler: str,
        steps: int,
        watch: Watch | None = None,
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a seed, in [0, 1]."""
        device = next(network.parameters()).device
        draws = torch.Generator().manual_seed(seed)
        start = None
        if self.prior is not None:
            shape = self.prior.shape
            if self.diffusion.start_noise is not None:
                start = self.prior.draw(draws, self.start_spread).to(device)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = torch.randn((1, 1, *shape), generator=draws).to(device)
        if self.prior is not None:
            noise = noise * self.prior.head.to(device)
        predictor = self._predictor(network)
        drawn = self.diffusion.denoise(predictor, noise, sampler, steps, draws, watch, start=start)
        # Clipped only here, at the end: clipping at each step biases the result.
        return self.finished(drawn)


class DDPM3D:
    """The 3-D DDPM."""

    name = "ddpm3d"
    summary = "3-D DDPM of whole volumes (MONAI U-Net); tiny: a shape prior and a local network"
    needs = "tiny: two CPU cores, an hour; paper: GPUs, hours"
    paper = "Ho et al. 2020, arXiv 2006.11239"
    licence = "as the training data"
    settings = DDPM3DSettings

    def stages(self, settings: BaseModel) -> list[Stage]:
        """Return the network to train."""
        assert isinstance(settings, DDPM3DSettings)
        return [Stage(lambda: _initial(settings), _objective(settings), settings)]

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
        """Train; the averaged weights become the run's weights."""
        assert isinstance(settings, DDPM3DSettings)
        settings.check_grid(volumes.space.shape)
        model = _initial(settings)
        if init is not None and not resume:
            load(model, _network_weights(init), str(init.folder))
        prior = _fitted_prior(volumes, settings, run) if settings.residual else None
        objective = replace(_objective(settings), prior=prior)
        chosen = objective.diffusion.sampling()
        shape = volumes.space.shape

        def draw(network: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
            sampler, steps = str(chosen["sampler"]), int(chosen["steps"])
            return objective.draw(network, shape, seed, sampler, steps)

        held_out = monitor.validation if monitor else None
        task = sources.Task(
            model, objective, sources.TrainingVolumes(volumes, settings, run), settings, draw,
            held_out=None if held_out is None else sources.HeldOutVolumes(held_out),
        )  # fmt: skip
        averaged = train.train(task, run, resume=resume, monitor=monitor, progress=progress)
        if is_main():
            run.update(parameters=sum(p.numel() for p in model.parameters()))
            arrays = {name: value.numpy() for name, value in averaged.items()}
            run.save_weights(arrays | _stored_prior(run, settings))

    def unfinished_weights(self, run: Run) -> CheckpointWeights | None:
        """Return the weights that the newest checkpoint holds; None without a checkpoint."""
        found = checkpoint.last_good(run)
        if found is None:
            return None
        newest, averaged = found
        prior = _stored_prior(run, _settings(run))
        return CheckpointWeights({**averaged, **prior}, newest.step, newest.seconds)

    def sampling(
        self, run: Run, sampler: str | None, steps: int | None, *, precision: str = "fp32"
    ) -> dict[str, str | int]:
        """Return the sampler, its number of steps and, where it is not fp32, the precision.

        Raises
        ------
        UsageError
            The sampler or the precision is unknown, or the sampler cannot take so many steps.
        """
        settings = _settings(run)
        chosen = Diffusion(settings, settings.first_noise).sampling(sampler, steps)
        return {**chosen, **precision_fields(precision)}

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
        precision: str = "fp32",
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed. Each is drawn alone, so no volume depends on a batch."""
        model, objective, shape = trained(run, precision)
        chosen = objective.diffusion.sampling(sampler, steps)
        for seed in seeds:
            yield objective.draw(model, shape, seed, str(chosen["sampler"]), int(chosen["steps"]))

    def trajectory(
        self,
        run: Run,
        seed: int,
        *,
        sampler: str | None,
        steps: int | None,
        frames: int,
        precision: str = "fp32",
    ) -> Iterator[Frame]:
        """Yield the states at about `frames` calls of the network, the last call included."""
        model, objective, shape = trained(run, precision)
        chosen = objective.diffusion.sampling(sampler, steps)
        name, count = str(chosen["sampler"]), int(chosen["steps"])
        calls = objective.diffusion.network_calls(name, count)
        kept = set(np.linspace(0, calls - 1, min(frames, calls)).round().astype(int).tolist())
        shown: list[Frame] = []

        def watch(call: int, timestep: int, state: Tensor, clean: Tensor) -> None:
            if call in kept:
                frame = Frame(call, timestep, objective.to_unit(state), objective.finished(clean))
                shown.append(frame)

        objective.draw(model, shape, seed, name, count, watch)
        yield from shown


def _settings(run: Run) -> DDPM3DSettings:
    return run.settings(DDPM3DSettings)


def _objective(settings: DDPM3DSettings) -> VolumeDiffusion:
    diffusion = Diffusion(settings, settings.first_noise)
    return VolumeDiffusion(
        diffusion, settings.centred, settings.residual, start_spread=settings.start_spread
    )


def _initial(settings: DDPM3DSettings) -> nn.Module:
    """Return the network with initial weights that depend on the seed alone."""
    channels = INPUTS if settings.residual else 1
    if settings.network == "unet":
        return seeded(settings.seed, lambda: PatchedUNet(settings, in_channels=channels))
    return seeded(
        settings.seed,
        lambda: LocalDenoiser(
            settings.width, settings.convolutions, settings.timesteps, channels, settings.levels
        ),
    )


def _fitted_prior(volumes: Volumes, settings: DDPM3DSettings, run: Run) -> VolumePrior:
    """Return the prior of the training volumes; a run that is resumed has it already."""
    state, file = processes(), _prior_file(run)
    if state.is_main_process and not file.is_file():
        prior = VolumePrior.fit(volumes, most=settings.components, flip=settings.flip)
        with replacing(file) as temporary:
            save_file(prior.arrays(), temporary)
    state.wait_for_everyone()
    return VolumePrior.of(_read_prior(run))


def _prior_file(run: Run) -> Path:
    return run.folder / "prior.safetensors"


def _stored_prior(run: Run, settings: DDPM3DSettings) -> dict[str, np.ndarray]:
    return _read_prior(run) if settings.residual else {}


def _read_prior(run: Run) -> dict[str, np.ndarray]:
    return read_safetensors(_prior_file(run), error=RunError, fix=FIX)


def _network_weights(run: Run) -> dict[str, np.ndarray]:
    return {k: v for k, v in run.load_weights().items() if not k.startswith(PREFIX)}


def trained(
    run: Run, precision: str = "fp32"
) -> tuple[nn.Module, VolumeDiffusion, tuple[int, ...]]:
    """Return a run's network on this process's device, its objective, and the run's grid."""
    settings, weights = _settings(run), run.load_weights()
    model = _initial(settings)
    load(model, {k: v for k, v in weights.items() if not k.startswith(PREFIX)}, str(run.folder))
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    model.to(device).eval()
    prior = VolumePrior.of(weights) if settings.residual else None
    objective = replace(_objective(settings), prior=prior)
    return in_precision(model, precision), objective, tuple(run.record["space"]["shape"])
