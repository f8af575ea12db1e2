"""Exact resume, checkpoints, and independence of the number of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from synthbench.errors import CohortError, RunError, UsageError
from synthbench.runs.folder import Run
from synthbench.training import training

pytestmark = pytest.mark.slow

SETTINGS = [
    "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]", "head_channels=[8,8]",
    "norm_groups=4", "steps=12", "checkpoint_every=3", "sampler_steps=1",
]  # fmt: skip


def train(real, out, *extra, **options):
    return training.train(
        "ddpm3d", out=out, real=real, preset="tiny", overrides=[*SETTINGS, *extra], **options
    )


def command(real, out, *extra):
    settings = [part for s in (*SETTINGS, *extra) for part in ("--set", s)]
    return [
        "train",
        "ddpm3d",
        "--preset",
        "tiny",
        "--real",
        str(real),
        "--out",
        str(out),
        *settings,
    ]


def same_weights(a, b):
    left, right = Run.open(a).load_weights(), Run.open(b).load_weights()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def losses(run):
    """Step to loss."""
    rows = np.loadtxt(run / "loss.csv", delimiter=",", skiprows=1)
    return {int(step): float(loss) for step, loss in rows[:, :2]}


def launch(arguments, processes=1):
    program = [sys.executable, "-m", "synthbench"]
    if processes > 1:
        program = [
            sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes",
            str(processes), "--num_machines", "1", "--main_process_port", "0",
            "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "synthbench",
        ]  # fmt: skip
    return subprocess.Popen(
        [*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_a_run_killed_with_sigkill_resumes_to_the_same_weights(make_cohort, tmp_path):
    """The kill comes as soon as the first checkpoint is there, wherever the step then is."""
    real = make_cohort("real", n=5)
    arguments = command(real, tmp_path / "killed")
    process = launch(arguments)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoints/step-*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    training.train(out=tmp_path / "killed", resume=True)
    train(real, tmp_path / "whole")
    assert same_weights(tmp_path / "killed", tmp_path / "whole")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert list(losses(tmp_path / "killed")) == list(range(1, 13))


def stop_after(step):
    def progress(done, total, words):
        if done == step and words != "reading":
            raise KeyboardInterrupt

    return progress


def interrupted(real, out, step):
    with pytest.raises(KeyboardInterrupt):
        train(real, out, progress=stop_after(step))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(make_cohort, tmp_path, caplog):
    real = make_cohort("real", n=5)
    train(real, tmp_path / "whole")
    interrupted(real, tmp_path / "run", 7)
    newest = tmp_path / "run" / "checkpoints" / "step-00000006"
    file = newest / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    training.train(out=tmp_path / "run", resume=True)
    assert "step-00000006 is damaged" in caplog.text
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_two_processes_draw_what_one_with_twice_the_batch_draws(make_cohort, tmp_path):
    """Same samples, same noise, mean of the same gradients: equal up to the order of sums."""
    real = make_cohort("real", n=5)
    process = launch(command(real, tmp_path / "two", "steps=4"), processes=2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    train(real, tmp_path / "one", "steps=4", "batch_size=2")
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-4)
    assert Run.open(tmp_path / "two").record["processes"] == 2
    Run.open(tmp_path / "two").update(finished=False, trained=False)
    with pytest.raises(UsageError, match="trained with 2 volumes a step"):
        training.train(out=tmp_path / "two", resume=True)


def test_a_launch_that_silently_starts_one_process_is_refused(make_cohort, tmp_path, monkeypatch):
    """`accelerate launch --cpu --num_processes 2` without MPI sets an address and no rank."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="--multi_gpu in place of --cpu"):
        train(make_cohort("real", n=3), tmp_path / "run")


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


def test_resume_refuses_a_changed_cohort_and_other_settings(make_cohort, tmp_path):
    real = make_cohort("real", n=5)
    interrupted(real, tmp_path / "run", 4)
    with pytest.raises(UsageError, match="leave out --real"):
        training.train(out=tmp_path / "run", resume=True, overrides=["steps=3"])
    next(real.iterdir()).unlink()
    with pytest.raises(RunError, match="training cohort has changed"):
        training.train(out=tmp_path / "run", resume=True)


