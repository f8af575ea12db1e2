"""The parts of `ddpm3d` for small training sets: residuals, shapes, and the local network."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from synthbench.generators import ddpm3d
from synthbench.generators.ddpm3d import DDPM3D, DDPM3DSettings
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.diffusion.schedule import first_timestep
from synthbench.generators.unfinished import with_weights
from synthbench.generators.volume_prior import VolumePrior
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.testing import check_generator
from synthbench.training import training
from tests.conftest import write_cohort

SHAPE = (12, 14, 12)
AFFINE = np.diag([12.0, 12.0, 12.0, 1.0])
SMALL = [
    f"space.shape={list(SHAPE)}", "width=8", "convolutions=2", "components=2", "steps=2",
    "sampler_steps=2", "timesteps=20", "checkpoint_every=1", "warmup_steps=0",
]  # fmt: skip


@pytest.fixture
def cohort(make_cohort):
    return make_cohort("real", n=4, shape=SHAPE, affine=AFFINE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    real = write_cohort(folder / "real", n=4, shape=SHAPE, affine=AFFINE)
    return training.train("ddpm3d", out=folder / "run", real=real, preset="tiny", overrides=SMALL)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run, which the test may change."""
    return Run.open(shutil.copytree(trained.folder, tmp_path / "run"))


def test_the_contract_holds(cohort, tmp_path):
    settings = configuration.resolve("ddpm3d", preset="tiny", overrides=SMALL)[1]
    (tmp_path / "run").mkdir()
    check_generator(
        DDPM3D(), read_cohort(cohort).volumes(), tmp_path / "run", settings.model_dump()
    )


def test_the_loss_is_that_of_karras_et_al():
    """Their equations 7 and 8 and table 1, for data of standard deviation 1.

    The squared error of the denoised volume D(x) times 1 / c_out^2, c_out = sigma / sqrt(1 +
    sigma^2). D is the Wiener filter's estimate less c_out times the network's correction, which is
    one of the velocity. The mean is taken over the voxels of the head.
    """
    settings = DDPM3DSettings(
        steps=1, schedule="lognormal", prediction="v", residual=True, timesteps=50
    )
    volumes = np.random.default_rng(0).random((5, 4, 4, 4), dtype=np.float32)
    volumes[:, :, 3, 3] = 0
    prior = VolumePrior.fit(volumes, most=0, flip=False)
    objective = ddpm3d.VolumeDiffusion(Diffusion(settings), False, True, prior)

    class Network(torch.nn.Module):
        def forward(self, x, t):
            return x[:, :1] * 0.3 + x[:, 1:2] - x[:, 2:3].sin() + x[:, 3:4] * x[:, 4:]

    network = Network()

    t, noise = torch.tensor([4, 41]), torch.randn(2, 1, 4, 4, 4)
    clean = torch.from_numpy(volumes[:2])[:, None]
    found = objective.losses(network, clean, t, noise)
    residual = prior.residual(clean)
    alpha_bar = objective.diffusion.alphas_cumprod[t]
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt().float()[:, None, None, None, None]
    x = residual + sigma * noise * prior.head
    c_in, c_out = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    filtered = prior.wiener(x, torch.ones(1), sigma)
    mean, spread = prior.mean.expand_as(x), prior.spread.expand_as(x)
    inputs = [c_in * x, filtered, 4 * (mean + spread * filtered) - 2, 4 * mean - 2, 4 * spread]
    denoised = filtered - c_out * network(torch.cat(inputs, dim=1), t)
    error = ((denoised - residual) / c_out)[:, 0, prior.head[0, 0]]
    assert torch.allclose(found, error.square().mean(dim=1), rtol=1e-4)


def test_samples_begin_with_a_shape_of_the_prior(run):
    """At the first call the state, less its noise, is the combination of components."""
    first = next(DDPM3D().trajectory(run, 3, sampler="heun", steps=2, frames=1))
    settings = ddpm3d._settings(run)
    prior = VolumePrior.of(run.load_weights())
    draws = torch.Generator().manual_seed(3)
    shape, noise = prior.draw(draws), torch.randn((1, 1, *prior.shape), generator=draws)
    noise = noise * prior.head
    ratio = Diffusion(settings, settings.first_noise)
    alpha_bar = float(ratio.alphas_cumprod[first.timestep])
    state = np.sqrt(alpha_bar) * shape + np.sqrt(1 - alpha_bar) * noise
    assert np.allclose(first.state, prior.volume(state)[0, 0].numpy(), atol=1e-5)
    assert np.sqrt((1 - alpha_bar) / alpha_bar) == pytest.approx(settings.start_noise, rel=0.2)


