from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from synthbench.errors import RunError, UsageError
from synthbench.generators import ddpm3d
from synthbench.generators.ddpm3d import DDPM3DSettings
from synthbench.generators.networks.unet import PatchedUNet
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import read_sidecar
from synthbench.sampling import sampling
from synthbench.training import training
from synthbench.training.dry_run import dry_run
from tests.conftest import write_cohort

pytestmark = pytest.mark.slow

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
        ({"attention": (False,)}, "one value per level"),
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
    _, own = configuration.resolve("ddpm3d", preset="paper")
    assert isinstance(own, DDPM3DSettings)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in PatchedUNet(own).parameters())
    assert parameters == pytest.approx(47.5e6, rel=0.01)
    assert (own.timesteps, own.prediction, own.epochs) == (1000, "epsilon", 400)
    own.check_grid((84, 128, 84))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return training.train(
        "ddpm3d",
        out=folder / "run",
        real=write_cohort(folder / "real", n=4),
        preset="tiny-unet",
        overrides=[
            "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]",
            "head_channels=[8,8]", "norm_groups=4", "steps=2", "timesteps=8", "beta_end=0.9",
            "sampler_steps=4",
        ],
    )  # fmt: skip


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run, which the test may change."""
    return Run.open(shutil.copytree(trained.folder, tmp_path / "run"))


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


def test_a_trajectory_ends_at_the_volume_that_is_sampled(run):
    """DDIM's last step goes to the clean volume predicted there: that is what `sample` clips."""
    plugin = ddpm3d.DDPM3D()
    frames = list(plugin.trajectory(run, 3, sampler="ddim", steps=4, frames=8))
    assert [frame.step for frame in frames] == [0, 1, 2, 3]
    timesteps = [frame.timestep for frame in frames]
    assert timesteps == sorted(timesteps, reverse=True)
    volume = next(plugin.sample(run, [3], sampler="ddim", steps=4))
    assert np.allclose(frames[-1].clean, volume, atol=1e-5)
    fewer = list(plugin.trajectory(run, 3, sampler="ddim", steps=8, frames=3))
    assert [frame.step for frame in fewer] == [0, 4, 7]


def test_in_16_bits_the_volumes_are_those_of_32_but_for_rounding(run, tmp_path):
    """A result of the network is rounded to 1/256 of itself; volumes are in [0, 1]."""
    whole, rounded = tmp_path / "whole", tmp_path / "rounded"
    files = {
        folder: sampling.sample(run, 2, folder, precision=precision)
        for folder, precision in ((whole, None), (rounded, "bf16"))
    }
    voxels = {f: np.stack([nib.load(file).get_fdata() for file in files[f]]) for f in files}
    apart = np.abs(voxels[whole] - voxels[rounded])
    assert 0 < apart.max() < 0.1
    assert apart.mean() < 0.01
    assert "precision" not in read_sidecar(files[whole][0])
    assert read_sidecar(files[rounded][0])["precision"] == "bf16"
    assert "| precision | bf16 |" in (rounded / "README.md").read_text(encoding="utf-8")

    # A folder holds volumes of one precision.
    with pytest.raises(UsageError, match=r"another precision \(bf16, not fp32\)"):
        sampling.sample(run, 3, rounded)
    with pytest.raises(UsageError, match=r"another precision \(fp32, not bf16\)"):
        sampling.sample(run, 3, whole, precision="bf16")
    assert sampling.sample(run, 2, whole, precision="fp32") == files[whole]
    with pytest.raises(UsageError, match="--precision: must be fp32 or bf16; found fp16"):
        sampling.sample(run, 1, tmp_path / "half", precision="fp16")
    assert not (tmp_path / "half").exists()

    frames = list(
        ddpm3d.DDPM3D().trajectory(run, 1, sampler=None, steps=None, frames=4, precision="bf16")
    )
    assert np.allclose(frames[-1].clean, voxels[rounded][1], atol=1e-4)


def test_a_run_of_an_earlier_version_is_read_with_the_defaults_of_its_day(run):
    """Its configuration lacks settings that are newer; without them nothing was different."""
    before = next(ddpm3d.DDPM3D().sample(run, [0]))
    config = run.config
    for newer in ("schedule", "loss_weighting", "gradient_checkpointing", "flip", "freeze"):
        del config[newer]
    run.write_config(config)
    assert np.array_equal(next(ddpm3d.DDPM3D().sample(run, [0])), before)


def test_frozen_parts_stay_as_they_were(run, make_cohort, tmp_path):
    new = training.train(
        "ddpm3d", out=tmp_path / "new", real=make_cohort("rare", n=2, seed=9),
        config=run.folder / "config.yaml", init=run.folder,
        overrides=["steps=2", "freeze=[unet.down_blocks,unet.conv_in]"],
    )  # fmt: skip
    old, now = run.load_weights(), new.load_weights()
    frozen = {k for k in old if k.startswith(("unet.down_blocks", "unet.conv_in"))}
    assert frozen
    assert all(np.array_equal(old[k], now[k]) for k in frozen)
    assert any(not np.array_equal(old[k], now[k]) for k in old.keys() - frozen)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("freeze=[unet.dwon]", r"no parameter's name starts with 'unet.dwon'.*unet.down_blocks"),
        ("freeze=[down_blocks]", r"'down_blocks'. Did you mean unet.down_blocks"),
        ("freeze=[quux]", r"Names start with: unet.conv_in, unet.down_blocks, unet.middle_block"),
        ("freeze=[unet]", "every parameter is frozen"),
        ("space.shape=[15,16,16]", r"space.shape=\[16, 16, 16\]"),
    ],
)
def test_what_the_network_cannot_be_is_refused_before_anything_is_written(
    override, words, make_cohort, tmp_path
):
    real, out = make_cohort("real", n=2), tmp_path / "run"
    overrides = [
        "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]",
        "head_channels=[8,8]", "norm_groups=4", "steps=1", override,
    ]  # fmt: skip
    with pytest.raises(UsageError, match=words):
        training.train("ddpm3d", out=out, real=real, preset="tiny-unet", overrides=overrides)
    assert not out.exists()
    with pytest.raises(UsageError, match=words):
        dry_run("ddpm3d", real=real, preset="tiny-unet", overrides=overrides)
