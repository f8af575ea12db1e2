"""`ldm3d` end to end: both stages, resuming, conditions, guidance."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from synthbench.cohorts.conditions import Conditions, Row
from synthbench.errors import RunError, UsageError
from synthbench.generators import ldm3d
from synthbench.generators.latent.encoding import ConditionEncoding
from synthbench.generators.latent.settings import LDM3DSettings
from synthbench.generators.ldm3d import LDM3D
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.training import training
from synthbench.training.dry_run import dry_run
from synthbench.training.estimate import estimate
from tests.conftest import AFFINE, blob
from tests.generators.latent.examples import AGES, CONDITIONS, ROWS, SETTINGS, resolved

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Six volumes, with a participants table in which one age is missing."""
    folder = tmp_path_factory.mktemp("real")
    for i in range(6):
        nib.save(nib.Nifti1Image(blob(i), AFFINE), folder / f"sub-{i:03d}.nii.gz")
    table = pd.DataFrame({
        "participant_id": [f"sub-{i:03d}" for i in range(6)],
        "age": AGES,
        "sex": [row["sex"] for row in ROWS],
    })  # fmt: skip
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    return folder


def train(real, out, *extra, **options):
    return training.train(
        "ldm3d", out=out, real=real, preset="tiny", overrides=[*SETTINGS, *extra], **options
    )


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    """A finished conditional run, and what its progress said."""
    words: list[str] = []
    run = train(
        cohort, tmp_path_factory.mktemp("runs") / "whole", CONDITIONS,
        progress=lambda done, total, w: words.append(w),
    )  # fmt: skip
    return run, words


def test_a_dry_run_plans_both_stages(cohort, monkeypatch):
    monkeypatch.setattr(estimate, "MOST_ON_A_CPU", 0)
    plan = dry_run("ldm3d", real=cohort, preset="tiny", overrides=[*SETTINGS, CONDITIONS])
    assert plan.before is not None
    assert (plan.before.stage, plan.stage) == ("autoencoder", "U-Net")
    assert (plan.before.estimate.steps, plan.estimate.steps) == (4, 6)
    assert plan.fits
    assert json.loads(json.dumps(plan.record()))["before"]["stage"] == "autoencoder"
    encoding = ConditionEncoding(Conditions.fit(ROWS, ["age", "sex"]), null_embedding=True)
    _, own = resolved(*SETTINGS, CONDITIONS)
    network = ldm3d._network(own, encoding)
    assert plan.estimate.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("freeze=[down_blocks]", "^freeze: .*Did you mean unet.down_blocks"),
        ("autoencoder.freeze=[encoder]", r"^autoencoder.freeze: .*autoencoder.net.encoder"),
        ("autoencoder.freeze=[autoencoder,discriminator]", "nothing is left to train"),
    ],
)
def test_a_wrong_freeze_of_either_stage_is_refused_before_anything_is_written(
    override, words, cohort, tmp_path
):
    with pytest.raises(UsageError, match=words):
        train(cohort, tmp_path / "run", override)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=words):
        dry_run("ldm3d", real=cohort, preset="tiny", overrides=[*SETTINGS, override])


def test_another_runs_autoencoder_is_not_planned(tmp_path):
    _, own = resolved(*SETTINGS, f"autoencoder_run={tmp_path}")
    assert [stage.name for stage in LDM3D().stages(own)] == ["U-Net"]


# ---------------------------------------------------------------- both stages


def test_a_conditional_run_says_what_it_did(whole):
    run, words = whole
    record = run.record
    assert {w.split(",")[0] for w in words} == {"stage 1 of 2", "stage 2 of 2"}
    assert [c["name"] for c in record["conditions"]] == ["age", "sex"]
    assert record["reconstruction"]["of"] == "training"
    assert record["reconstruction"]["volumes"] == 6
    assert record["latent_shape"] == [2, 4, 4, 4]
    assert record["training_seconds"] == pytest.approx(sum(record["stage_seconds"]), abs=0.11)
    assert not list(run.folder.glob("latents-*"))
    assert not list(run.folder.glob("**/volumes.npy"))


