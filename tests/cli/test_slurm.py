"""The words of a part's job: read again, they are the same request."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from synthbench.cohorts.preparation import cohort
from synthbench.runtime import slurm
from synthbench.runtime.part import Part
from synthbench.sampling import distributed, merging, sampling
from tests.command_line import run

TYPED = (
    "sample my-run --n 5 --seed 3 --condition age=20:80 --condition sex=F,M --guidance 1.5 "
    "--sampler ddim --steps 7 --clean --watermark @key.txt --shards 4 --conditions wanted.csv"
)


@pytest.fixture
def submitted(monkeypatch):
    """Return the arguments of each call that would submit, and of each that would sample."""
    calls = []

    def record(*arguments, **options):
        calls.append(arguments)
        return [Path("synth-000000.nii.gz")]

    monkeypatch.setattr(distributed, "sample_on_slurm", record)
    monkeypatch.setattr(sampling, "run_sampling", record)
    return calls


def test_the_words_of_a_part_are_read_as_the_same_request(submitted, tmp_path):
    """Also where a settings file sets options: the job of a part may lie below another one."""
    (tmp_path / "synthbench.yaml").write_text("all: {seed: 8, jobs: 2}\n", encoding="utf-8")
    array = "--slurm --jobs 2 --slurm-set time=9 --slurm-set partition=gpu"
    typed = run(*TYPED.split(), "--out", "synth", *array.split(), "--json", cwd=tmp_path)
    assert typed.returncode == 0, typed.stderr
    request, words, jobs, settings = submitted[0]
    assert (jobs, settings.minutes, settings.options) == (2, 9, {"partition": "gpu"})
    task = run(*words, "--out", "parts/1", "--shard", "1/2", cwd=tmp_path)
    assert task.returncode == 0, task.stderr
    (again,) = (request for request, *_ in submitted[1:])
    assert again == replace(request, out=again.out, part=Part(1, 2))
    assert again.out == Path("parts/1")
    run("sample", "my-run", "--n", "2", "--out", "s", "--slurm", cwd=tmp_path)
    (request, words, jobs, _) = submitted[2]
    assert (request.seed, jobs) == (8, 2)
    assert words[:5] == ["sample", "--n", "2", "--seed", "8"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--slurm-set", "time=9"], "add that"),
        (["--slurm", "--dask", "tcp://a:1"], "both divide"),
        (["--jobs", "2"], "--dask ADDRESS or --slurm"),
        (["--slurm", "--slurm-set", "time"], "NAME=VALUE"),
    ],
)
def test_options_that_do_not_go_together_are_refused(submitted, tmp_path, extra, words):
    refused = run("sample", "my-run", "--n", "2", "--out", "s", *extra, cwd=tmp_path)
    assert (refused.returncode, words in refused.stderr, submitted) == (2, True, [])


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        (
            "import theirs --name x --range -1:1 --orientation RAS --suffix T1w --filter ses=1",
            "import --name x --range -1:1 --orientation RAS --suffix T1w --filter ses=1",
        ),
        (
            "data prepare scans --shape 8 9 10 --no-denoise --layout ixi",
            "data prepare --layout ixi --shape 8 9 10 --no-denoise",
        ),
    ],
)
def test_parts_of_other_verbs_are_submitted_and_merged(monkeypatch, tmp_path, typed, part):
    calls = []

    def record(first, second, *_, **__):
        calls.append((first, second))
        return first

    def record_prepared(first, second, **_):
        calls.append((first, second))
        return pd.DataFrame({"kept": [False]})

    monkeypatch.setattr(slurm, "run_parts", record)
    monkeypatch.setattr(merging, "merge", record)
    monkeypatch.setattr(cohort, "merge", record_prepared)
    ran = run(*typed.split(), "--out", "o", "--slurm", "--jobs", 2, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (words, folders), (merged, out) = calls
    source = typed.split()[2 if typed.startswith("data") else 1]
    assert words == [*part.split(), "--config", os.devnull, source]
    assert folders == merged == [tmp_path / "o-parts" / number for number in "12"]
    assert out == Path("o")
    again = run(*typed.split(), "--out", "o", "--slurm", "--shard", "1/2", cwd=tmp_path)
    assert (again.returncode, "leave out" in again.stderr) == (2, True)
