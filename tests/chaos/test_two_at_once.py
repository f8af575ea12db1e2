"""Two commands on one output: the second is refused by name, before it reads or writes anything.

None of the inputs exists. So a refusal that names the output came before the work.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from synthbench.runtime import lock
from synthbench.runtime.owner import Process
from tests.command_line import run

FOLDERS = {
    "train": "train pca-gaussian --real absent --out {}",
    "train --pretrained": "train ldm3d --pretrained monai-brain-ldm --out {}",
    "sample": "sample absent --n 1 --out {}",
    "import": "import source --out {}",
    "sweep": "sweep absent --vary age=0:1:2 --out {}",
    "data atlas": "data atlas --n 1 --out {}",
    "data info": "data info absent --out {}",
    "data split": "data split absent --out {}",
    "data split --repeat": "data split absent --repeat 2 --out {}",
    "data prepare": "data prepare absent --out {}",
    "benchmark init": "benchmark init name --m 4 --real absent --folder {}/..",
    "leaderboard": "leaderboard {}",
    "demo": "demo --out {}",
}
FILES = {
    "score --out": "score --real absent --synth absent --out {}",
    "score --features": "score --real absent --synth absent --features {}",
    "score --sample-data": "score --real absent --synth absent --sample-data {}",
    "score --neighbours": "score --real absent --synth absent --train absent --neighbours {}",
    "sensitivity": "sensitivity --real absent --out {}",
    "utility": "utility --real absent --synth absent --test absent --label sex --out {}",
    "utility --scorecard": (
        "utility --real absent --synth absent --test absent --label sex --scorecard {}"
    ),
    "report": "report absent --out {}",
    "drift": "drift absent absent --junit {}",
    "leaderboard --html": "leaderboard {benchmark} --html {}",
    "data select": "data select absent --out {}",
}


def owned_by_parent(file: Path) -> bytes:
    """The lock of a process that runs: the one that started the tests."""
    owner = lock._Owner.this()
    started = replace(Process.this(), pid=os.getppid(), started=_start(os.getppid()))
    file.write_bytes(replace(owner, process=started).as_bytes())
    return file.read_bytes()


def _start(pid: int) -> float:
    return float(
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    )


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmark"
    folder.mkdir()
    (folder / "benchmark.yaml").touch()
    return folder


@pytest.mark.parametrize("command", FOLDERS.values(), ids=list(FOLDERS))
def test_a_folder_that_another_process_writes_into_is_refused(command, tmp_path):
    out = tmp_path / "name"
    out.mkdir()
    (tmp_path / "source").mkdir()
    if command.startswith("leaderboard"):
        (out / "benchmark.yaml").touch()
    before = owned_by_parent(out / lock.LOCK)
    ended = run(*command.format(out).split(), cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "in use since" in ended.stderr
    assert f"process {os.getppid()}" in ended.stderr
    assert (out / lock.LOCK).read_bytes() == before


@pytest.mark.parametrize("command", FILES.values(), ids=list(FILES))
def test_a_file_that_another_process_writes_is_refused(command, tmp_path, benchmark):
    out = tmp_path / "out.csv"
    before = owned_by_parent(tmp_path / ".out.csv.lock")
    ended = run(*command.format(out, benchmark=benchmark).split(), cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert f"{out}: in use since" in ended.stderr
    assert (tmp_path / ".out.csv.lock").read_bytes() == before


@pytest.mark.parametrize(
    "command",
    # A leaderboard is written into the folder that is read.
    [command for name, command in (FOLDERS | FILES).items() if name != "leaderboard"],
    ids=[name for name in FOLDERS | FILES if name != "leaderboard"],
)
def test_an_output_that_cannot_be_written_is_found_before_the_work(command, tmp_path, benchmark):
    """Its folder is a file: so it cannot be made, whoever asks."""
    (tmp_path / "file").touch()
    (tmp_path / "source").mkdir()
    out = tmp_path / "file" / "out.csv"
    if command == FOLDERS["benchmark init"]:
        command = command.removesuffix("/..")
    before = sorted(tmp_path.rglob("*"))
    ended = run(*command.format(out, benchmark=benchmark).split(), cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert str(out) in ended.stderr
    assert "absent" not in ended.stderr.replace(str(out), "")
    assert sorted(tmp_path.rglob("*")) == before


def test_two_options_cannot_name_one_file(tmp_path):
    ended = run(
        *["score", "--real", "a", "--synth", "b", "--out", "x", "--features", "x"], cwd=tmp_path
    )
    assert ended.returncode == 2
    assert "--out and --features name the same file" in ended.stderr