def test_outside_the_box_of_all_heads_samples_are_zero(run):
    prior, volume = VolumePrior.of(run.load_weights()), next(DDPM3D().sample(run, [0]))
    assert volume.shape == SHAPE
    inside = prior.uncrop(torch.ones(1, 1, *prior.shape))[0, 0].numpy() > 0
    assert not volume[~inside].any()
    assert not ((volume > 0) & (volume < 0.02)).any()


def test_each_sampler_begins_at_the_shape(run):
    """A sampler that takes all steps takes those from the first noise level down."""
    settings = ddpm3d._settings(run)
    first = first_timestep(settings, "ddpm", settings.start_noise)
    assert first < settings.timesteps - 1
    assert DDPM3D().sampling(run, "ddpm", None) == {"sampler": "ddpm", "steps": first + 1}
    with pytest.raises(UsageError, match=f"takes 1 to {first + 1} here"):
        DDPM3D().sampling(run, "ddim", 20)
    volumes = [next(DDPM3D().sample(run, [0], sampler=s)) for s in ("ddpm", "ddim", "heun")]
    assert np.isfinite(volumes).all()


def test_samples_that_begin_wider_are_more_varied(run):
    """The network is nearly untrained: what a sample begins with is what it ends with."""
    narrow = np.stack(list(DDPM3D().sample(run, range(6))))
    run.write_config({**run.config, "start_spread": 3})
    wide = np.stack(list(DDPM3D().sample(run, range(6))))
    assert wide.var(axis=0).sum() > 1.2 * narrow.var(axis=0).sum()


def test_an_unfinished_run_is_sampled_with_its_prior(run):
    """Without the file of weights, the newest checkpoint and the prior give the same volumes."""
    finished = next(DDPM3D().sample(run, [5]))
    run.weights_file.unlink()
    unfinished = with_weights(Run.open(run.folder), DDPM3D())
    assert unfinished.unfinished is not None
    assert unfinished.unfinished.step == 2
    assert np.allclose(next(DDPM3D().sample(unfinished, [5])), finished, atol=1e-6)


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(cohort, tmp_path, run):
    part = training.train(
        "ddpm3d", out=tmp_path / "part", real=cohort, preset="tiny",
        overrides=[*SMALL, "steps=1", "learning_rate_schedule=constant", "final_learning_rate=0"],
    )  # fmt: skip
    whole = training.train(
        "ddpm3d", out=tmp_path / "whole", real=cohort, preset="tiny",
        overrides=[*SMALL, "learning_rate_schedule=constant", "final_learning_rate=0"],
    )  # fmt: skip
    on = training.train("ddpm3d", out=part.folder, resume=True, overrides=["steps=2"])
    ends, goes_on = whole.load_weights(), on.load_weights()
    assert all(np.array_equal(ends[name], goes_on[name]) for name in ends)


def test_a_network_starts_on_another_cohort_and_grid(run, make_cohort, tmp_path):
    """It knows no grid; the mean and the shapes are those of the new cohort."""
    other = make_cohort("other", n=3, seed=9, shape=(16, 14, 16), affine=AFFINE)
    new = training.train(
        "ddpm3d", out=tmp_path / "new", real=other, config=run.folder / "config.yaml",
        init=run.folder, overrides=["steps=1", "learning_rate=1.0e-12", "final_learning_rate=0",
                                    "space.shape=[16,14,16]"],
    )  # fmt: skip
    old, started = run.load_weights(), new.load_weights()
    network = [name for name in old if not name.startswith("prior.")]
    assert all(np.allclose(old[name], started[name], atol=1e-9) for name in network)
    assert started["prior.mean"].shape == (16, 14, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"components": 3}, "Set residual=true"),
        ({"residual": True, "centred": True}, "Set centred=false"),
        ({"width": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        DDPM3DSettings(steps=1, **changes)


def test_the_local_network_needs_even_sides():
    settings = DDPM3DSettings(steps=1, network="local")
    settings.check_grid((46, 54, 46))
    with pytest.raises(UsageError, match=r"divisible by 2.*space.shape=\[46, 56, 46\]"):
        settings.check_grid((46, 55, 46))
