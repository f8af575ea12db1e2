"""Trainings that are refused, resumed or begun again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, RunError, UsageError
from synthbench.generators.noise import Noise
from synthbench.runs.configuration import RunSettings, SpaceSettings
from synthbench.runs.folder import Run
from synthbench.training import training
from synthbench.training.data import training_volumes
from synthbench.training.dry_run import dry_run
from tests.generators.loop.short_runs import interrupted, stop_after, train

pytestmark = pytest.mark.slow


def test_a_launch_that_silently_starts_one_process_is_refused(make_cohort, tmp_path, monkeypatch):
    """`accelerate launch --cpu --num_processes 2` without MPI sets an address and no rank."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="--multi_gpu in place of --cpu"):
        train(make_cohort("real", n=3), tmp_path / "run")


def test_resume_refuses_a_changed_cohort_and_other_settings(make_cohort, tmp_path):
    real = make_cohort("real", n=5)
    interrupted(real, tmp_path / "run", 4)
    with pytest.raises(UsageError, match="leave out --real"):
        training.train(out=tmp_path / "run", resume=True, real=real)
    with pytest.raises(UsageError, match="--set batch_size: the samples"):
        training.train(out=tmp_path / "run", resume=True, overrides=["batch_size=3"])
    next(real.iterdir()).unlink()
    with pytest.raises(RunError, match="training cohort has changed"):
        training.train(out=tmp_path / "run", resume=True)


def test_voxels_of_the_cohorts_own_size_are_its_voxels_and_a_resumed_run_keeps_its_grid(
    make_cohort, tmp_path
):
    """16 and 17 voxels around one centre: one of them would lie half a voxel beside the cohort's.

    A run that was begun on such a grid goes on there.
    """
    real, out = make_cohort("real", n=4), tmp_path / "run"
    cohort = read_cohort(real)
    for side in (16, 17):
        settings = RunSettings(generator="noise", space=SpaceSettings(shape=(side,) * 3, spacing=4))
        volumes = training_volumes(cohort, settings)
        steps = (volumes.space.matrix[:3, 3] - cohort.grid.matrix[:3, 3]) / 4
        assert np.abs(steps - np.round(steps)).max() < 1e-9
        x, y, z = np.round(steps).astype(int)
        whole, crop = cohort.volumes(intensity="unit")[0], cohort.volumes(volumes.space, "unit")[0]
        assert np.array_equal(crop, whole[x : x + side, y : y + side, z : z + side])
    interrupted(real, out, 4)
    run = Run.open(out)
    beside, own = run.space.matrix, run.space.digest
    beside[:3, 3] += 1.5
    run.update(space={"shape": run.space.shape, "affine": beside.ravel().tolist()})
    with pytest.raises(KeyboardInterrupt):
        training.train(out=out, resume=True, progress=stop_after(6))
    held = json.loads((out / "volumes.json").read_text(encoding="utf-8"))
    assert held["space"] == run.space.digest != own


def test_a_folder_in_use_is_not_overwritten(make_cohort, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious", encoding="utf-8")
    with pytest.raises(RunError, match="not empty"):
        train(make_cohort("real", n=3), tmp_path / "run")
    assert (tmp_path / "run" / "thesis.tex").read_text(encoding="utf-8") == "precious"


def test_scores_need_volumes_that_are_not_trained_on(make_cohort, tmp_path):
    real = make_cohort("real", n=5)
    with pytest.raises(UsageError, match=r"score_every: .* with --validation"):
        train(real, tmp_path / "run", "score_every=1")
    assert not (tmp_path / "run").exists()
    with pytest.raises(CohortError, match="5 of 5 validation volumes are of persons in train"):
        train(real, tmp_path / "run", validation=real)


def test_a_run_killed_before_its_first_step_is_begun_anew(make_cohort, tmp_path):
    """A folder without a configuration holds nothing that was trained."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    train(make_cohort("real", n=3), tmp_path / "run", "steps=1")
    assert Run.open(tmp_path / "run").record["finished"]


def test_a_fit_that_fails_leaves_the_folder_free(make_cohort, tmp_path, monkeypatch):
    """The same command can be repeated once the generator is repaired."""
    real, out = make_cohort("real", n=3), tmp_path / "run"

    def fails(self, volumes, settings, run, **options):
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(Noise, "fit", fails)
        with pytest.raises(ZeroDivisionError):
            training.train("noise", real=real, out=out)
    assert not out.exists()
    training.train("noise", real=real, out=out)
    assert Run.open(out).record["finished"]


def test_what_a_generator_wrote_before_it_failed_stays(make_cohort, tmp_path, monkeypatch):
    def fails(self, volumes, settings, run, **options):
        (run.folder / "mine.csv").write_text("hours of work", encoding="utf-8")
        raise ZeroDivisionError

    monkeypatch.setattr(Noise, "fit", fails)
    with pytest.raises(ZeroDivisionError):
        training.train("noise", real=make_cohort("real", n=3), out=tmp_path / "run")
    assert {"mine.csv", "config.yaml", "run.json"} <= {f.name for f in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize("started", [training.train, dry_run])
def test_a_grid_that_the_settings_state_is_refused_before_any_scan_is_read(
    started, tmp_path, monkeypatch
):
    def read(*_, **__):
        raise AssertionError("a scan was read")

    monkeypatch.setattr("synthbench.training.data.read_cohort", read)
    monkeypatch.setattr("synthbench.training.dry_run.read_cohort", read)
    out = {} if started is dry_run else {"out": tmp_path / "run"}
    with pytest.raises(UsageError, match=r"space\.shape: every side must be divisible"):
        started(
            "ddpm3d", real=tmp_path, preset="tiny-unet", overrides=["space.shape=[30,30,30]"], **out
        )
