"""Runs that stopped, and what can be done with them: sample, start from, change, prolong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import RunError, UsageError
from synthbench.generators.ddpm3d import DDPM3D, DDPM3DSettings
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.loop import train as loop
from synthbench.generators.loop.settings import LoopSettings, StepSettings
from synthbench.generators.unfinished import with_weights
from synthbench.runs.folder import Run
from synthbench.sampling import sampling
from synthbench.training import training
from tests.generators.loop.short_runs import losses, rows, same_weights

pytestmark = pytest.mark.slow

TINY = [
    "space.shape=[8,8,8]", "channels=[4]", "attention=[false]", "head_channels=[4]",
    "res_blocks=1", "norm_groups=2", "patch=1", "steps=6", "checkpoint_every=2",
    "learning_rate=1.0e-3", "warmup_steps=0", "sampler=ddim", "sampler_steps=1",
]  # fmt: skip


@pytest.fixture
def real(make_cohort):
    return make_cohort("real", n=4, shape=(8, 8, 8), affine=np.diag([8.0, 8, 8, 1]))


def train(real: Path, out: Path, *extra: str, **options: Any) -> Run:
    return training.train(
        "ddpm3d", out=out, real=real, preset="tiny-unet", overrides=[*TINY, *extra], accept=["few"],
        **options,
    )  # fmt: skip


def resumed(out: Path, *changes: str, **options: Any) -> Run:
    return training.train(out=out, resume=True, overrides=changes, **options)


def stopped(real: Path, out: Path, at: int, *extra: str) -> Run:
    """A run that ended as a kill would end it, after so many steps."""

    def progress(done: int, total: int, words: str) -> None:
        if done == at and words.startswith("loss"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(real, out, *extra, progress=progress)
    return Run.open(out)


def poisoned(monkeypatch: pytest.MonkeyPatch, when: Any) -> None:
    """Spoil the losses of the calls, counted from 1, for which `when` is true."""
    original, calls = Diffusion.losses, 0

    def losses_of(self: Diffusion, network: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        spoilt = when(calls, network)
        return original(self, network, *arguments) * (math.nan if spoilt else 1)

    monkeypatch.setattr(Diffusion, "losses", losses_of)


# ---------------------------------------------------------------- sampling and starting


def test_a_stopped_run_is_sampled_from_its_newest_checkpoint(real, tmp_path):
    """Volumes and sha256 are those of a run that was planned to end at that step."""
    run = stopped(real, tmp_path / "stopped", 5)
    said: list[str] = []
    (drawn,) = sampling.sample(run.folder, 1, tmp_path / "a", log=said.append)
    assert any("step 4 " in line for line in said)
    train(real, tmp_path / "planned", "steps=4")
    (expected,) = sampling.sample(tmp_path / "planned", 1, tmp_path / "b")
    assert drawn.read_bytes() == expected.read_bytes()
    here, there = (
        json.loads(
            file.with_name(file.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8")
        )
        for file in (drawn, expected)
    )
    assert here["unfinished_at_step"] == 4
    assert "unfinished_at_step" not in there
    assert here["weights_sha256"] == there["weights_sha256"]
    assert not run.weights_file.exists()


def test_a_run_starts_from_a_stopped_one(real, tmp_path):
    stopped(real, tmp_path / "stopped", 5)
    said: list[str] = []
    run = train(real, tmp_path / "new", "steps=1", init=tmp_path / "stopped", log=said.append)
    train(real, tmp_path / "planned", "steps=4")
    other = train(real, tmp_path / "other", "steps=1", init=tmp_path / "planned")
    assert same_weights(run.folder, other.folder)
    assert run.record["initialised_from"] == Run.open(tmp_path / "planned").weights_sha256
    assert any(line.startswith("--init: ") and "step 4" in line for line in said)


def test_without_a_checkpoint_the_next_step_is_named_and_nothing_written(real, tmp_path):
    stopped(real, tmp_path / "stopped", 1)
    for use in (
        lambda: sampling.sample(tmp_path / "stopped", 1, tmp_path / "s"),
        lambda: train(real, tmp_path / "new", init=tmp_path / "stopped"),
    ):
        with pytest.raises(RunError, match=r"no checkpoint yet.*--resume"):
            use()
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "s").exists()


def test_weights_that_are_not_finite_are_passed_over(real, tmp_path):
    run = stopped(real, tmp_path / "stopped", 5)
    _spoil(run, 4)
    found = with_weights(run, DDPM3D()).unfinished
    assert found is not None
    assert found.step == 2


def _spoil(run: Run, step: int) -> None:
    """Make one averaged weight NaN, in a checkpoint that is complete by its hashes."""
    from safetensors.numpy import save_file

    from synthbench.runtime.files import sha256_file

    folder = run.checkpoints / f"step-{step:08d}"
    arrays = load_file(folder / "ema.safetensors")
    arrays[next(iter(arrays))].ravel()[0] = np.nan
    save_file(arrays, folder / "ema.safetensors")
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    state["sha256"]["ema"] = sha256_file(folder / "ema.safetensors")
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def test_voxels_that_are_not_finite_are_written_as_zero_and_marked(real, tmp_path, monkeypatch):
    run = train(real, tmp_path / "run", "steps=1")
    volume = np.full((8, 8, 8), 0.5, np.float32)
    volume[:2] = np.nan
    monkeypatch.setattr(DDPM3D, "sample", lambda *a, **k: iter([volume]))
    (file,) = sampling.sample(run, 1, tmp_path / "s")
    sidecar = json.loads(
        file.with_name(file.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8")
    )
    assert sidecar["not_finite"] == 2 * 8 * 8


# ---------------------------------------------------------------- after a loss that is not finite


def test_after_a_nan_training_goes_on_with_a_lower_rate(real, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        poisoned(patch, lambda calls, network: calls == 4)
        with pytest.raises(RunError, match=r"step 4: the loss is nan.*--set learning_rate=0.0001"):
            train(real, tmp_path / "run")
    run = resumed(tmp_path / "run", "learning_rate=1.0e-4")
    assert run.record["finished"]
    assert run.record["changes"] == [
        {"step": 3, "setting": "learning_rate", "before": 1e-3, "after": 1e-4}
    ]
    assert run.config["learning_rate"] == 1e-4
    assert list(losses(run.folder)) == [1, 2, 3, 4, 5, 6]
    card = (run.folder / "README.md").read_text(encoding="utf-8").replace("\\", "")
    assert "learning_rate from 0.001 to 0.0001 at step 3" in card


def test_a_state_that_has_diverged_is_left_for_the_checkpoint_before(real, tmp_path, monkeypatch):
    """Any loss with the weights of step 3 or later is NaN: only step 2 can be gone on from."""
    reference = stopped(real, tmp_path / "reference", 3, "checkpoint_every=1")
    bad = load_file(reference.checkpoints / "step-00000003" / "model.safetensors")
    name = next(iter(bad))

    def diverged(calls: int, network: Any) -> bool:
        weights = dict(network.named_parameters())[name]
        return torch.equal(weights.detach(), torch.from_numpy(bad[name]))

    poisoned(monkeypatch, diverged)
    with pytest.raises(RunError, match="step 4"):
        train(real, tmp_path / "run")
    with pytest.raises(RunError, match="step 4"):
        resumed(tmp_path / "run")  # step 3 is reached again: nothing has changed
    run = resumed(tmp_path / "run", "learning_rate=1.0e-4")
    assert run.record["finished"]
    assert (run.checkpoints / "diverged-00000003").is_dir()
    assert list(losses(run.folder)) == [1, 2, 3, 4, 5, 6]


# ---------------------------------------------------------------- changes on resume


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("batch_size=2", "samples of the steps so far"),
        ("seed=1", "samples of the steps so far"),
        ("channels=[8]", "weights so far"),
        ("prediction=v", "weights so far"),
        ("space.shape=[16,16,16]", "weights so far"),
        ("freeze=[unet.out]", "optimizer's state"),
        ("steps=2", "has done 4 steps"),
        ("learning_rte=1", "did you mean 'learning_rate'"),
    ],
)
def test_other_settings_are_refused_by_name(change, why, real, tmp_path):
    run = stopped(real, tmp_path / "run", 5)
    before = (run.folder / "config.yaml").read_bytes(), (run.folder / "run.json").read_bytes()
    with pytest.raises(UsageError, match=why):
        resumed(run.folder, change)
    after = (run.folder / "config.yaml").read_bytes(), (run.folder / "run.json").read_bytes()
    assert before == after


def test_a_generator_without_steps_has_nothing_to_change(make_cohort, tmp_path):
    real = make_cohort("real", n=4, shape=(8, 8, 8), affine=np.diag([8.0, 8, 8, 1]))
    run = training.train("noise", out=tmp_path / "run", real=real, accept=["few"])
    with pytest.raises(UsageError, match="not trained by steps"):
        resumed(run.folder, "seed=3")


def test_the_same_value_is_no_change(real, tmp_path):
    stopped(real, tmp_path / "run", 5)
    run = resumed(tmp_path / "run", "learning_rate=1.0e-3")
    assert "changes" not in run.record


# ---------------------------------------------------------------- prolonging


def test_a_prolonged_run_is_the_run_that_was_planned_longer(real, tmp_path):
    """To the bit, where the learning rate does not depend on the number of steps."""
    short = train(real, tmp_path / "short", "steps=4")
    assert short.record["finished"]
    longer = resumed(short.folder, "steps=6")
    planned = train(real, tmp_path / "planned", "steps=6")
    assert same_weights(longer.folder, planned.folder)
    assert losses(longer.folder) == losses(planned.folder)
    assert longer.record["steps"] == longer.record["weights_step"] == 6
    assert longer.record["finished"]
    with pytest.raises(UsageError, match="has done 6 steps"):
        resumed(longer.folder, "checkpoint_every=3")


def test_a_prolonged_run_that_stops_is_sampled_from_its_checkpoint(real, tmp_path):
    train(real, tmp_path / "run", "steps=2")

    def progress(done: int, total: int, words: str) -> None:
        if done == 5 and words.startswith("loss"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        resumed(tmp_path / "run", "steps=6", progress=progress)
    found = with_weights(Run.open(tmp_path / "run"), DDPM3D()).unfinished
    assert found is not None
    assert found.step == 4


# ---------------------------------------------------------------- the learning rate


def settings(**values: Any) -> StepSettings:
    return StepSettings(steps=10, learning_rate=1.0, **values)


def test_the_learning_rate_rises_and_falls():
    """Against PyTorch's own schedules, warm-up apart."""
    falling = settings(learning_rate_schedule="cosine", final_learning_rate=0.1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9, eta_min=0.1)
    for step in range(10):
        assert falling.learning_rate_at(step, 10) == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
    linear = settings(learning_rate_schedule="linear", warmup_steps=3)
    found = [linear.learning_rate_at(step, 10) for step in range(10)]
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[3:] == pytest.approx(np.linspace(1, 0, 7))
    assert [settings().learning_rate_at(step, 10) for step in (0, 5, 9)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [{"final_learning_rate": 0.1}, {"learning_rate_schedule": "linear", "final_learning_rate": 2}],
)
def test_a_final_rate_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="final_learning_rate"):
        settings(**wrong)