def test_a_volume_is_of_its_seed_and_its_conditions(whole):
    run, _ = whole
    plugin = LDM3D()
    assert plugin.sampling(run, None, None)["guidance"] == 2.0  # the preset's
    rows: list[Row] = [
        {"age": 20.0, "sex": "F"},
        {"age": 70.0, "sex": "F"},
        {"age": None, "sex": "F"},
    ]
    young, old, unknown = plugin.sample(run, [3, 3, 3], conditions=rows)
    assert young.shape == (16, 16, 16)
    assert not np.array_equal(young, old)
    assert not np.array_equal(young, unknown)
    (again,) = plugin.sample(run, [3], conditions=rows[1:2])
    assert np.array_equal(again, old)
    (guided_more,) = plugin.sample(run, [3], conditions=rows[1:2], guidance=3.0)
    assert not np.array_equal(guided_more, old)
    first, second = plugin.sample(run, [1, 2])
    assert np.array_equal(next(iter(plugin.sample(run, [2]))), second)
    assert not np.array_equal(first, second)
    frames = list(plugin.trajectory(run, 1, sampler=None, steps=None, frames=2))
    assert np.array_equal(frames[-1].clean, first)
    with pytest.raises(UsageError, match="1 rows of conditions for 2 seeds"):
        list(plugin.sample(run, [1, 2], conditions=rows[:1]))
    with pytest.raises(UsageError, match="--guidance: must be at least 0"):
        plugin.sampling(run, None, None, guidance=-1.0)


def test_a_guided_trajectory_ends_at_the_guided_volume(whole):
    """DDIM's last step goes to the clean volume predicted there."""
    run, _ = whole
    options: dict[str, Any] = {"sampler": "ddim", "steps": 2, "guidance": 3.0}
    frames = list(LDM3D().trajectory(run, 3, frames=2, **options))
    assert np.allclose(frames[-1].clean, next(LDM3D().sample(run, [3], **options)), atol=1e-4)


def test_validation_is_of_latents_and_the_ceiling_of_held_out(cohort, tmp_path, make_cohort):
    held_out = make_cohort("held-out", n=2, seed=9, subject="v")
    pd.DataFrame({"participant_id": ["sub-v000", "sub-v001"], "age": [33, 44], "sex": ["F", "M"]}
    ).to_csv(held_out / "participants.tsv", sep="\t", index=False)  # fmt: skip
    run = train(cohort, tmp_path / "run", CONDITIONS, "validate_every=1", validation=held_out)
    assert run.record["reconstruction"]["of"] == "validation"
    assert len((run.folder / "validation.csv").read_text(encoding="utf-8").splitlines()) > 1
    assert not list(run.folder.glob("latents-*"))


def test_an_unconditional_run_is_asked_for_nothing(cohort, tmp_path):
    """With coordinates, and of the residual: sampling puts back what training took away."""
    run = train(
        cohort, tmp_path / "run", "autoencoder.steps=1", "steps=1", "coordinates=true",
        "residual=true",
    )  # fmt: skip
    assert run.load_weights()["latent_mean"].any()
    assert next(iter(LDM3D().sample(run, [0]))).shape == (16, 16, 16)
    assert "guidance" not in LDM3D().sampling(run, None, None)
    with pytest.raises(UsageError, match="trained without any"):
        list(LDM3D().sample(run, [0], conditions=[{}]))
    with pytest.raises(UsageError, match="trained without conditions"):
        LDM3D().sampling(run, None, None, guidance=2.0)


def test_the_autoencoder_of_another_run_takes_the_place_of_stage_1(cohort, tmp_path):
    """Whole latents, not what conditions leave of them, have one scale in both runs."""
    first = train(cohort, tmp_path / "first", "steps=1", "residual=false")
    second = train(
        cohort, tmp_path / "second", CONDITIONS, "steps=1", "residual=false",
        f"autoencoder_run={first.folder}",
    )  # fmt: skip
    a, b = first.load_weights(), second.load_weights()
    shared = [name for name in a if name.startswith("autoencoder.")]
    assert shared
    assert all(np.array_equal(a[name], b[name]) for name in shared)
    assert second.record["stage_seconds"][0] == 0
    assert second.record["scale_factor"] == first.record["scale_factor"]


