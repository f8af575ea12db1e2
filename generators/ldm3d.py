"""`ldm3d`: latent diffusion of volumes, conditioned on covariates.

Pinaya et al. 2022 (arXiv 2209.07162): an autoencoder (stage 1, `synthbench.generators.autoencoder`)
and a diffusion U-Net on its latents (stage 2), which is given the conditions twice: as constant
channels beside the latents, and as the context of cross-attention. Classifier-free guidance is Ho
and Salimans 2022 (arXiv 2207.12598).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Int64
from pydantic import BaseModel, Field, field_validator, model_validator
from torch import Tensor, nn

from synthbench.cohort import Volumes
from synthbench.conditions import Conditions, Row, rows_for
from synthbench.errors import RunError, UsageError
from synthbench.generators import loop
from synthbench.generators.autoencoder import (
    Autoencoder,
    AutoencoderSettings,
    Reconstruction,
    Stage1,
    ceiling,
    nearest_side,
)
from synthbench.generators.contracts import Monitor
from synthbench.generators.diffusion import Diffusion, DiffusionSettings, Watch
from synthbench.generators.generator import (
    Frame,
    Perceptual,
    Progress,
    Stage,
)
from synthbench.generators.latents import LatentCache, LatentMean, LatentSource, scale_factor
from synthbench.generators.unet import NetworkSettings, PatchedUNet
from synthbench.processes import is_main, processes
from synthbench.run import Run
from synthbench.settings import by_names_of_today

STAGE_1 = "autoencoder"
"""Folder of stage 1 in a run's folder."""


class LDM3DSettings(loop.LoopSettings, NetworkSettings, DiffusionSettings):
    """Settings of `ldm3d`: those of stage 2, and in `autoencoder` those of stage 1."""

    RENAMED: ClassVar[Mapping[str, str]] = {"learned_null": "null_embedding"}

    autoencoder: AutoencoderSettings = Field(
        default=AutoencoderSettings(epochs=50), description="stage 1"
    )
    autoencoder_run: str | None = Field(
        default=None, description="finished ldm3d run whose autoencoder to take: no stage 1"
    )
    perceptual: str | None = Field(
        default=None, description="extractor of stage 1's perceptual distance; null: no such term"
    )
    residual: bool = Field(
        default=False,
        description="diffuse what a least-squares fit on the conditions leaves of the latents, "
        "voxel by voxel, for volumes that are aligned: the network need not learn what all have "
        "in common, nor what a condition moves on average",
    )
    conditions: tuple[str, ...] = Field(
        default=(),
        description="covariates of participants.tsv to condition on",
        examples=[["age", "sex"]],
    )
    null_embedding: bool = Field(
        default=True, description="whether a condition may be missing, which guidance needs"
    )
    condition_gain: float = Field(
        default=4.0,
        gt=0,
        description="half the width of the range that values are encoded in, with a null "
        "embedding; the larger, the sooner the network uses them",
    )
    condition_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of samples that all conditions are kept from"
    )
    guidance: float = Field(
        default=1.0, ge=0, description="default of sample: 1 as asked, above 1 exaggerates"
    )
    resblock_updown: bool = Field(
        default=False, description="change the grid inside residual blocks, not by convolutions"
    )
    upcast_attention: bool = Field(default=False, description="attention in float32 under bf16")
    coordinates: bool = Field(
        default=False,
        description="give the network the place of each voxel, for volumes that are aligned: "
        "shape, and what a condition changes where, are learned sooner",
    )

    @model_validator(mode="before")
    @classmethod
    def _stages_share(cls, given: Any) -> Any:
        """Give stage 1 the run's seed and precision, where it names none of its own."""
        if not isinstance(given, Mapping) or not isinstance(given.get("autoencoder"), Mapping):
            return given
        shared = {name: given[name] for name in ("seed", "precision") if name in given}
        return {**given, "autoencoder": {**shared, **given["autoencoder"]}}

    @field_validator("autoencoder_run")
    @classmethod
    def _from_anywhere(cls, folder: str | None) -> str | None:
        """Make the path absolute: a run may be resumed from another folder."""
        return None if folder is None else str(Path(folder).resolve())

    @model_validator(mode="after")
    def _can_be_conditioned(self) -> LDM3DSettings:
        if self.autoencoder.precision != self.precision:
            raise ValueError(
                f"autoencoder.precision: both stages run in one; found "
                f"{self.autoencoder.precision} and {self.precision}. Leave it out"
            )
        if self.conditions and not any(self.attention):
            nearest = [*self.attention[:-1], True]
            raise ValueError(
                "attention: conditions are the context of cross-attention, and levels without "
                f"attention do not see it; found {list(self.attention)}. The nearest: {nearest}"
            )
        if not self.null_embedding and (self.guidance != 1 or self.condition_dropout):
            raise ValueError(
                "null_embedding: guidance and condition_dropout need it; set guidance=1 and "
                "condition_dropout=0, or null_embedding=true"
            )
        return self

    @property
    def factor(self) -> int:
        """What every side of the grid must be divisible by, both stages together."""
        return self.autoencoder.factor * super().factor

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return channels and sides of the latents of volumes of that shape."""
        sides = (side // self.autoencoder.factor for side in shape)
        return self.autoencoder.latent_channels, *sides

    def nearest_grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the grid nearest to that shape that both networks can take."""
        smallest = self.autoencoder.smallest_side
        d, h, w = (nearest_side(side, self.factor, smallest) for side in shape)
        return d, h, w

    def check_grid(self, shape: tuple[int, int, int]) -> None:
        """Raise where the grid is not divisible by the downsampling of both networks.

        Raises
        ------
        UsageError
            It names the nearest grid that is.
        """
        nearest = self.nearest_grid(shape)
        if nearest != tuple(shape):
            raise UsageError(
                f"space.shape: every side must be divisible by {self.factor} "
                f"({self.autoencoder.factor} of the autoencoder x "
                f"{self.factor // self.autoencoder.factor} of the U-Net), and at least "
                f"{self.autoencoder.smallest_side}, for the discriminator; found {tuple(shape)}. "
                f"The nearest: --set space.shape={list(nearest)}"
            )


