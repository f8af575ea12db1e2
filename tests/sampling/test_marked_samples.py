"""Samples with a watermark: the files, their sidecars, the seal, resuming, and the search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthbench.cli.common.settings_file import MAY_FIND, options_of
from synthbench.errors import UsageError
from synthbench.runs import seal
from synthbench.runs.sidecar import read_sidecar
from synthbench.sampling import sampling
from synthbench.sampling.watermark import THRESHOLD, WatermarkKey
from synthbench.sampling.watermark_search import find_watermark
from synthbench.training import training
from tests.command_line import run as command

KEY, OTHER = "the secret key of a test", "another secret key of it"


@pytest.fixture
def heads(tmp_path):
    """Return a run that repeats a cohort of simulated heads at about 4 mm."""
    from synthbench.simulation.cohort import atlas_cohort

    atlas_cohort(3, tmp_path / "real", seed=0, shape=(48, 56, 48))
    return training.train("mixup", out=tmp_path / "run", real=tmp_path / "real")


@pytest.mark.slow
def test_a_marked_folder_is_found_sealed_and_resumed(heads, tmp_path):
    out = tmp_path / "s"
    files = sampling.sample(heads, 2, out, watermark=KEY)
    assert all(one.z > THRESHOLD for one in find_watermark(out, KEY))
    assert not any(one.found for one in find_watermark(out, OTHER))
    about = read_sidecar(files[0])
    assert about["watermark"] == {"version": 1, "key_id": WatermarkKey.parse(KEY).identity}
    assert seal.verify(out).untouched
    written = [file.read_bytes() for file in files]
    files[1].with_name("synth-000001.json").unlink()
    files[1].unlink()
    again = sampling.sample(heads, 2, out, watermark=KEY)
    assert [file.read_bytes() for file in again] == written
    for file in out.iterdir():
        assert KEY.encode() not in file.read_bytes()
    for other, words in ((None, "with a watermark"), (OTHER, "the watermark of another key")):
        with pytest.raises(UsageError, match=words):
            sampling.sample(heads, 2, out, watermark=other)
    plain = sampling.sample(heads, 2, tmp_path / "plain")
    assert "watermark" not in read_sidecar(plain[0])
    with pytest.raises(UsageError, match="no watermark"):
        sampling.sample(heads, 2, tmp_path / "plain", watermark=KEY)
    found = command("watermark", "find", out, "--key", KEY, "--json")
    assert found.returncode == 0
    assert [one["found"] for one in json.loads(found.stdout)] == [True, True]
    assert command("watermark", "find", tmp_path / "plain", "--key", KEY).returncode == 1


def test_a_coarse_run_is_refused_before_anything_is_drawn(make_cohort, tmp_path):
    coarse = np.diag([8.0, 8.0, 8.0, 1.0])
    coarse[:3, 3] = -60
    real = make_cohort("real", n=4, shape=(16, 16, 16), affine=coarse)
    run = training.train("noise", out=tmp_path / "run", real=real)
    with pytest.raises(UsageError, match="voxels of at most"):
        sampling.sample(run, 1, tmp_path / "s", watermark=KEY)
    with pytest.raises(UsageError, match="can be guessed"):
        sampling.sample(run, 1, tmp_path / "s", watermark="short")
    assert not (tmp_path / "s").exists()


def test_a_settings_file_that_was_found_may_not_set_a_key():
    import synthbench.cli.app  # noqa: F401  (it makes the list of verbs)

    assert "watermark" in options_of(("sample",))
    assert "key" in options_of(("watermark", "find"))
    assert not {"watermark", "key"} & MAY_FIND


def test_the_key_is_not_in_what_a_request_prints():
    request = sampling.SamplingRequest(Path("run"), 1, Path("out"), watermark=KEY)
    assert KEY not in repr(request)
