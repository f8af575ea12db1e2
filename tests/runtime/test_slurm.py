"""Arrays of Slurm, with stand-ins for its commands: a task is a process of this machine.

`synthbench --version` is the command of a task, since it takes no time.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

from synthbench.errors import RunError, UsageError
from synthbench.runtime.lock import LOCK
from synthbench.runtime.slurm import Settings, Task, run_array

submitit = pytest.importorskip("submitit")

SBATCH = r"""
# Slurm keeps a copy, and submitit moves the script while the tasks begin.
cp "$1" "$0.script"; script=$(mktemp "$0.XXXXXX"); cp "$1" "$script"
last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\)%.*/\1/p' "$1")
for task in $(seq 0 "${last:-0}"); do
    export SLURM_JOB_ID=7 SLURM_NTASKS=1 SLURM_PROCID=0
    [ -n "$last" ] && export SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task
    bash "$script" >/dev/null 2>&1 &
done
echo Submitted batch job 7
"""
SRUN = r"""
name=7; [ -n "$SLURM_ARRAY_TASK_ID" ] && name=7_$SLURM_ARRAY_TASK_ID
while [ "${1#--}" != "$1" ]; do
    case $1 in --error) error=$2; shift 2 ;; --output) shift 2 ;; *) shift ;; esac
done
error=${error/\%j/$name}; error=${error/\%A_\%a/$name}
exec "$@" 2>"${error/\%t/0}"
"""
SACCT = """
printf 'JobID|State|NodeList\n'
for task in 0 1; do printf '7_%s|RUNNING|here\n' $task; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Put stand-ins of Slurm's commands on PATH, and return a function that replaces one."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def replace(name: str, text: str) -> None:
        program = folder / name
        program.write_text(f"#!/bin/bash\n{text}", encoding="utf-8")
        program.chmod(0o755)

    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("squeue", ""),
                       ("scancel", "")):  # fmt: skip
        replace(name, text)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(submitit.SlurmJob, "watcher", type(submitit.SlurmJob.watcher)())
    monkeypatch.setattr("synthbench.runtime.slurm._POLL_S", {"slurm": 0.1, "local": 0.1})
    return replace


def tasks(folder: Path, *words: str, of: int = 2) -> dict[int, Task]:
    return {number: Task(words, folder / str(number)) for number in range(1, of + 1)}


@pytest.mark.slow
def test_an_array_runs_each_part_that_is_not_finished(slurm, tmp_path):
    parts, seen = tmp_path / "parts", list[tuple[str, int, int]]()
    settings = Settings.parse(
        ["partition=gpu", "time=90", "gpus-per-node=1", "reservation=mine", "setup=true"]
    )
    run_array(
        tasks(parts, "--version", of=3), parts, settings, finished=[2],
        progress=lambda what, done, total: seen.append((what, done, total)),
    )  # fmt: skip
    assert {what for what, *_ in seen} == {"part 1", "part 3"}
    assert [done for _, *done in seen] == [[2, 3], [3, 3]]
    script = (tmp_path / "bin" / "sbatch.script").read_text(encoding="utf-8").splitlines()
    for flag in ("array=0-1%2", "partition=gpu", "time=90", "gpus-per-node=1", "reservation=mine",
                 "requeue", "open-mode=append", "signal=USR2@90"):  # fmt: skip
        assert f"#SBATCH --{flag}" in script
    assert script.index("true") < next(i for i, line in enumerate(script) if "srun" in line)
    # What others put there would be unpickled.
    assert (parts / "jobs").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_a_failed_task_is_named_with_its_log_and_repeated(slurm, tmp_path):
    parts = tmp_path / "parts"
    works, fails = Task(("--version",), parts / "1"), Task(("no-such-verb",), parts / "2")
    with pytest.raises(RunError, match=r"1 of 2 parts failed.*\n  part 2: .*7_1_0_log\.err") as no:
        run_array({1: works, 2: fails}, parts, Settings())
    log = Path(str(no.value).splitlines()[1].partition(": ")[2])
    assert "No such command" in log.read_text(encoding="utf-8")
    # Locks of the ended array's tasks are removed; one is left by a machine that went down.
    (parts / "2").mkdir()
    (parts / "2" / LOCK).write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match="1 of 2 parts failed"):
        run_array({1: works, 2: fails}, parts, Settings(), finished=[1])
    assert not (parts / "2" / LOCK).exists()


