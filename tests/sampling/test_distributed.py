"""Sampling on a real Dask cluster of this machine; and by processes that submitit starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from synthbench.errors import RunError, UsageError
from synthbench.runtime.files import sha256_file
from synthbench.runtime.slurm import Settings
from synthbench.sampling import sampling
from synthbench.sampling.distributed import sample_on_dask, sample_on_slurm
from synthbench.sampling.sampling import SamplingRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path):
    """Return the scheduler's address, and the processes of two workers."""
    file = tmp_path / "scheduler.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(*words):
        command = [sys.executable, "-m", "dask", *words, "--scheduler-file", str(file)]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    started = [start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
    workers = ["worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    started += [start(*workers), start(*workers)]
    until = time.monotonic() + 120
    while not file.exists() or not file.read_text(encoding="utf-8"):
        assert time.monotonic() < until
        time.sleep(0.1)
    yield json.loads(file.read_text(encoding="utf-8"))["address"], started[1:]
    for process in started:
        process.kill()
        process.wait()


def test_a_worker_that_dies_loses_nothing(run, tmp_path, cluster):
    """Eight parts; after the first one a worker is killed, and the other draws the rest."""
    address, workers = cluster
    whole = sampling.sample(run, 16, tmp_path / "whole", shards=8)
    seen = []

    def killing(done, total, text):
        seen.append((done, total))
        if done == 1:
            workers[0].send_signal(signal.SIGKILL)

    request = SamplingRequest(run, 16, tmp_path / "out", shards=8)
    files = sample_on_dask(request, address, 8, progress=killing)
    assert seen == [(done, 8) for done in range(1, 9)]
    assert workers[0].wait() == -signal.SIGKILL
    assert [sha256_file(file) for file in files] == [sha256_file(file) for file in whole]


def test_no_scheduler_is_named(run, tmp_path):
    with pytest.raises(UsageError, match="no scheduler answers"):
        sample_on_dask(SamplingRequest(run, 2, tmp_path / "out"), "tcp://nobody:1", 2)


def test_parts_of_an_array_are_continued_and_merged(run, tmp_path):
    """A file of another program stops the second task; without it, only that task is repeated."""
    request = SamplingRequest(run, 3, tmp_path / "out")
    words = ["sample", str(run.folder), "--n", "3", "--config", os.devnull]
    foreign = tmp_path / "out-parts" / "2" / "participants.tsv"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"")
    said, local = list[str](), Settings("local")
    with pytest.raises(RunError, match=r"1 of 2 parts failed.*\n  part 2: .*_log\.err"):
        sample_on_slurm(request, words, 2, local, log=said.append)
    foreign.unlink()
    files = sample_on_slurm(request, words, 2, local, log=said.append)
    submitted = [one.partition(";")[0] for one in said if one.startswith("tasks submitted")]
    assert submitted == ["tasks submitted: 2", "tasks submitted: 1"]
    whole = sampling.sample(run, 3, tmp_path / "whole")
    assert [sha256_file(file) for file in files] == [sha256_file(file) for file in whole]


def test_what_sample_refuses_is_not_submitted(run, tmp_path):
    def refused(words, **options):
        request = SamplingRequest(run, 3, tmp_path / "out", **options)
        with pytest.raises(UsageError, match=words):
            sample_on_slurm(request, ["sample"], 2, Settings("local"))

    refused("leave out --sampler", sampler="dpm++")
    refused("write the key into a file", watermark="a key that nobody guesses")
    refused("leave it out where --shard divides", follow=0)
    assert [file.name for file in tmp_path.iterdir() if "out" in file.name] == []