@dataclass(frozen=True)
class ConditionEncoding:
    """How rows of conditions become what the network is given.

    Without a null these are the encoded values themselves, as the published network takes them.
    With one, k values from -gain to gain, 0 where missing, are followed by k flags of what is
    missing: the weights on a flag are the null that is learned, and no value is taken for it,
    however far outside the training range. Values between 0 and 1 would be drowned by the noise
    beside them for hundreds of steps.

    Attributes
    ----------
    conditions
        Of the run.
    null_embedding
        Whether there are flags.
    gain
        See `LDM3DSettings.condition_gain`.
    """

    conditions: Conditions
    null_embedding: bool
    gain: float = 1.0

    @property
    def width(self) -> int:
        """Columns of the encoded conditions."""
        return self.conditions.width * (2 if self.null_embedding else 1)

    @property
    def unconditional(self) -> Float32[np.ndarray, " k"]:
        """The row of no condition."""
        absent = np.zeros(self.width, np.float32)
        absent[self.conditions.width :] = self.gain
        return absent

    @property
    def hidden(self) -> Float32[np.ndarray, " k"] | None:
        """What takes the place of a row whose conditions are hidden; None without a null."""
        return self.unconditional if self.null_embedding and self.width else None

    def rows(self, rows: Sequence[Row]) -> Float32[np.ndarray, "n k"]:
        """Return the encoded conditions of rows in natural units.

        Raises
        ------
        UsageError
            A row is not of these conditions, or a value is missing without a null embedding.
        """
        values, present = self.conditions.encode(rows)
        if self.null_embedding:
            scaled = np.where(present, 2 * values - 1, 0)
            return (self.gain * np.concatenate([scaled, ~present], axis=1)).astype(np.float32)
        if not present.all():
            of = [c.name for c in self.conditions.conditions for _ in c.columns]
            missing = sorted({of[column] for column in np.nonzero(~present)[1]})
            raise UsageError(
                f"conditions: {', '.join(missing)}: this network has no null embedding, so every "
                "condition needs a value."
            )
        return values


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
        """T."""
        return self.diffusion.settings.timesteps

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b c d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b c d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return each sample's loss; see `synthbench.generators.loop.Objective`."""
        return self.diffusion.losses(lambda x, at: network(x, at, *conditioning), clean, t, noise)