@pytest.mark.slow
def test_an_array_that_is_at_work_is_waited_for(slurm, tmp_path):
    """The first call ends after the submission; the second one finds the tasks in the queue."""
    parts, said = tmp_path / "parts", list[str]()
    whole = tasks(parts, "--version")

    def lose_the_connection(sentence: str) -> None:
        raise OSError(sentence)

    with pytest.raises(OSError, match="tasks submitted: 2"):
        run_array(whole, parts, Settings(), log=lose_the_connection)
    slurm("squeue", "echo 7_1")
    slurm("sbatch", "exit 1")
    run_array(whole, parts, Settings(), log=said.append)
    assert said == ["the array 7 of an earlier call is at work: waiting for it"]
    slurm("squeue", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    with pytest.raises(UsageError, match="sbatch did not take the array"):
        run_array(whole, parts, Settings())
    slurm("squeue", "echo no answer >&2; exit 1")
    with pytest.raises(UsageError, match=r"no answer\. An earlier call"):
        run_array(whole, parts, Settings())
    with pytest.raises(UsageError, match="holds the parts of another command"):
        run_array(tasks(parts, "--help"), parts, Settings())


def test_without_slurm_or_submitit_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    parts = tmp_path / "parts"
    with pytest.raises(UsageError, match="sbatch, srun, squeue, scancel not found on PATH"):
        run_array(tasks(parts, "--version"), parts, Settings())
    monkeypatch.setattr("synthbench.runtime.slurm.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'synthbench\[cluster\]'"):
        run_array(tasks(parts, "--version"), parts, Settings(executor="local"))
    assert not parts.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition", "NAME=VALUE"),
        ("partition=", "NAME=VALUE"),
        ("partition=a\nb", "NAME=VALUE"),
        ("--array=0-5", "sets array itself"),
        ("open-mode=append", "sets open_mode itself"),
        ("time=4:00:00", "the minutes"),
        ("time=true", "the minutes"),
        ("time=0", "the minutes"),
        ("executor=debug", "slurm and local"),
        ("qos=a", "set twice"),
    ],
)
def test_settings_that_cannot_be_used_are_named(text, words):
    with pytest.raises(UsageError, match=words):
        Settings.parse(["qos=a", text])


def test_settings_are_numbers_lines_and_flags():
    found = Settings.parse(["setup=module load a", "mem=8GB", "exclusive=true", "setup=b c=d"])
    options = {"setup": ["module load a", "b c=d"], "mem": "8GB", "exclusive": True}
    assert found == Settings("slurm", 60, options)


@pytest.mark.parametrize(
    ("status", "expected"), [(2, RunError), (-1, SystemExit), (144, SystemExit), (0, None)]
)
def test_a_task_that_is_put_back_into_the_queue_has_not_failed(
    status, expected, tmp_path, monkeypatch
):
    """After it has requeued a task, submitit raises SystemExit within the command."""

    def module(name, run_name):
        assert (name, run_name, sys.argv) == ("synthbench", "__main__", ["synthbench", "key"])
        raise SystemExit(status)

    monkeypatch.setattr(runpy, "run_module", module)
    monkeypatch.setattr(sys, "argv", [])
    task, lock = Task(("key",), tmp_path), tmp_path / LOCK
    lock.write_text("{}", encoding="utf-8")
    if expected is None:
        task()
    else:
        with pytest.raises(expected):
            task()
    assert lock.exists()  # it may be that of another command
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(runpy, "run_module", lambda name, run_name: None)
    task()
    assert not lock.exists()
    assert task.checkpoint().function == task