def test_a_column_that_is_not_there_is_refused_before_anything_is_written(cohort, tmp_path):
    with pytest.raises(UsageError, match=r"no column 'ages'.*age"):
        train(cohort, tmp_path / "run", "conditions=[ages]")
    assert not (tmp_path / "run").exists()


def test_an_extractor_without_gradients_is_refused_by_name(cohort, tmp_path):
    with pytest.raises(UsageError, match=r"'anatomy'.*random-resnet10"):
        train(cohort, tmp_path / "run", "perceptual=anatomy")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- killed and resumed


def same_weights(a, b):
    left, right = Run.open(a).load_weights(), Run.open(b).load_weights()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize(
    ("stage", "at"), [("autoencoder", 3), ("autoencoder", 4), ("", 4)], ids=["1", "1 end", "2"]
)
def test_a_stage_resumes_to_the_same_weights_bit_for_bit(stage, at, whole, tmp_path):
    """A kill is played back: what a process that died after step `at` would have left."""
    undisturbed, killed = whole[0].folder, tmp_path / "killed"
    shutil.copytree(undisturbed, killed)
    for name in ("weights.safetensors", "preview.png", "README.md"):
        (killed / name).unlink()
    record = json.loads((killed / "run.json").read_text(encoding="utf-8")) | {"finished": False}
    if stage:
        shutil.rmtree(killed / "checkpoints")
        (killed / "loss.csv").unlink()
        (killed / "autoencoder" / "run.json").unlink()
        (killed / "autoencoder" / "weights.safetensors").unlink()
        for name in ("reconstruction", "scale_factor", "training_seconds"):
            record.pop(name)
    (killed / "run.json").write_text(json.dumps(record), encoding="utf-8")
    for folder in (killed / stage / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step-")) > at:
            shutil.rmtree(folder)
    resumed = training.train(out=killed, resume=True)
    assert same_weights(undisturbed, resumed.folder)
    for name in ("loss.csv", "autoencoder/loss.csv"):
        a, b = (np.loadtxt(f / name, delimiter=",", skiprows=1) for f in (undisturbed, killed))
        assert np.array_equal(a[:, 1], b[:, 1])


def test_sigterm_in_stage_1_writes_a_checkpoint_and_names_the_run(cohort, tmp_path):
    out = tmp_path / "stopped"
    settings = [part for s in (*SETTINGS, "autoencoder.steps=5000") for part in ("--set", s)]
    process = subprocess.Popen(
        [sys.executable, "-m", "synthbench", "train", "ldm3d", "--preset", "tiny", "--real",
         str(cohort), "--out", str(out), *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("autoencoder/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    words = " ".join(process.communicate(timeout=60)[0].split())
    assert "of autoencoder; its checkpoint is written" in words
    assert f"--resume --out {out}" in words.replace("\n", "")
    with pytest.raises(RunError, match="training has not finished"):
        Run.open(out).load_weights()


def test_a_setting_of_an_earlier_version_is_read_by_its_new_name(tmp_path):
    """`learned_null` is `null_embedding` now: in settings, a run's configuration, and a file."""
    old = {"learned_null": False, "condition_dropout": 0, "guidance": 1, "epochs": 1}
    assert LDM3DSettings(**old).null_embedding is False
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.write_config({"generator": "ldm3d", **old})
    assert ldm3d._settings(run).null_embedding is False
    _, own = configuration.resolve("ldm3d", preset="tiny", config=run.folder / "config.yaml",
                              overrides=["steps=null", "guidance=1"])  # fmt: skip
    assert isinstance(own, LDM3DSettings)
    assert own.null_embedding is False
