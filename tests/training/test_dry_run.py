"""`train --dry-run`: what a training would take, without a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from synthbench import registry
from synthbench.errors import CohortError, UsageError
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.training.dry_run import dry_run, refusal
from synthbench.training.estimate import estimate

pytestmark = pytest.mark.slow

SMALL = [
    "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]", "head_channels=[8,8]",
    "norm_groups=4",
]  # fmt: skip


def test_a_small_training_is_measured_and_nothing_is_written(make_cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = make_cohort("real", n=5)
    plan = dry_run("ddpm3d", real=real, preset="tiny-unet", overrides=[*SMALL, "steps=7"])
    assert plan.fits
    assert plan.changes == []
    assert (plan.volumes, plan.shape) == (5, (16, 16, 16))
    assert plan.estimate.steps == 7
    assert plan.estimate.total_seconds == pytest.approx(7 * plan.estimate.seconds_a_step)
    _, own = configuration.resolve("ddpm3d", preset="tiny-unet", overrides=[*SMALL, "steps=7"])
    (stage,) = registry.load("generators", "ddpm3d")().stages(own)
    assert plan.estimate.parameters == sum(p.numel() for p in stage.build().parameters())
    assert [p.name for p in tmp_path.iterdir()] == ["real"]
    names = [name for name, _ in plan.rows()]
    assert names[:3] == ["volumes", "parameters", "operations per step"]
    assert json.loads(json.dumps(plan.record()))["estimate"]["steps"] == 7


def test_with_init_the_other_runs_network_is_counted():
    plan = dry_run("ddpm3d", preset="tiny", init=Path("atlas"))
    assert plan.estimate.parameters == Run.open("atlas").record["parameters"]


def test_what_does_not_fit_is_refused_with_what_to_change(monkeypatch):
    """On a device of 400 MiB the tiny preset cannot train at batch 8; at batch 1 it can.

    Batch 1 with accumulation 8 sees as many volumes per step. Three quarters of
    48 x 56 x 48 are 36 x 42 x 36, and the nearest multiples of 8 are 32 x 40 x 32 (36 is as near
    to 40).
    """
    monkeypatch.setattr(estimate, "device_memory", lambda device: ("a small device", 400 * 2**20))
    plan = dry_run("ddpm3d", preset="tiny-unet", overrides=["batch_size=8"])
    assert not plan.fits
    assert plan.changes == [
        "--set batch_size=1 --set accumulation=8",
        "--set gradient_checkpointing=true",
        "--set precision=bf16",
        "--set space.shape=[32,40,32]",
    ]
    words = refusal(plan)
    assert "it does not fit" in words
    assert all(change in words for change in plan.changes)
    rows = dict(plan.rows())
    assert rows["seconds per step"] == "not timed: it does not fit"
    for change in ("batch_size=1", "accumulation=8"):
        assert change in words
    monkeypatch.setattr(estimate, "MOST_ON_A_CPU", 0)
    smaller = dry_run("ddpm3d", preset="tiny-unet", overrides=["batch_size=1", "accumulation=8"])
    assert smaller.fits
    assert "takes minutes on a CPU" in dict(smaller.rows())["seconds per step"]


def test_what_cannot_be_trained_is_refused_before_it_is_looked_at(make_cohort):
    with pytest.raises(UsageError, match=r"space.shape=\[48, 56, 48\]"):
        dry_run("ddpm3d", preset="tiny-unet", overrides=["space.shape=[47,56,48]"])
    with pytest.raises(UsageError, match="not trained by steps"):
        dry_run("pca-gaussian")
    with pytest.raises(CohortError, match="no such path"):
        dry_run("ddpm3d", preset="tiny-unet", real=Path("nowhere"))


def test_the_papers_network_is_counted_without_being_allocated(monkeypatch):
    """47.5 M parameters; three forward passes of 15.4 TFLOP a trained volume."""
    monkeypatch.setattr(estimate, "MOST_ON_A_CPU", 0)
    plan = dry_run("ddpm3d", preset="paper")
    assert plan.estimate.parameters == pytest.approx(47.5e6, rel=0.01)
    assert plan.estimate.flops_a_step == pytest.approx(3 * 15.4e12, rel=0.03)
    assert plan.estimate.steps == 400 * 64
    assert not torch.cuda.is_initialized()
