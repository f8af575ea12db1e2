"""`dit-tiles`: a 2-D diffusion transformer of tiled volumes, conditioned on labels.

All slices of a volume, side by side, are one square image (`synthbench.generators.tiles.tiling`),
and a diffusion transformer (DiT, Peebles and Xie 2023, arXiv 2212.09748) learns such images: their
pixels, or their latents under a published 2-D autoencoder. Labels reach it through its adaptive
norm; classifier-free guidance is Ho and Salimans 2022 (arXiv 2207.12598).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float32
from pydantic import BaseModel
from torch import nn

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Row
from synthbench.errors import UsageError
from synthbench.generators.contracts import Monitor, Source
from synthbench.generators.diffusion.conditioned import ConditionedSampling, chosen
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.generator import Progress, Stage
from synthbench.generators.latent.latents import LatentMean, LatentSource
from synthbench.generators.latent.stages import LatentDiffusion, latents_of
from synthbench.generators.loop import sources, train
from synthbench.generators.networks.weights import arrays, load, part, seeded
from synthbench.generators.tiles.labels import Labels, labels_of
from synthbench.generators.tiles.pictures import (
    Pixels,
    TileAutoencoder,
    autoencoder_network,
)
from synthbench.generators.tiles.sampler import TileSampler
from synthbench.generators.tiles.settings import DiTTilesSettings
from synthbench.generators.tiles.sources import TiledVolumes
from synthbench.generators.tiles.transformer import TileTransformer
from synthbench.runs import checkpoint
from synthbench.runs.folder import CheckpointWeights, Run
from synthbench.runtime.processes import is_main, processes

AUTOENCODER = "autoencoder"
"""Folder of the autoencoder inside a run folder, and the first part of its weights' names."""

NETWORK = "transformer"
"""The first part of the names of the transformer's weights."""


