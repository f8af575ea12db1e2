"""Latent diffusions that stopped in a stage: sampled, started from, changed, prolonged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthbench.errors import RunError, UsageError
from synthbench.generators.ldm3d import LDM3D
from synthbench.generators.unfinished import with_weights
from synthbench.runs.folder import Run
from synthbench.sampling import sampling
from synthbench.training import training
from tests.generators.latent.examples import SETTINGS

pytestmark = pytest.mark.slow

EVERY = "checkpoint_every=1", "autoencoder.checkpoint_every=1", "residual=true"


@pytest.fixture
def real(make_cohort):
    return make_cohort("real", n=4)


def train(real: Path, out: Path, *extra: str, **options: Any) -> Run:
    return training.train(
        "ldm3d", out=out, real=real, preset="tiny", overrides=[*SETTINGS, *EVERY, *extra],
        accept=["few"], **options,
    )  # fmt: skip


def stopped(real: Path, out: Path, stage: int, after: int, *extra: str) -> Run:
    def progress(done: int, total: int, words: str) -> None:
        if done == after and words.startswith(f"stage {stage}") and "loss" in words:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(real, out, *extra, progress=progress)
    return Run.open(out)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def test_stopped_in_stage_2_it_is_sampled_and_prolonged(real, tmp_path):
    """Its weights at step 3 are those of a run of 3 steps, the fitted latent mean included."""
    run = stopped(real, tmp_path / "stopped", 2, 3)
    planned = train(real, tmp_path / "planned", "steps=3")
    ready = with_weights(run, LDM3D())
    assert ready.unfinished is not None
    assert ready.unfinished.step == 3
    assert same(ready.load_weights(), planned.load_weights())
    assert ready.weights_sha256 == planned.weights_sha256
    one, other = (
        sampling.sample(folder, 1, tmp_path / name)[0].read_bytes()
        for folder, name in ((run.folder, "a"), (planned.folder, "b"))
    )
    assert one == other
    with pytest.raises(UsageError, match=r"autoencoder\.steps: this network is trained"):
        training.train(out=run.folder, resume=True, overrides=["autoencoder.steps=9"])
    whole = train(real, tmp_path / "whole")
    longer = training.train(out=planned.folder, resume=True, overrides=["steps=6"])
    assert same(longer.load_weights(), whole.load_weights())
    assert not list(longer.folder.glob("latent-mean.npy"))
    (run.folder / "latent-mean.npy").unlink()
    with pytest.raises(RunError, match=r"latent-mean\.npy: not there"):
        sampling.sample(run.folder, 1, tmp_path / "c")


def test_stopped_in_stage_1_it_gives_its_autoencoder_only(real, tmp_path):
    run = stopped(real, tmp_path / "stopped", 1, 3)
    with pytest.raises(RunError, match=r"its U-Net is not trained yet.*step 3 of the autoencoder"):
        sampling.sample(run.folder, 1, tmp_path / "s")
    found = with_weights(run, LDM3D()).load_weights()
    assert found
    assert all(name.startswith("autoencoder.") for name in found)
    new = train(
        real, tmp_path / "new", "autoencoder.steps=1", "steps=1", "autoencoder.learning_rate=1e-30",
        "autoencoder.ema_decay=0", init=run.folder,
    )  # fmt: skip
    weights = new.load_weights()
    for name, values in found.items():
        np.testing.assert_allclose(weights[name], values, rtol=1e-5, atol=1e-7)
    changes = ["autoencoder.learning_rate=1.0e-5", "autoencoder.steps=3"]
    on = training.train(out=run.folder, resume=True, overrides=changes)
    assert on.record["finished"]
    assert [(c["setting"], c["step"]) for c in on.record["changes"]] == [
        ("autoencoder.steps", 3), ("autoencoder.learning_rate", 3),
    ]  # fmt: skip


def test_early_stopping_of_stage_1(real, tmp_path):
    """Patience 1 on the smoothed loss: stage 1 may stop before its end, stage 2 goes on."""
    run = train(
        real, tmp_path / "run", "autoencoder.steps=40", "autoencoder.early_stopping=training",
        "autoencoder.patience=1", "autoencoder.learning_rate=1.0", "steps=1",
    )  # fmt: skip
    stage = run.part("autoencoder").record
    assert stage["stopped_early"] == (stage["steps"] < 40)
    assert stage["weights_step"] <= stage["steps"]
    assert run.record["finished"]
