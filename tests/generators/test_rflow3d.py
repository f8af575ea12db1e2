"""`rflow3d`: flows whose velocity is known, noise levels, and a run from end to end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from scipy.special import logit

from synthbench.errors import UsageError
from synthbench.generators import rflow3d
from synthbench.generators.rflow3d import RectifiedFlow, RFlow3D, RFlow3DSettings
from synthbench.training import training
from tests.generators.fitting import drawn

SHAPE = (8, 8, 8)
SMALL = {
    "channels": (4, 8), "attention": (False, False), "head_channels": (4, 8), "res_blocks": 1,
    "norm_groups": 4, "steps": 1,
}  # fmt: skip
KINDS = [
    (bands, prediction) for bands in ("voxels", "haar") for prediction in ("velocity", "sample")
]


def flow(**changes):
    return RectifiedFlow(RFlow3DSettings(**{**SMALL, **changes}))


class OneVolume(torch.nn.Module):
    """The exact network of a data set of one volume: its clean state never depends on the noise."""

    def __init__(self, of, volume):
        super().__init__()
        self.of, self.clean = of, of.folded(volume)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, state, timesteps):
        if self.of.settings.prediction == "sample":
            return self.clean.expand_as(state)
        s = timesteps[:, None, None, None, None] / self.of.timesteps
        return (self.clean - state) / s


def volumes(n=1, seed=0):
    return torch.rand((n, 1, *SHAPE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("bands", "prediction"), KINDS)
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_with_the_exact_velocity_every_seed_ends_at_the_volume(bands, prediction, steps):
    of, volume = flow(bands=bands, prediction=prediction), volumes()
    for seed in (0, 1):
        found = of.draw(OneVolume(of, volume), SHAPE, seed, steps)
        assert np.allclose(found, volume[0, 0], atol=1e-4)


@pytest.mark.parametrize(("bands", "prediction"), KINDS)
def test_the_loss_of_the_exact_network_is_zero(bands, prediction):
    of, volume = flow(bands=bands, prediction=prediction), volumes()
    clean, noise = volume.expand(4, -1, -1, -1, -1), torch.randn(4, 1, *SHAPE)
    losses = of.losses(OneVolume(of, volume), clean, torch.tensor([1, 300, 700, 998]), noise)
    assert losses.shape == (4,)
    assert torch.allclose(losses, torch.zeros(4), atol=1e-5)


def test_losses_by_hand():
    """A network that returns 0: the velocity's error is mean (x_0 - e)^2, the volume's x_0^2 / s^2.

    The orthonormal transform keeps both, but for the low band, which is divided by 3.
    """
    clean, noise, t = volumes(2), torch.randn(2, 1, *SHAPE), torch.tensor([250, 900])
    nothing = lambda state, _: torch.zeros_like(state)  # noqa: E731
    centred = 2 * clean - 1
    found = flow().losses(nothing, clean, t, noise)
    assert torch.allclose(found, (centred - noise).square().flatten(1).mean(1), rtol=1e-5)
    of = flow(prediction="sample")
    s = of.noise_levels(t)
    expected = centred.square().flatten(1).mean(1) / s.square()
    assert torch.allclose(of.losses(nothing, clean, t, noise), expected, rtol=1e-5)


def test_the_network_is_shown_the_straight_line_and_its_place_on_it():
    seen = {}

    def network(state, timesteps):
        seen["state"], seen["timesteps"] = state, timesteps
        return torch.zeros_like(state)

    of, clean, noise = flow(), volumes(3), torch.randn(3, 1, *SHAPE)
    t = torch.tensor([0, 500, 999])
    of.losses(network, clean, t, noise)
    s = of.noise_levels(t)[:, None, None, None, None]
    assert torch.allclose(seen["state"], (1 - s) * (2 * clean - 1) + s * noise, atol=1e-5)
    assert torch.allclose(seen["timesteps"], 1000 * of.noise_levels(t))


def test_noise_levels_are_logit_normal_or_uniform():
    t = torch.arange(1000)
    levels = flow(time_mean=0.4, time_deviation=1.5).noise_levels(t).double().numpy()
    assert stats.kstest(logit(levels), "norm", args=(0.4, 1.5)).statistic < 0.001
    assert np.all(np.diff(levels) > 0)
    uniform = flow(time_sampling="uniform").noise_levels(t).double().numpy()
    assert stats.kstest(uniform, "uniform").statistic < 0.001


def test_white_noise_stays_white_in_bands_and_bands_have_the_range_of_voxels():
    of = flow(bands="haar")
    noise = of.changed(torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)))
    covariance = np.cov(noise[0].flatten(1).double().numpy())
    assert np.allclose(covariance, np.eye(8), atol=0.08)
    ends = of.folded(torch.stack([torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)]))
    assert ends.abs().max() == pytest.approx(8**0.5 / 3, rel=1e-5)
    volume = volumes()
    assert torch.allclose(of.unfolded(of.folded(volume)), volume, atol=1e-6)


def test_a_haar_grid_needs_one_factor_of_two_more():
    assert RFlow3DSettings(**SMALL, patch=1).factor == 2
    own = RFlow3DSettings(**SMALL, patch=1, bands="haar")
    assert own.factor == 4
    with pytest.raises(UsageError, match=r"space.shape=\[12, 8, 8\]"):
        own.check_grid((11, 8, 8))
    with pytest.raises(ValidationError):
        RFlow3DSettings(**SMALL, bands="wavelets")


def test_a_run_in_haar_bands_samples_and_follows_its_way(make_cohort, tmp_path):
    overrides = [
        "space.shape=[16,16,16]", "channels=[4,8]", "attention=[false,false]",
        "head_channels=[4,8]", "norm_groups=4", "steps=2", "sampler_steps=3",
    ]  # fmt: skip
    run = training.train(
        "rflow3d", out=tmp_path / "run", real=make_cohort("real", n=3, shape=(16, 16, 16)),
        preset="haar", overrides=overrides,
    )  # fmt: skip
    assert run.config["bands"] == "haar"
    plugin = RFlow3D()
    assert plugin.sampling(run, None, None) == {"sampler": "euler", "steps": 3}
    for sampler, steps in (("ddim", None), (None, 0), (None, 1001)):
        with pytest.raises(UsageError):
            plugin.sampling(run, sampler, steps)
    frames = list(plugin.trajectory(run, 1, sampler=None, steps=4, frames=9))
    assert [frame.timestep for frame in frames] == [999, 749, 499, 249]
    last = next(plugin.sample(run, [1], steps=4))
    assert np.allclose(frames[-1].clean, last, atol=1e-5)
    assert drawn(run, 2).shape == (2, 16, 16, 16)


def test_initial_weights_depend_on_the_seed_alone():
    one, again, other = (
        rflow3d._initial(RFlow3DSettings(**SMALL, seed=seed)).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_more_steps_than_noise_levels_are_refused_before_the_training():
    RFlow3DSettings(**SMALL, timesteps=8, sampler_steps=8)
    with pytest.raises(ValidationError, match=r"sampler_steps: euler takes 1 to 8.*nearest: 8"):
        RFlow3DSettings(**SMALL, timesteps=8, sampler_steps=9)