# ---------------------------------------------------------------- early stopping


def test_training_stops_early_and_keeps_the_lowest_loss(real, tmp_path, monkeypatch):
    """Smoothed losses are made to fall until step 8 and rise after it; patience is 4 steps."""
    falls = {step: abs(step - 8) + 1.0 for step in range(1, 40)}
    monkeypatch.setattr(loop, "smooth", lambda before, loss, step: falls[step])
    run = train(
        real, tmp_path / "run", "steps=30", "early_stopping=training", "patience=4",
    )  # fmt: skip
    record = run.record
    assert (record["steps"], record["weights_step"]) == (12, 8)
    assert record["stopped_early"]
    assert record["best_loss"] == 1.0
    planned = train(real, tmp_path / "planned", "steps=8")
    assert same_weights(run.folder, planned.folder)
    with pytest.raises(UsageError, match="stopped early at step 12"):
        resumed(run.folder, "learning_rate=1.0e-4")
    on = resumed(run.folder, "early_stopping=null", "steps=14")
    assert on.record["steps"] == on.record["weights_step"] == 14


def test_early_stopping_survives_a_kill(real, tmp_path, monkeypatch):
    falls = {step: abs(step - 8) + 1.0 for step in range(1, 40)}
    monkeypatch.setattr(loop, "smooth", lambda before, loss, step: falls[step])
    options = "steps=30", "early_stopping=training", "patience=4"
    whole = train(real, tmp_path / "whole", *options)
    stopped(real, tmp_path / "killed", 11, *options)
    killed = resumed(tmp_path / "killed")
    assert same_weights(whole.folder, killed.folder)
    assert killed.record["weights_step"] == 8