class DiTTiles(ConditionedSampling):
    """The tiled 2-D diffusion transformer."""

    name = "dit-tiles"
    summary = "2-D diffusion transformer (DiT, Peebles and Xie 2023) of tiled slices, with labels"
    needs = "tiny: two CPU cores, an hour; xl2: a GPU and published weights (CC BY-NC 4.0)"
    paper = "Peebles and Xie 2023, arXiv 2212.09748"
    licence = "as the training data; from published weights of DiT (preset xl2): CC BY-NC 4.0"
    settings = DiTTilesSettings

    def stages(self, settings: BaseModel) -> list[Stage]:
        """Return the network to train; the published autoencoder is not trained."""
        assert isinstance(settings, DiTTilesSettings)
        label = ((1,),) if settings.conditions else ()
        return [Stage(
            lambda: TileTransformer(settings, settings.channels),
            LatentDiffusion(Diffusion(settings)), settings,
            samples=lambda shape: (settings.sample_shape(shape), *label),
        )]  # fmt: skip

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
    ) -> None:
        """Train; the averaged weights become the run's weights.

        Parameters
        ----------
        volumes, settings, run, resume, init, progress, monitor
            As for every generator that is trained by steps.
        conditions
            Covariates of each training volume. The run's record holds their ranges and levels.

        Raises
        ------
        UsageError
            The settings name an autoencoder, and there is no run to take it from.
        """
        assert isinstance(settings, DiTTilesSettings)
        shape = volumes.space.shape
        settings.check_grid(shape)
        labels = labels_of(settings, run)
        rows = labels.rows(conditions, len(volumes))
        started = None if init is None or resume else init.load_weights()
        network = _network(settings)
        if started is not None:
            load(network, _of(started, NETWORK), str(init.folder) if init else "")
        autoencoder = None
        if settings.autoencoder is not None:
            autoencoder = _kept_autoencoder(settings, run, started)
        sampler = TileSampler(settings, _decoder(settings, shape, autoencoder), labels, shape)
        choice = chosen(settings, settings, None, None, None)

        def draw(model: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
            return sampler.draw(model, seed, sampler.drawn_row(seed), choice)

        with (
            _training(volumes, rows, sampler, run, progress) as source,
            _held_out(monitor, sampler, run) as held_out,
        ):
            objective = LatentDiffusion(Diffusion(settings))
            task = sources.Task(network, objective, source, settings, draw, held_out)
            averaged = train.train(task, run, resume=resume, monitor=monitor, progress=progress)
        if is_main():
            run.update(parameters=_count(network) + (_count(autoencoder) if autoencoder else 0))
            trained = {name: value.numpy() for name, value in averaged.items()}
            run.save_weights({**trained, **_named(autoencoder)})

    def unfinished_weights(self, run: Run) -> CheckpointWeights | None:
        """Return the weights that the newest checkpoint and the autoencoder's folder hold."""
        found = checkpoint.last_good(run)
        if found is None:
            return None
        newest, averaged = found
        if _settings(run).autoencoder is not None:
            kept = run.part(AUTOENCODER).load_weights()
            averaged = {**averaged, **{f"{AUTOENCODER}.{k}": v for k, v in kept.items()}}
        return CheckpointWeights(averaged, newest.step, newest.seconds)

    def run_settings(self, run: Run) -> tuple[DiTTilesSettings, DiTTilesSettings]:
        """Return the settings of a run, for its diffusion and for its guidance."""
        settings = _settings(run)
        return settings, settings

    def trained(self, run: Run) -> tuple[nn.Module, TileSampler]:
        """Return a run's network and what draws with it, on this process's device."""
        return _trained(run)


def _settings(run: Run) -> DiTTilesSettings:
    config = run.config
    return DiTTilesSettings(**{k: config[k] for k in DiTTilesSettings.model_fields if k in config})


def _network(settings: DiTTilesSettings) -> TileTransformer:
    """Return the network with initial weights that depend on the seed alone."""
    return seeded(settings.seed, lambda: TileTransformer(settings, settings.channels))


def _of(weights: Mapping[str, np.ndarray], first: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in weights.items() if name.startswith(f"{first}.")}


def _named(autoencoder: AutoencoderKL | None) -> dict[str, np.ndarray]:
    if autoencoder is None:
        return {}
    return {f"{AUTOENCODER}.{name}": value for name, value in arrays(autoencoder).items()}


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _kept_autoencoder(
    settings: DiTTilesSettings, run: Run, started: Mapping[str, np.ndarray] | None
) -> AutoencoderKL:
    """Return the autoencoder of this run's folder, where it is written when training begins."""
    assert settings.autoencoder is not None
    network, folder = autoencoder_network(settings.autoencoder), run.part(AUTOENCODER)
    if started is None and not folder.weights_file.is_file():
        raise UsageError(
            "dit-tiles: autoencoder: it is not trained here, so a run with published weights is "
            "needed. Make one, then start from it: synthbench train dit-tiles --pretrained "
            "facebook/DiT-XL-2-256 --accept-licence cc-by-nc-4.0 --out runs/dit; --init runs/dit"
        )
    if started is not None:
        load(network, part(started, f"{AUTOENCODER}."), "--init")
        if is_main():
            folder.folder.mkdir(exist_ok=True)
            folder.save_weights(arrays(network))
        processes().wait_for_everyone()
    else:
        load(network, folder.load_weights(), str(folder.folder))
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    return network.to(device)


def _decoder(
    settings: DiTTilesSettings, shape: tuple[int, int, int], autoencoder: AutoencoderKL | None
) -> Pixels | TileAutoencoder:
    tiling = settings.tiling(shape)
    if autoencoder is None:
        return Pixels(tiling)
    assert settings.autoencoder is not None
    return TileAutoencoder(autoencoder, settings.autoencoder.scale, tiling)


@contextmanager
def _training(
    volumes: Volumes,
    rows: Float32[np.ndarray, "n k"],
    sampler: TileSampler,
    run: Run,
    progress: Progress | None,
) -> Iterator[Source]:
    """Yield the training samples: composites, or draws of their latents."""
    settings, labels, decoder = sampler.settings, sampler.labels, sampler.decoder
    dropout = settings.condition_dropout
    if isinstance(decoder, Pixels):
        of = sources.TrainingVolumes(volumes, settings, run)
        yield TiledVolumes(of, decoder, rows, labels.none, dropout)
        return
    assert isinstance(decoder, TileAutoencoder)
    with latents_of(decoder, volumes, run, "training", progress) as cache:
        mean = LatentMean.zero(settings.sample_shape(sampler.shape), labels.width)
        none = np.full(labels.width, labels.none, np.float32) if labels.width else None
        yield LatentSource(cache.read(), mean, decoder.scale, rows, none, dropout)


@contextmanager
def _held_out(monitor: Monitor | None, sampler: TileSampler, run: Run) -> Iterator[Source | None]:
    """Yield the samples of the validation losses, or None without validation volumes."""
    if monitor is None or monitor.validation is None:
        yield None
        return
    volumes, labels, decoder = monitor.validation, sampler.labels, sampler.decoder
    rows = labels.rows(monitor.conditions, len(volumes))
    if isinstance(decoder, Pixels):
        yield TiledVolumes(sources.HeldOutVolumes(volumes), decoder, rows, labels.none)
        return
    assert isinstance(decoder, TileAutoencoder)
    with latents_of(decoder, volumes, run, "validation", None) as cache:
        mean = LatentMean.zero(sampler.settings.sample_shape(sampler.shape), labels.width)
        yield LatentSource(cache.read(), mean, decoder.scale, rows)


def _trained(run: Run) -> tuple[TileTransformer, TileSampler]:
    """Return a run's transformer and a sampler, on this process's device."""
    settings, weights = _settings(run), run.load_weights()
    labels: Labels = labels_of(settings, run)
    network = _network(settings)
    load(network, _of(weights, NETWORK), str(run.folder))
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    autoencoder = None
    if settings.autoencoder is not None:
        autoencoder = autoencoder_network(settings.autoencoder)
        load(autoencoder, part(weights, f"{AUTOENCODER}."), str(run.folder))
        autoencoder.to(device)
    shape = run.space.shape
    sampler = TileSampler(settings, _decoder(settings, shape, autoencoder), labels, shape)
    return network.to(device).eval(), sampler
