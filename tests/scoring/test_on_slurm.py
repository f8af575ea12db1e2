"""A scoring whose parts are tasks of Slurm arrays, which this process runs one after the other."""

from __future__ import annotations

import json

import pytest

from synthbench.errors import RunError
from synthbench.metrics import kernels, mmd, mmd_permutation, prdc
from synthbench.metrics.blocked import near
from synthbench.metrics.inference import resampling, tiles
from synthbench.records.scorecard import Scorecard
from synthbench.scoring import protocol
from synthbench.scoring.divided import on_slurm
from tests.command_line import run

OPTIONS = (
    "--extractor", "voxels", "--metric", "mmd2", "--metric", "coverage", "--metric", "spectrum",
    "--resamples", "100", "--no-cache", "--assume-grid", "real",
)  # fmt: skip


@pytest.fixture
def arrays(monkeypatch, tmp_path):
    """Run each array in this process, and return the tasks of all of them."""
    ran = []

    def run_array(tasks, folder, settings, *, finished=(), progress, log):
        ran.append([number for number in tasks if number not in finished])
        for number in ran[-1]:
            done = run(*tasks[number].words, cwd=tmp_path)
            near.forget()
            if done.returncode:
                raise RunError(done.stderr)

    monkeypatch.setattr(on_slurm, "run_array", run_array)
    return ran


@pytest.fixture
def sets(make_cohort, tmp_path):
    return make_cohort("real", n=14), make_cohort("synth", n=13, seed=1, subject="s")


def score(sets, out, *more, cwd):
    typed = ("score", "--real", sets[0], "--synth", sets[1], *OPTIONS, "--out", out, *more)
    return run(*map(str, typed), cwd=cwd)


def numbers(file):
    card = Scorecard.load(file)
    return card.values, card.protocol_hash, card.name


def test_the_scorecard_is_that_of_one_process(arrays, sets, tmp_path):
    assert score(sets, "one.json", "--name", "mine", cwd=tmp_path).returncode == 0
    ran = score(sets, "card.json", "--name", "mine", "--slurm", "--jobs", 3, "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert arrays == [[1, 2, 3], [1]]
    assert numbers(tmp_path / "card.json") == numbers(tmp_path / "one.json")
    assert json.loads(ran.stdout)["name"] == "mine"
    (tmp_path / "card.json-parts" / "features" / "2.npz").unlink()
    again = score(sets, "card.json", "--slurm", "--jobs", 3, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert arrays[2:] == [[2], [1]]  # what is there needs no task


def test_sums_over_pairs_are_divided_too(arrays, sets, tmp_path, monkeypatch):
    for module in (kernels, mmd, mmd_permutation, prdc, protocol, resampling):
        monkeypatch.setattr(module, "LARGE_SET", 10)
    monkeypatch.setattr(tiles, "TILE_NUMBERS", 9)
    near.forget()
    assert score(sets, "one.json", cwd=tmp_path).returncode == 0
    near.forget()
    more = ("--slurm", "--jobs", 2, "--pairs", "sums")
    ran = score(sets, "card.json", *more, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert len(arrays) > 4
    assert arrays[1:-1] == [[1, 2]] * (len(arrays) - 2)
    assert numbers(tmp_path / "card.json") == numbers(tmp_path / "one.json")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--jobs", "2"], "add that"),
        (["--slurm", "--shard", "1/2", "--features", "f.npz"], "leave out"),
        (["--shard", "1/2"], "--pairs DIR"),
        (["--shard", "1/2", "--features", "f.npz", "--pairs", "p"], "--pairs DIR"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arrays, sets, tmp_path, more, words):
    refused = score(sets, "card.json", *more, cwd=tmp_path)
    assert (refused.returncode, words in refused.stderr, arrays) == (2, True, [])