def guided(
    network: Callable[..., Tensor],
    conditioned: Float32[Tensor, "1 k"],
    unconditional: Float32[Tensor, "1 k"],
    guidance: float,
    difference: Float32[Tensor, "1 c d h w"],
    diffusion: Diffusion,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the network with classifier-free guidance (Ho and Salimans 2022, eq. 6).

    With u the unconditional prediction and c the conditioned one: u + guidance (c - u).

    Parameters
    ----------
    network
        Maps a state, its timestep and encoded conditions to the prediction.
    conditioned, unconditional
        The row that is requested, and that of no condition; without columns, none is given.
    guidance
        1: c alone.
    difference
        How much more is taken from conditioned latents than from unconditional ones, scaled:
        the two predictions are of clean latents that differ by it.
    diffusion
        The process.
    """
    if not conditioned.shape[1]:
        return lambda x, t: network(x, t)
    if guidance == 1:
        return lambda x, t: network(x, t, conditioned)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = float(diffusion.alphas_cumprod[int(t[0])])
        signal, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        # How a clean latent that is less by the difference changes what is predicted of it.
        change = {"sample": -1.0, "epsilon": 0.0, "v": sigma}[diffusion.settings.prediction]
        without = network(x + signal * difference, t, unconditional).float() + change * difference
        return without + guidance * (network(x, t, conditioned).float() - without)

    return predict


@dataclass(frozen=True)
class Sampler:
    """What turns a seed and a row of conditions into a volume.

    Attributes
    ----------
    settings
        Of the run.
    autoencoder
        Decodes.
    mean, scale
        What was taken from the latents, and what they were then multiplied by.
    encoding
        How rows of conditions are encoded.
    shape
        The volumes' grid.
    """

    settings: LDM3DSettings
    autoencoder: Autoencoder
    mean: LatentMean
    scale: float
    encoding: ConditionEncoding
    shape: tuple[int, ...]

    @torch.inference_mode()
    def draw(
        self,
        network: nn.Module,
        seed: int,
        row: Row,
        chosen: Mapping[str, str | int | float],
        watch: Watch | None = None,
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a seed, in [0, 1].

        Parameters
        ----------
        network
            The U-Net.
        seed
            Of the noise.
        row
            Conditions in natural units.
        chosen
            As `LDM3D.sampling` returns it.
        watch
            Called at each call of the network.
        """
        device = next(network.parameters()).device
        draws = torch.Generator().manual_seed(seed)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        size = (1, *self.settings.latent_shape(self.shape))
        noise = torch.randn(size, generator=draws).to(device)
        own, absent = self.encoding.rows([row])[0], self.encoding.unconditional
        conditioned, unconditional = (
            torch.from_numpy(one[None]).to(device) for one in (own, absent)
        )
        apart: Float32[np.ndarray, "c d h w"] = self.mean.of(own) - self.mean.of(absent)
        difference = self.scale * torch.from_numpy(apart)[None].to(device)
        diffusion, guidance = Diffusion(self.settings), float(chosen.get("guidance", 1.0))
        predict = guided(network, conditioned, unconditional, guidance, difference, diffusion)
        drawn = diffusion.denoise(
            predict, noise, str(chosen["sampler"]), int(chosen["steps"]), draws, watch
        )
        return self.decoded(drawn, row).clip(0, 1)

    def drawn_row(self, seed: int) -> Row:
        """Return conditions that are drawn from their training marginals by the seed alone."""
        return rows_for(self.encoding.conditions, [seed])[0]

    @torch.inference_mode()
    def decoded(
        self, latents: Float32[Tensor, "1 c d h w"], row: Row
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of scaled latents under these conditions, not clipped."""
        mean = torch.from_numpy(self.mean.of(self.encoding.rows([row])[0])).to(latents)
        decoded = self.autoencoder.decode(latents / self.scale + mean)
        volume: Float32[np.ndarray, "d h w"] = decoded.float().cpu().numpy()[0, 0]
        return volume


class LDM3D:
    """Conditional latent diffusion."""

    name = "ldm3d"
    summary = "latent diffusion with covariates (Pinaya et al.): presets tiny, small, pinaya"
    needs = "tiny: two CPU cores, half an hour; small: a GPU; pinaya: large GPUs, days"
    settings = LDM3DSettings

    def stages(self, settings: BaseModel) -> list[Stage]:
        """Return the networks to train: the U-Net alone with another run's autoencoder.

        What the perceptual distance takes is not counted. Conditions count one column each, as
        numbers and pairs of levels have.
        """
        assert isinstance(settings, LDM3DSettings)
        channels = settings.autoencoder.latent_channels
        width = len(settings.conditions) * (2 if settings.null_embedding else 1)
        # With the discriminator from the first step on: that is what the most memory is for.
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
            Covariates of each training volume; the run's record holds what was learnt of them.
        perceptual
            The distance that `settings.perceptual` names.
        """
        assert isinstance(settings, LDM3DSettings)
        settings.check_grid(volumes.space.shape)
        monitor = monitor or Monitor()
        encoding = _encoding(settings, run)
        rows = _rows(encoding, conditions, len(volumes))
        started = None if init is None or resume else init.load_weights()
        autoencoder = _autoencoder(
            volumes, settings, run, monitor, perceptual, started, resume, _named(progress, 1)
        )
        network = _network(settings, encoding)
        if started is not None:
            _load(network, _part(started, "unet."), str(init.folder) if init else "")
        watched = _named(progress, 2)
        with _latents(autoencoder, volumes, run, "training", watched) as training:
            latents, shape = training.read(), settings.latent_shape(volumes.space.shape)
            unconditional, dropout = encoding.hidden, settings.condition_dropout
            mean = LatentMean.zero(shape, encoding.width)
            if settings.residual:
                mean = LatentMean.fitted(latents, rows, unconditional, dropout)
            scale = scale_factor(latents, mean, rows)
            if is_main():
                run.update(scale_factor=scale, latent_shape=shape)
            sampler = Sampler(settings, autoencoder, mean, scale, encoding, volumes.space.shape)
            chosen = self._chosen(settings, None, None, None)

            def draw(model: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
                return sampler.draw(model, seed, sampler.drawn_row(seed), chosen)

            with _held_out(sampler, run, monitor) as held_out:
                source = LatentSource(latents, mean, scale, rows, unconditional, dropout)
                objective = LatentDiffusion(Diffusion(settings))
                task = loop.Task(network, objective, source, settings, draw, held_out)
                averaged = loop.train(task, run, resume=resume, monitor=monitor, progress=watched)
        if is_main():
            parts: dict[str, nn.Module] = {"autoencoder": autoencoder, "unet": network}
            first = run.part(STAGE_1).record.get("training_seconds", 0.0)
            run.update(
                parameters=sum(p.numel() for m in parts.values() for p in m.parameters()),
                stage_seconds=[first, run.record["training_seconds"]],
                training_seconds=round(first + run.record["training_seconds"], 1),
            )
            run.save_weights({
                **{f"autoencoder.{name}": value for name, value in _arrays(autoencoder).items()},
                **{f"unet.{name}": value.numpy() for name, value in averaged.items()},
                "latent_mean": mean.coefficients,
            })  # fmt: skip

    def sampling(
        self, run: Run, sampler: str | None, steps: int | None, *, guidance: float | None = None
    ) -> dict[str, str | int | float]:
        """Return the sampler, its number of steps and, of a conditional run, the guidance.

        Raises
        ------
        UsageError
            The sampler is unknown, the steps do not fit it, or there is nothing to guide.
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
        """Yield one volume a seed, drawn on its own: no batch, so no dependence on one.

        Parameters
        ----------
        run, seeds, sampler, steps
            As for every generator.
        conditions
            One row a seed, in natural units; None: drawn from the training marginals, each by
            the seed alone.
        guidance
            w in u + w (c - u); None: the run's own.

        Raises
        ------
        UsageError
            There are not as many rows as seeds, or the run has no conditions.
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
        """Yield, decoded, what the sampler held at about `frames` of its steps.

        Without a row of conditions they are those that `sample` draws by this seed; `guidance` is
        as there.
        """
        chosen = self.sampling(run, sampler, steps, guidance=guidance)
        network, drawer = _trained(run)
        calls = Diffusion.network_calls(str(chosen["sampler"]), int(chosen["steps"]))
        kept = set(np.linspace(0, calls - 1, min(frames, calls)).round().astype(int).tolist())
        row = drawer.drawn_row(seed) if conditions is None else conditions
        held: list[Frame] = []

        def watch(call: int, timestep: int, state: Tensor, clean: Tensor) -> None:
            if call in kept:
                shown = drawer.decoded(clean, row).clip(0, 1)
                held.append(Frame(call, timestep, drawer.decoded(state, row), shown))

        drawer.draw(network, seed, row, chosen, watch)
        yield from held

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
                "--guidance: at least 0 is needed, and exactly 1 without a null embedding; "
                f"found {used:g}."
            )
        return {**chosen, "guidance": used}


# ---------------------------------------------------------------- the stages


class _Stage1Volumes(loop.TrainingVolumes):
    """Training volumes, and the noise that their latents are drawn with."""

    def __init__(self, volumes: Volumes, settings: LDM3DSettings, run: Run) -> None:
        super().__init__(volumes, settings.autoencoder, run)
        self.latent_shape = settings.latent_shape(volumes.space.shape)

    def batch(  # type: ignore[override]
        self, items: Sequence[int], draws: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Return volumes, augmented, and standard normal noise of their latents' shape."""
        (volumes,) = super().batch(items, draws)
        noise = torch.stack([torch.randn(self.latent_shape, generator=g) for g in draws])
        return volumes, noise


def _autoencoder(
    volumes: Volumes,
    settings: LDM3DSettings,
    run: Run,
    monitor: Monitor,
    perceptual: Perceptual | None,
    started: Mapping[str, np.ndarray] | None,
    resume: bool,
    progress: Progress | None,
) -> Autoencoder:
    """Return the trained autoencoder on this process's device: stage 1, where it is not done."""
    stage = run.part(STAGE_1)
    done = (stage.folder / "run.json").is_file() and bool(stage.record.get("finished"))
    model: Stage1 = _seeded(
        settings.autoencoder.seed, lambda: Stage1(settings.autoencoder, perceptual)
    )
    autoencoder: Autoencoder = model.autoencoder
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    if done:
        _load(autoencoder, stage.load_weights(), str(stage.folder))
        return autoencoder.to(device).eval()
    if is_main():
        stage.folder.mkdir(exist_ok=True)
    if settings.autoencoder_run is not None:
        other = Run.open(Path(settings.autoencoder_run))
        _load(autoencoder, _part(other.load_weights(), "autoencoder."), str(other.folder))
        trained: dict[str, Any] = {"taken_from": other.record["weights_sha256"]}
    else:
        if started is not None:
            _load(autoencoder, _part(started, "autoencoder."), "--init")
        processes().wait_for_everyone()
        task = loop.Task(
            model, Reconstruction(), _Stage1Volumes(volumes, settings, stage), settings.autoencoder
        )
        averaged = loop.train(
            task, stage, resume=resume, progress=progress,
            monitor=Monitor(log=_logged_apart(monitor)),
        )  # fmt: skip
        _load(autoencoder, {k: v.numpy() for k, v in _part(averaged, "autoencoder.").items()}, "")
        trained = {}
    autoencoder.to(device).eval()
    if is_main():
        held_out = monitor.validation
        of = (volumes, "training") if held_out is None else (held_out, "validation")
        reached = asdict(ceiling(autoencoder, *of))
        stage.save_weights(_arrays(autoencoder))
        stage.update(finished=True, reconstruction=reached, **trained)
        run.update(reconstruction=reached)
    processes().wait_for_everyone()
    return autoencoder


@contextmanager
def _latents(
    autoencoder: Autoencoder, volumes: Volumes, run: Run, role: str, progress: Progress | None
) -> Iterator[LatentCache]:
    """Lend the latents of a cohort; their files are removed on a clean exit."""
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
def _held_out(sampler: Sampler, run: Run, monitor: Monitor) -> Iterator[LatentSource | None]:
    if monitor.validation is None:
        yield None
        return
    rows = _rows(sampler.encoding, monitor.conditions, len(monitor.validation))
    with _latents(sampler.autoencoder, monitor.validation, run, "validation", None) as cache:
        yield LatentSource(cache.read(), sampler.mean, sampler.scale, rows)


def _rows(
    encoding: ConditionEncoding, conditions: Sequence[Row] | None, n: int
) -> Float32[np.ndarray, "n k"]:
    """Return the encoded conditions of each of n volumes."""
    if not encoding.width:
        return np.zeros((n, 0), np.float32)
    if conditions is None or len(conditions) != n:
        raise UsageError(
            f"ldm3d: conditions: one row a volume is needed; found "
            f"{0 if conditions is None else len(conditions)} for {n}."
        )
    return encoding.rows(conditions)


def _named(progress: Progress | None, stage: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, words: progress(done, total, f"stage {stage} of 2, {words}")


def _logged_apart(monitor: Monitor) -> Callable[[int, Mapping[str, float]], None] | None:
    log = monitor.log
    if log is None:
        return None
    return lambda step, values: log(step, {f"{STAGE_1}/{k}": v for k, v in values.items()})


# ---------------------------------------------------------------- networks and weights


def _settings(run: Run) -> LDM3DSettings:
    config = by_names_of_today(LDM3DSettings, run.config)
    return LDM3DSettings(**{k: config[k] for k in LDM3DSettings.model_fields if k in config})


def _encoding(settings: LDM3DSettings, run: Run) -> ConditionEncoding:
    conditions = Conditions.of_run(run.record)
    if conditions.names != settings.conditions:
        raise RunError(
            f"{run.folder}: its record holds the conditions {list(conditions.names)}, its "
            f"configuration {list(settings.conditions)}. Train it with synthbench.train, which "
            "writes both."
        )
    return ConditionEncoding(conditions, settings.null_embedding, settings.condition_gain)


def _seeded(seed: int, build: Callable[[], Any]) -> Any:
    """Build a network with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _network(settings: LDM3DSettings, encoding: ConditionEncoding) -> PatchedUNet:
    channels = settings.autoencoder.latent_channels
    built: PatchedUNet = _seeded(settings.seed, lambda: _unet(settings, channels, encoding.width))
    return built


def _unet(settings: LDM3DSettings, channels: int, condition_width: int) -> PatchedUNet:
    return PatchedUNet(
        settings, channels, channels, condition_width=condition_width,
        resblock_updown=settings.resblock_updown, upcast_attention=settings.upcast_attention,
        coordinates=settings.coordinates,
    )  # fmt: skip


def _trained(run: Run) -> tuple[PatchedUNet, Sampler]:
    """Load both networks on this process's device."""
    settings, weights, record = _settings(run), run.load_weights(), run.record
    encoding = _encoding(settings, run)
    autoencoder: Autoencoder = _seeded(0, lambda: Autoencoder(settings.autoencoder))
    network = _network(settings, encoding)
    _load(autoencoder, _part(weights, "autoencoder."), str(run.folder))
    _load(network, _part(weights, "unet."), str(run.folder))
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    shape = tuple(record["space"]["shape"])
    decoder, mean = autoencoder.to(device).eval(), LatentMean(weights["latent_mean"])
    sampler = Sampler(settings, decoder, mean, record["scale_factor"], encoding, shape)
    return network.to(device).eval(), sampler


def _arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.cpu().numpy() for name, value in model.state_dict().items()}


def _part(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _load(model: nn.Module, arrays: Mapping[str, np.ndarray], source: str) -> None:
    weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    other = {name: tuple(value.shape) for name, value in weights.items()}
    if own != other:
        wrong = sorted(set(own.items()) ^ set(other.items()))[:3]
        raise RunError(
            f"{source}: its weights do not fit this network (first differences: {wrong}). "
            "Use the settings of that run: --config RUN/config.yaml."
        )
    model.load_state_dict(weights)
