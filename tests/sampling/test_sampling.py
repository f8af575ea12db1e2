"""Sampling into files: the same from any number of processes, kept, resumed, cleaned, pictured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure

from synthbench import registry
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import RunError, UsageError
from synthbench.generators.generator import Frame
from synthbench.generators.noise import Noise
from synthbench.sampling import sampling, trajectory
from synthbench.sampling.source import brain_only
from synthbench.training import training


@pytest.fixture
def run(make_cohort, tmp_path):
    real = make_cohort("real", n=4, shape=(16, 16, 16))
    return training.train("noise", out=tmp_path / "run", real=real)


def voxels(file):
    return nib.load(file).get_fdata(dtype=np.float32)


def sidecar(file):
    return json.loads(file.with_name(file.name.replace(".nii.gz", ".json")).read_text())


# ---------------------------------------------------------------- volumes and sidecars


def test_a_volume_and_its_sidecar_say_what_they_are(run, tmp_path):
    """Stored in 65535 steps: half of one is the largest difference to what the generator drew."""
    files = sampling.sample(run, 2, tmp_path / "s", seed=7)
    assert [file.name for file in files] == ["synth-000007.nii.gz", "synth-000008.nii.gz"]
    drawn = list(Noise().sample(run, [7, 8]))
    for file, volume, seed in zip(files, drawn, (7, 8), strict=True):
        assert np.abs(voxels(file) - volume).max() <= 0.5 / 65535 + 1e-7
        about = sidecar(file)
        assert (about["synthetic"], about["generator"], about["seed"]) == (True, "noise", seed)
        assert about["weights_sha256"] == run.record["weights_sha256"]
        assert about["cleaned"] is None
        assert about["seconds"] >= 0
    assert nib.load(files[0]).affine.ravel().tolist() == run.record["space"]["affine"]
    assert "noise" in (tmp_path / "s" / "README.md").read_text()
    assert len(read_cohort(tmp_path / "s")) == 2


def test_what_is_there_is_kept_and_what_is_not_is_drawn(run, tmp_path):
    """A volume without its sidecar is what a kill between the two leaves: drawn again."""
    files = sampling.sample(run, 3, tmp_path / "s")
    whole = [file.read_bytes() for file in files]
    kept = [file.stat().st_mtime_ns for file in files]
    files[0].write_bytes(b"half a volu")
    files[0].with_name("synth-000000.json").unlink()
    files[1].with_name("synth-000001.json").unlink()
    files[1].unlink()
    seen = []
    again = sampling.sample(
        run,
        3,
        tmp_path / "s",
        progress=lambda done, total, words: seen.append((done, total, words)),
    )
    assert [file.read_bytes() for file in again] == whole
    assert again[2].stat().st_mtime_ns == kept[2]
    assert seen == [(1, 2, "seed 0"), (2, 2, "seed 1")]
    assert not list((tmp_path / "s").glob(".*"))


def test_a_folder_holds_volumes_of_one_origin(run, make_cohort, tmp_path):
    """Also where the seeds differ: a cohort of two samplers, or of two runs, is neither's."""
    sampling.sample(run, 1, tmp_path / "s", seed=100)
    with pytest.raises(UsageError, match=r"with no --clean\. Use another --out"):
        sampling.sample(run, 1, tmp_path / "s", clean=True)
    other = training.train(
        "noise", out=tmp_path / "other", real=make_cohort("r2", n=4, shape=(16, 16, 16), seed=2)
    )
    with pytest.raises(UsageError, match=r"with the weights of another run\. Use another"):
        sampling.sample(other, 1, tmp_path / "s")
    assert len(list((tmp_path / "s").glob("*.nii.gz"))) == 1
    (tmp_path / "s" / "synth-000100.json").write_text("{")
    with pytest.raises(UsageError, match=r"synth-000100.json: not readable.*Delete it"):
        sampling.sample(run, 1, tmp_path / "s")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "--n must be at least 1"),
        ({"n": 1, "seed": -1}, "--seed at least 0"),
        ({"n": 1, "sampler": "ddim"}, "leave out --sampler"),
    ],
)
def test_what_cannot_be_sampled_is_refused_before_anything_is_written(
    run, tmp_path, options, words
):
    with pytest.raises(UsageError, match=words):
        sampling.sample(run, out=tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_an_unfinished_run_is_refused_with_the_next_step(run, tmp_path):
    run.weights_file.unlink()
    with pytest.raises(RunError, match="--resume"):
        sampling.sample(run, 1, tmp_path / "s")


@pytest.mark.slow
def test_two_processes_write_what_one_does(run, tmp_path):
    """Files of seeds 0 to 4, byte for byte; of a sidecar, all but the seconds."""
    program = (
        "import sys; from pathlib import Path; from synthbench.sampling.sampling import sample\n"
        "from synthbench.runtime.processes import processes\n"
        "out = Path(sys.argv[2])\n"
        "def mine(done, total, words):\n"
        "    rank = processes().process_index\n"
        "    (out.parent / f'rank{rank}').open('a').write(words + '\\n')\n"
        "sample(sys.argv[1], 5, out, progress=mine)\n"
    )
    script = tmp_path / "draw.py"
    script.write_text(program)
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no",
        "--dynamo_backend", "no", str(script), str(run.folder), str(tmp_path / "two"),
    ]  # fmt: skip
    launched = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr
    assert (tmp_path / "rank0").read_text() == "seed 0\nseed 2\nseed 4\n"
    assert (tmp_path / "rank1").read_text() == "seed 1\nseed 3\n"
    for file in sampling.sample(run, 5, tmp_path / "one"):
        twin = tmp_path / "two" / file.name
        assert twin.read_bytes() == file.read_bytes()
        assert {**sidecar(twin), "seconds": 0} == {**sidecar(file), "seconds": 0}
    names = [{f.name for f in (tmp_path / out).iterdir()} for out in ("one", "two")]
    assert names[0] == names[1]