def test_validation_losses_stop_the_training(real, tmp_path, make_cohort):
    """With a rate so large that every step makes it worse, the first loss is the lowest."""
    held_out = make_cohort(
        "held-out", n=2, seed=5, shape=(8, 8, 8), affine=np.diag([8.0, 8, 8, 1]), subject="h"
    )
    run = train(
        real, tmp_path / "run", "steps=60", "learning_rate=0.3", "ema_decay=0", "validate_every=1",
        "early_stopping=validation", "patience=8", validation=held_out,
    )  # fmt: skip
    table = rows(run.folder / "validation.csv")
    means = np.mean([table[name] for name in table if name not in ("step", "epoch")], axis=0)
    lowest = int(np.argmin(means))
    assert run.record["weights_step"] == table["step"][lowest]
    assert run.record["best_loss"] == pytest.approx(means[lowest], rel=1e-6)
    assert run.record["steps"] < 60
    assert run.record["steps"] - run.record["weights_step"] >= 8


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"early_stopping": "validation", "validate_every": 0}, "validate_every"),
        ({"early_stopping": "training", "score_every": 1}, "score_every"),
    ],
)
def test_what_cannot_stop_a_training_is_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        LoopSettings(steps=1, **wrong)
    with pytest.raises(ValueError, match="early_stopping=training"):
        StepSettings(steps=1, early_stopping="validation")