def test_a_folder_in_use_is_not_overwritten(make_cohort, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        train(make_cohort("real", n=3), tmp_path / "run")
    assert (tmp_path / "run" / "thesis.tex").read_text() == "precious"


def test_checkpoints_hold_no_pickle_and_old_ones_go(make_cohort, tmp_path):
    train(make_cohort("real", n=3), tmp_path / "run")
    folders = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert folders == ["step-00000009", "step-00000012"]
    files = {p.name for p in (tmp_path / "run" / "checkpoints" / folders[1]).iterdir()}
    assert files == {
        "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json",
    }  # fmt: skip
    state = json.loads((tmp_path / "run" / "checkpoints" / folders[1] / "state.json").read_text())
    assert state["step"] == 12


def rows(file):
    """Column to values."""
    table = np.genfromtxt(file, delimiter=",", names=True, deletechars="")
    return {name: np.atleast_1d(table[name]) for name in table.dtype.names or ()}


def test_watching_changes_nothing_and_is_written_down(make_cohort, tmp_path):
    """5 volumes, 12 steps: epochs end in steps 5 and 10; a last look comes after step 12."""
    real, held_out = make_cohort("real", n=5), make_cohort("held", n=3, seed=7, subject="held")
    train(real, tmp_path / "plain")
    train(
        real, tmp_path / "watched", "validate_every=1", "preview_every=2", "previews=2",
        "score_every=1", "score_volumes=4", "score_extractor=voxels", validation=held_out,
    )  # fmt: skip
    assert losses(tmp_path / "watched") == losses(tmp_path / "plain")
    validation = rows(tmp_path / "watched" / "validation.csv")
    assert list(validation["step"]) == [5, 10, 12]
    assert validation["epoch"] == pytest.approx([1, 2, 2.4])
    bands = [name for name in validation if "%" in name]
    assert len(bands) == 5
    assert all(np.isfinite(validation[band]).all() for band in bands)
    assert [p.name for p in (tmp_path / "watched" / "previews").iterdir()] == ["step-00000010.png"]
    scores = rows(tmp_path / "watched" / "scores.csv")
    best = int(scores["step"][np.argmin(scores["score"])])
    record = Run.open(tmp_path / "watched").record
    assert record["weights_step"] == best
    assert record["best_score"] == pytest.approx(scores["score"].min())
    assert record["validation"]["n"] == 3
    assert same_weights(tmp_path / "watched", tmp_path / "plain") == (best == 12)


def test_a_watched_run_resumes_to_the_same_rows(make_cohort, tmp_path):
    real, held_out = make_cohort("real", n=5), make_cohort("held", n=3, seed=7, subject="held")
    options = ("validate_every=1", "score_every=1", "score_volumes=2", "score_extractor=voxels")
    train(real, tmp_path / "whole", *options, validation=held_out)
    with pytest.raises(KeyboardInterrupt):
        train(real, tmp_path / "run", *options, validation=held_out, progress=stop_after(11))
    training.train(out=tmp_path / "run", resume=True)
    for file in ("validation.csv", "scores.csv"):
        assert (tmp_path / "run" / file).read_text() == (tmp_path / "whole" / file).read_text()
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_the_best_scored_weights_become_the_runs(make_cohort, tmp_path, monkeypatch):
    """Scores are handed in: with 3, 1, 2 the weights of the second look, step 10, are kept."""
    from synthbench.training import monitor

    values = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(monitor.Scorer, "__call__", lambda self, volumes: {"it": next(values)})
    real, held_out = make_cohort("real", n=5), make_cohort("held", n=3, seed=7, subject="held")
    train(
        real, tmp_path / "run", "score_every=1", "score_volumes=2", "score_extractor=voxels",
        validation=held_out,
    )  # fmt: skip
    train(real, tmp_path / "ten", "steps=10")
    assert Run.open(tmp_path / "run").record["weights_step"] == 10
    assert same_weights(tmp_path / "run", tmp_path / "ten")


def test_scores_need_volumes_that_are_not_trained_on(make_cohort, tmp_path):
    real = make_cohort("real", n=5)
    with pytest.raises(UsageError, match="name them with --validation"):
        train(real, tmp_path / "run", "score_every=1")
    assert not (tmp_path / "run").exists()
    with pytest.raises(CohortError, match="5 of 5 validation volumes are of persons in train"):
        train(real, tmp_path / "run", validation=real)


def test_a_run_killed_before_its_first_step_is_begun_anew(make_cohort, tmp_path):
    """A folder without a configuration holds nothing that was trained."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    train(make_cohort("real", n=3), tmp_path / "run", "steps=1")
    assert Run.open(tmp_path / "run").record["finished"]