# ---------------------------------------------------------------- cleaning


def test_brain_only_keeps_the_largest_component_and_its_holes():
    """A 6 x 6 x 6 cube of 0.8 with a dark hole, a 2 x 2 x 2 speck, and faint noise around."""
    volume = np.full((16, 16, 16), 0.02, np.float32)
    volume[4:10, 4:10, 4:10] = 0.8
    volume[6, 6, 6] = 0.01
    volume[12:14, 12:14, 12:14] = 0.9
    expected = np.zeros_like(volume)
    expected[4:10, 4:10, 4:10] = volume[4:10, 4:10, 4:10]
    cleaned = brain_only(volume)
    assert cleaned.dtype == np.float32
    assert np.array_equal(cleaned, expected)
    assert not brain_only(np.full((4, 4, 4), 0.04, np.float32)).any()


def test_cleaned_volumes_say_so(run, tmp_path):
    plain = voxels(sampling.sample(run, 1, tmp_path / "plain")[0])
    file = sampling.sample(run, 1, tmp_path / "clean", clean=True)[0]
    assert np.allclose(voxels(file), brain_only(plain), atol=1 / 65535)
    assert "largest component above 0.05" in sidecar(file)["cleaned"]


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
    about = json.loads(picture.with_suffix(".json").read_text())
    assert (about["timesteps"], about["network_calls"]) == ([2, 1, 0], [0, 1, 2])
    assert (about["synthetic"], about["seed"]) == (True, 3)
    before = picture.read_bytes()
    assert trajectory.trajectory(run, 3, tmp_path / "t").read_bytes() == before
    with pytest.raises(UsageError, match="two frames"):
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
    assert "The trajectory is not cleaned" in words[1]
    about = json.loads((tmp_path / "s-trajectory" / "trajectory-000000.json").read_text())
    assert about["cleaned"] is None


def test_a_generator_without_steps_has_no_trajectory(run, tmp_path):
    with pytest.raises(UsageError, match="noise draws a volume in one step"):
        trajectory.trajectory(run, 0, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_the_end_of_a_diffusions_trajectory_is_its_sample(make_cohort, tmp_path):
    run = training.train(
        "ddpm3d", out=tmp_path / "run", real=make_cohort("real", n=3, shape=(16, 16, 16)),
        preset="tiny",
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
    about = json.loads(picture.with_suffix(".json").read_text())
    assert about["network_calls"] == [0, 3, 7, 10]
    assert about["timesteps"][0] == 999