def test_early_stopping_needs_its_volumes(real, tmp_path):
    with pytest.raises(UsageError, match=r"early_stopping: .*--validation"):
        train(real, tmp_path / "run", "early_stopping=validation")
    assert not (tmp_path / "run").exists()


def test_the_smoothed_loss_is_a_mean_then_an_exponential_mean():
    values = np.random.default_rng(0).random(3 * loop.SMOOTHING)
    smoothed = None
    for step, value in enumerate(values, 1):
        smoothed = loop.smooth(smoothed, float(value), step)
        if step == loop.SMOOTHING:
            assert smoothed == pytest.approx(values[: loop.SMOOTHING].mean())
    weights = (1 - 1 / loop.SMOOTHING) ** np.arange(2 * loop.SMOOTHING)[::-1] / loop.SMOOTHING
    start = values[: loop.SMOOTHING].mean() * (1 - 1 / loop.SMOOTHING) ** (2 * loop.SMOOTHING)
    assert smoothed == pytest.approx(start + weights @ values[loop.SMOOTHING :])


def test_fit_alone_needs_no_more_than_before(real, tmp_path):
    """A plugin's own call of `fit`, as in earlier versions."""
    from synthbench.cohorts.reading import read_cohort

    volumes: Volumes = read_cohort(real).volumes()
    (tmp_path / "run").mkdir()
    options = {"channels": (4,), "attention": (False,), "head_channels": (4,), "norm_groups": 2,
               "res_blocks": 1, "steps": 2, "checkpoint_every": 2}  # fmt: skip
    DDPM3D().fit(volumes, DDPM3DSettings(**options), Run(tmp_path / "run"))
    assert Run(tmp_path / "run").weights_file.is_file()
