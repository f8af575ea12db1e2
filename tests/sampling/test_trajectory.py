"""Trajectories: their files, their pictures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from synthbench import registry
from synthbench.errors import UsageError
from synthbench.generators.generator import Frame
from synthbench.generators.noise import Noise
from synthbench.sampling import sampling, trajectory
from synthbench.training import training
from tests.sampling.conftest import sidecar, voxels

pytestmark = pytest.mark.slow

# ---------------------------------------------------------------- trajectories


class Stepwise(Noise):
    """Noise that fades into the sample in three steps."""

    def trajectory(self, run, seed, *, sampler=None, steps=None, frames=8):
        end = next(self.sample(run, [seed]))
        noise = np.random.default_rng(seed).standard_normal(end.shape).astype(np.float32)
        for step, share in enumerate((1.0, 0.5, 0.0)):
            yield Frame(step, 2 - step, end + share * noise, end * (1 - share / 2))


def test_a_trajectory_is_written_as_picture_volumes_and_sidecar(run, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda kind, name: Stepwise)
    picture = trajectory.trajectory(run, 3, tmp_path / "t")
    assert picture.name == "trajectory-000003.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    series = voxels(picture.with_suffix(".nii.gz"))
    end = next(Noise().sample(run, [3]))
    assert series.shape == (16, 16, 16, 3)
    assert np.allclose(series[..., 0], end / 2, atol=1 / 65535)
    assert np.allclose(series[..., 2], end, atol=1 / 65535)
    about = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
    assert (about["timesteps"], about["network_calls"]) == ([2, 1, 0], [0, 1, 2])
    assert (about["synthetic"], about["seed"]) == (True, 3)
    before = picture.read_bytes()
    assert trajectory.trajectory(run, 3, tmp_path / "t").read_bytes() == before
    with pytest.raises(UsageError, match="frames at least 2"):
        trajectory.trajectory(run, 3, tmp_path / "t", frames=1)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_all_words_are_within_the_picture(frames, run, tmp_path, monkeypatch):
    class Few(Stepwise):
        def trajectory(self, run, seed, **options):
            yield from list(super().trajectory(run, seed))[:frames]

    figures = []

    def kept(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", kept)
    monkeypatch.setattr(registry, "load", lambda kind, name: Few)
    trajectory.trajectory(run, 3, tmp_path / "t")
    (figure,) = figures
    for words in figure.texts:
        box = words.get_window_extent()
        assert (box.x0 >= 0, box.x1 <= figure.bbox.width) == (True, True), words.get_text()


def test_a_trajectory_of_another_origin_is_not_written_over(
    run, make_cohort, tmp_path, monkeypatch
):
    """Nor is anything drawn or written before that is found out; the sample's refusal is first."""
    monkeypatch.setattr(registry, "load", lambda kind, name: Stepwise)
    monkeypatch.chdir(tmp_path)
    words: list[str] = []
    sampling.sample(run, 1, Path("s"), follow=3, log=words.append)
    assert words[0].startswith("s-trajectory/trajectory-000003.png, ")
    other = training.train(
        "noise", out=tmp_path / "other", real=make_cohort("r2", n=4, shape=(16, 16, 16), seed=2)
    )
    kept = {file: file.read_bytes() for file in Path("s-trajectory").iterdir()}
    assert len(kept) == 3
    with pytest.raises(UsageError, match=r"s-trajectory/trajectory-000003\.nii\.gz: already there"):
        trajectory.trajectory(other, 3, Path("s-trajectory"))
    with pytest.raises(UsageError, match=r"s/synth-000000\.nii\.gz: already there"):
        sampling.sample(other, 1, Path("s"), follow=3)
    for volume in Path("s").iterdir():
        volume.unlink()
    Path("s").rmdir()
    with pytest.raises(UsageError, match=r"s-trajectory/trajectory-000003\.nii\.gz: already there"):
        sampling.sample(other, 1, Path("s"), follow=3)
    assert not Path("s").exists()
    assert {file: file.read_bytes() for file in Path("s-trajectory").iterdir()} == kept


def test_a_trajectory_is_said_not_to_be_cleaned(run, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda kind, name: Stepwise)
    words: list[str] = []
    sampling.sample(run, 1, tmp_path / "s", follow=0, clean=True, log=words.append)
    assert "The trajectory is neither cleaned nor marked" in words[1]
    about = json.loads(
        (tmp_path / "s-trajectory" / "trajectory-000000.json").read_text(encoding="utf-8")
    )
    assert about["cleaned"] is None


def test_a_generator_without_steps_has_no_trajectory(run, tmp_path):
    with pytest.raises(UsageError, match="noise samples in one step"):
        trajectory.trajectory(run, 0, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_the_end_of_a_diffusions_trajectory_is_its_sample(make_cohort, tmp_path):
    run = training.train(
        "ddpm3d", out=tmp_path / "run", real=make_cohort("real", n=3, shape=(16, 16, 16)),
        preset="tiny-unet",
        overrides=[
            "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]",
            "head_channels=[8,8]", "norm_groups=4", "steps=2", "checkpoint_every=1",
        ],
    )  # fmt: skip
    options: dict[str, Any] = {"sampler": "heun", "steps": 6}
    file = sampling.sample(run, 1, tmp_path / "s", **options)[0]
    assert (sidecar(file)["sampler"], sidecar(file)["steps"]) == ("heun", 6)
    words = r"another sampler \(heun, not ddim\), another number of steps \(6, not 4\)\. Use"
    with pytest.raises(UsageError, match=words):
        sampling.sample(run, 1, tmp_path / "s", sampler="ddim", steps=4)
    picture = trajectory.trajectory(run, 0, tmp_path / "t", frames=4, **options)
    series = voxels(picture.with_suffix(".nii.gz"))
    assert series.shape == (16, 16, 16, 4)
    assert np.allclose(series[..., -1], voxels(file), atol=1e-4)
    about = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["network_calls"] == [0, 3, 7, 10]
    assert about["timesteps"][0] == 999
