import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler as DiffusersDDPM
from pydantic import ValidationError

from synthbench import training
from synthbench.errors import RunError, UsageError
from synthbench.generators import ddpm3d
from synthbench.generators.ddpm3d import DDPM3DSettings, PatchedUNet

TINY = {
    "channels": (8, 16),
    "attention": (False, True),
    "head_channels": (8, 8),
    "res_blocks": 1,
    "norm_groups": 4,
    "steps": 1,
}


def settings(**changes):
    return DDPM3DSettings(**{**TINY, **changes})


class Oracle(torch.nn.Module):
    """Predicts, from x_t = sqrt(a) x_0 + sqrt(1 - a) e and a known x_0, what a network should."""

    def __init__(self, clean, alphas, prediction):
        super().__init__()
        self.clean, self.alphas, self.prediction = clean, alphas, prediction

    def forward(self, x, timesteps):
        a = self.alphas[timesteps].reshape(-1, 1, 1, 1, 1)
        if self.prediction == "sample":
            return self.clean
        noise = (x - a.sqrt() * self.clean) / (1 - a).sqrt()
        return (
            noise
            if self.prediction == "epsilon"
            else a.sqrt() * noise - (1 - a).sqrt() * self.clean
        )


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 50), ("ddim", 7)])
def test_samplers_recover_what_a_perfect_network_knows(prediction, sampler, steps):
    """With the true noise predicted at every step, both samplers must end at x_0 exactly.

    The last step of either sets the noise level to zero, where x is the predicted x_0.
    """
    chosen = settings(timesteps=50, prediction=prediction, beta_end=0.2)
    clean = torch.rand(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    alphas = ddpm3d._noising(chosen).alphas_cumprod
    denoise = {"ddpm": ddpm3d._ddpm, "ddim": ddpm3d._ddim}[sampler]
    draws = torch.Generator().manual_seed(1)
    start = torch.randn(clean.shape, generator=draws)
    end = denoise(Oracle(clean, alphas, prediction), chosen, start, steps, draws)
    assert torch.allclose(end, clean, atol=1e-4)


def test_the_noise_schedule_is_scaled_linear():
    """beta_t runs linearly in its root; diffusers' scheduler is the independent implementation."""
    chosen = settings()
    other = DiffusersDDPM(1000, beta_start=0.0005, beta_end=0.0195, beta_schedule="scaled_linear")
    assert torch.allclose(ddpm3d._noising(chosen).alphas_cumprod, other.alphas_cumprod, atol=1e-6)


def test_space_to_depth_loses_nothing():
    """With the network replaced by the identity, folding and unfolding returns the volume."""
    model = PatchedUNet(settings(patch=2))

    class Identity(torch.nn.Module):
        def forward(self, x, timesteps):
            assert x.shape == (1, 8, 4, 5, 6)
            return x

    model.unet = Identity()
    x = torch.rand(1, 1, 8, 10, 12)
    assert torch.equal(model(x, torch.tensor([3])), x)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    a = ddpm3d._initial(settings()).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    b = ddpm3d._initial(settings()).state_dict()
    c = ddpm3d._initial(settings(seed=3)).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": (8, 18)}, "18 is not divisible by norm_groups 4; the nearest that is: 16"),
        ({"attention": (False,)}, "one value a level"),
        ({"head_channels": (8, 5)}, "5 does not divide the level's 16"),
        ({"steps": None}, "exactly one of steps and epochs"),
        ({"epochs": 3}, "exactly one of steps and epochs"),
        ({"chanels": (8, 16)}, "chanels"),
        ({"learning_rate": -1}, "greater than 0"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


def test_an_indivisible_grid_is_refused_with_the_nearest():
    """Patch 2 and two levels need multiples of 4: 45 -> 44, 52 fits, 47 -> 48."""
    with pytest.raises(UsageError, match=r"space.shape=\[44, 52, 48\]"):
        settings(patch=2).check_grid((45, 52, 47))


def test_the_paper_preset_is_the_papers_model():
    """47.5 M parameters (FACTS: the paper's U-Net), T = 1000, epsilon, Adam, 400 epochs."""
    _, own = training.resolve("ddpm3d", preset="paper")
    assert isinstance(own, DDPM3DSettings)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in PatchedUNet(own).parameters())
    assert parameters == pytest.approx(47.5e6, rel=0.01)
    assert (own.timesteps, own.prediction, own.epochs) == (1000, "epsilon", 400)
    own.check_grid((84, 128, 84))


@pytest.fixture
def run(make_cohort, tmp_path):
    return training.train(
        "ddpm3d",
        out=tmp_path / "run",
        real=make_cohort("real", n=4),
        preset="tiny",
        overrides=[
            "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]",
            "head_channels=[8,8]", "norm_groups=4", "steps=2", "timesteps=8", "sampler_steps=4",
        ],
    )  # fmt: skip


def test_samplers_are_chosen_and_recorded(run, tmp_path):
    plugin = ddpm3d.DDPM3D()
    assert plugin.sampling(run, "ddpm", None) == {"sampler": "ddpm", "steps": 8}
    assert plugin.sampling(run, "ddim", 4) == {"sampler": "ddim", "steps": 4}
    with pytest.raises(UsageError, match="--sampler ddim --steps 5"):
        plugin.sampling(run, "ddpm", 5)
    with pytest.raises(UsageError, match="'ddmp' is unknown"):
        plugin.sampling(run, "ddmp", None)
    with pytest.raises(UsageError, match="1 to 8"):
        plugin.sampling(run, "ddim", 9)
    all_steps, few = (next(plugin.sample(run, [0], sampler=s)) for s in ("ddpm", "ddim"))
    assert not np.array_equal(all_steps, few)


def test_init_starts_from_the_other_runs_weights(run, make_cohort, tmp_path):
    """With a learning rate of nearly zero, the new run's weights are the old run's."""
    new = training.train(
        "ddpm3d", out=tmp_path / "new", real=make_cohort("rare", n=2, seed=9),
        config=run.folder / "config.yaml", init=run.folder,
        overrides=["steps=1", "learning_rate=1.0e-12"],
    )  # fmt: skip
    old, started = run.load_weights(), new.load_weights()
    assert all(np.allclose(old[k], started[k], atol=1e-9) for k in old)
    assert new.record["initialised_from"] == run.record["weights_sha256"]


def test_init_refuses_another_network(run, make_cohort, tmp_path):
    with pytest.raises(RunError, match="do not fit this network"):
        training.train(
            "ddpm3d", out=tmp_path / "new", real=make_cohort("rare", n=2, seed=9),
            config=run.folder / "config.yaml", init=run.folder, overrides=["channels=[8,32]"],
        )  # fmt: skip
