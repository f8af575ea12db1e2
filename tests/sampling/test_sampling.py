"""Sampling into files: the same from any number of processes, kept, resumed, cleaned, pictured."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import RunError, UsageError
from synthbench.generators.noise import Noise
from synthbench.runs.configuration import method
from synthbench.runs.sidecar import drawn_by_synthbench, found_sidecars
from synthbench.sampling import sampling
from synthbench.sampling.source import brain_only
from synthbench.training import training
from tests.sampling.conftest import sidecar, voxels

pytestmark = pytest.mark.slow

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
        assert (about["method"], about["training_seed"]) == (method(run.config), 0)
        assert about["cleaned"] is None
        assert about["seconds"] >= 0
    assert nib.load(files[0]).affine.ravel().tolist() == run.record["space"]["affine"]
    assert "noise" in (tmp_path / "s" / "README.md").read_text(encoding="utf-8")
    cohort = read_cohort(tmp_path / "s")
    assert len(cohort) == 2
    assert drawn_by_synthbench(found_sidecars(e.path for e in cohort.entries), cohort.grid)


def test_volumes_of_a_version_whose_sidecars_named_no_method_are_kept(run, tmp_path):
    (file,) = sampling.sample(run, 1, tmp_path / "s")
    about = sidecar(file)
    del about["method"], about["training_seed"], about["grid"]
    file.with_name("synth-000000.json").write_text(json.dumps(about), encoding="utf-8")
    file.with_name("seal.json").unlink()
    kept = file.stat().st_mtime_ns
    sampling.sample(run, 1, tmp_path / "s")
    assert file.stat().st_mtime_ns == kept


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
    with pytest.raises(UsageError, match=r"with the weights of another run, or of .* Use another"):
        sampling.sample(other, 1, tmp_path / "s")
    assert len(list((tmp_path / "s").glob("*.nii.gz"))) == 1
    (tmp_path / "s" / "synth-000100.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"synth-000100.json: .*Delete it"):
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
    script.write_text(program, encoding="utf-8")
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no",
        "--dynamo_backend", "no", str(script), str(run.folder), str(tmp_path / "two"),
    ]  # fmt: skip
    launched = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240, check=False, encoding="utf-8", errors="replace"
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr
    assert (tmp_path / "rank0").read_text(encoding="utf-8") == "seed 0\nseed 2\nseed 4\n"
    assert (tmp_path / "rank1").read_text(encoding="utf-8") == "seed 1\nseed 3\n"
    for file in sampling.sample(run, 5, tmp_path / "one"):
        twin = tmp_path / "two" / file.name
        assert twin.read_bytes() == file.read_bytes()
        assert {**sidecar(twin), "seconds": 0} == {**sidecar(file), "seconds": 0}
    names = [{f.name for f in (tmp_path / out).iterdir()} for out in ("one", "two")]
    assert names[0] == names[1]


def test_cleaned_volumes_say_so(run, tmp_path):
    plain = voxels(sampling.sample(run, 1, tmp_path / "plain")[0])
    file = sampling.sample(run, 1, tmp_path / "clean", clean=True)[0]
    assert np.allclose(voxels(file), brain_only(plain), atol=1 / 65535)
    assert "largest component above 0.05" in sidecar(file)["cleaned"]
