"""Exact resume, checkpoints, and independence of the number of processes."""

from __future__ import annotations

import os
import signal
import time

import pytest

from synthbench.errors import RunError, UsageError
from synthbench.runs.folder import Run
from synthbench.training import training
from tests.generators.loop import test_kill
from tests.generators.loop.short_runs import losses, same_weights, train

pytestmark = pytest.mark.slow


def session(real, out, extra, environment):
    """What a forked process does."""
    os.environ.update(environment)
    train(real, out, *extra)


def launch(real, out, *extra, processes=1):
    return test_kill.started(session, (real, out, extra), processes)


def test_a_run_killed_with_sigkill_resumes_to_the_same_weights(make_cohort, tmp_path):
    """The kill comes as soon as the first checkpoint is there, wherever the step then is."""
    real = make_cohort("real", n=5)
    launched = launch(real, tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoints/step-*")):
        assert launched.processes[0].is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    launched.kill()
    assert launched.codes() == [-signal.SIGKILL]
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    training.train(out=tmp_path / "killed", resume=True)
    train(real, tmp_path / "whole")
    assert same_weights(tmp_path / "killed", tmp_path / "whole")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert list(losses(tmp_path / "killed")) == list(range(1, 13))


def test_two_processes_draw_what_one_with_twice_the_batch_draws(make_cohort, tmp_path):
    """Same samples, same noise, mean of the same gradients: equal up to the order of sums."""
    real = make_cohort("real", n=5)
    launched = launch(real, tmp_path / "two", "steps=4", processes=2)
    assert launched.codes(patience=240) == [0, 0]
    train(real, tmp_path / "one", "steps=4", "batch_size=2")
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-4)
    assert Run.open(tmp_path / "two").record["processes"] == 2
    Run.open(tmp_path / "two").update(finished=False, trained=False)
    with pytest.raises(UsageError, match="trained with 2 volumes per step"):
        training.train(out=tmp_path / "two", resume=True)


def test_accumulation_adds_up_to_the_larger_batch(make_cohort, tmp_path):
    real = make_cohort("real", n=5)
    train(real, tmp_path / "batch", "steps=3", "batch_size=2")
    train(real, tmp_path / "accumulated", "steps=3", "accumulation=2")
    assert losses(tmp_path / "batch") == pytest.approx(losses(tmp_path / "accumulated"), rel=1e-4)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(make_cohort, tmp_path):
    """A learning rate of 1e30 makes every weight, and so the loss, overflow at the second step."""
    real = make_cohort("real", n=5)
    with pytest.raises(RunError, match=r"the loss is (nan|inf)"):
        train(
            real, tmp_path / "run", "learning_rate=1.0e+30", "checkpoint_every=1", "warmup_steps=0"
        )
    assert (tmp_path / "run" / "checkpoints" / "step-00000001" / "state.json").is_file()
