"""Exact resume: training that is killed, interrupted or starved ends as the undisturbed run does.

Each attempt is a forked process, so that hundreds of kills take seconds: a server process imports
what is heavy once. What is compared is the bytes of `weights.safetensors`, and each step's loss.
"""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import resource
import signal
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.torch import save_file as write_tensors

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import RunError, Stopped
from synthbench.generators.ddpm3d import DDPM3D, DDPM3DSettings
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.loop import checkpoints
from synthbench.runs.folder import Run

pytestmark = pytest.mark.slow

RUNS = {1: 12, 2: 6}  # by number of processes
MOST_SESSIONS = 8  # killed at most so often before a run is left in peace
PATIENCE = 60.0  # seconds after which a process is taken to hang
STEPS, EVERY = 6, 2
SETTINGS: dict[str, Any] = {
    "channels": (4,),
    "attention": (False,),
    "head_channels": (4,),
    "res_blocks": 1,
    "norm_groups": 2,
    "steps": STEPS,
    "checkpoint_every": EVERY,
    "learning_rate": 1e-3,
    "flip": True,
    "affine": 5.0,
}
PRELOADED = [
    "pytest", "tests.generators.loop.test_kill", "tests.generators.loop.test_train",
    "matplotlib.figure", "matplotlib.image", "matplotlib.backends.backend_agg",
]  # fmt: skip

Progress = Callable[[int, int, str], None]
fork_server = get_context("forkserver")
fork_server.set_forkserver_preload(PRELOADED)


# ---------------------------------------------------------------- one training process


def fit(
    cohort: Path, folder: Path, progress: Progress | None = None, **changes: Any
) -> DDPM3DSettings:
    """Train into a folder, from its newest checkpoint if it has one."""
    settings = DDPM3DSettings(**{**SETTINGS, **changes})
    folder.mkdir(exist_ok=True)
    run = Run(folder)
    resume = run.checkpoints.is_dir()
    DDPM3D().fit(read_cohort(cohort).volumes(), settings, run, resume=resume, progress=progress)
    return settings


def session(cohort: Path, folder: Path, environment: dict[str, str], fault: str | None) -> None:
    """What a forked process does; it ends as the command line would, its errors in a file."""
    os.environ.update(environment)
    try:
        fit(cohort, folder, FAULTS[fault](folder) if fault else None)
    except (RunError, Stopped) as error:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        os._exit(error.exit_code)
    except BaseException:
        name = f"traceback-{environment.get('RANK', 0)}.txt"
        (folder / name).write_text(traceback.format_exc(), encoding="utf-8")
        os._exit(1)


def full_disk(folder: Path) -> Progress:
    """From step 3 on, no file may be longer than 4 KiB: less than any part of a checkpoint."""

    def progress(done: int, total: int, words: str) -> None:
        if words != "reading" and done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    return progress


def slow(folder: Path) -> Progress:
    """A step takes long enough for a signal to find the process at work."""
    return lambda done, total, words: time.sleep(0.2)


FAULTS: dict[str, Callable[[Path], Progress]] = {"full disk": full_disk, "slow": slow}


@dataclass(frozen=True)
class Launch:
    """Processes that train into one folder together."""

    processes: Sequence[BaseProcess]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def codes(self, patience: float = PATIENCE) -> list[int | None]:
        """Wait, and return the exit codes; None of a process that hangs, which is killed."""
        deadline = time.monotonic() + patience
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        found = [process.exitcode for process in self.processes]
        self.kill()
        for process in self.processes:
            process.join()
        return found


def launch(cohort: Path, folder: Path, processes: int = 1, fault: str | None = None) -> Launch:
    """Start processes that train into one folder."""
    return started(session, (cohort, folder), processes, fault)


def started(
    target: Callable[..., None], arguments: Sequence[Any], processes: int, *more: Any
) -> Launch:
    """Start processes as `accelerate launch` would: ranks and an address in the environment.

    Each calls `target` with the arguments, its part of the environment, and what more there is.
    """
    port = str(free_port())
    found = []
    for rank in range(processes):
        environment = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        given = (*arguments, environment if processes > 1 else {}, *more)
        process = fork_server.Process(target=target, args=given, daemon=True)
        process.start()
        found.append(process)
    return Launch(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------- what is compared


@dataclass(frozen=True)
class Reference:
    """An undisturbed run.

    Attributes
    ----------
    weights
        The bytes of its weights.
    losses
        (step, loss), as they are written.
    seconds
        From the launch to the end.
    """

    cohort: Path
    weights: bytes
    losses: list[tuple[str, str]]
    seconds: float


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "loss.csv").open(encoding="utf-8") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def ends_as(folder: Path, reference: Reference) -> None:
    """Assert that a run ended as the undisturbed one did, to the bit."""
    assert losses(folder) == reference.losses
    assert (folder / "weights.safetensors").read_bytes() == reference.weights


def checkpoint_steps(folder: Path) -> list[int]:
    found = (folder / "checkpoints").glob("step-*")
    return sorted(int(p.name.removeprefix("step-")) for p in found)


def trace(folder: Path) -> str:
    return "\n".join(
        file.read_text(encoding="utf-8") for file in sorted(folder.glob("traceback-*.txt"))
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four volumes of 8 x 8 x 8 voxels."""
    import nibabel as nib

    folder = tmp_path_factory.mktemp("cohort")
    for i in range(4):
        volume = np.random.default_rng(i).random((8, 8, 8), np.float32)
        image = nib.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0]))
        nib.save(image, folder / f"sub-{i}.nii.gz")
    return folder


def undisturbed(cohort: Path, folder: Path, processes: int) -> Reference:
    """Train without a kill, after a session that starts the server and warms it up."""
    assert launch(cohort, folder.with_name("warm"), processes).codes() == [0] * processes, trace(
        folder.with_name("warm")
    )
    began = time.monotonic()
    assert launch(cohort, folder, processes).codes() == [0] * processes, trace(folder)
    seconds = time.monotonic() - began
    weights = (folder / "weights.safetensors").read_bytes()
    found = losses(folder)
    assert [step for step, _ in found] == [str(step) for step in range(1, STEPS + 1)]
    return Reference(cohort, weights, found, seconds)


@pytest.fixture(scope="module")
def alone(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The undisturbed run of one process."""
    return undisturbed(cohort, tmp_path_factory.mktemp("alone") / "run", 1)


@pytest.fixture(scope="module")
def pair(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The undisturbed run of two processes."""
    return undisturbed(cohort, tmp_path_factory.mktemp("pair") / "run", 2)


# ---------------------------------------------------------------- SIGKILL at random moments


def disturbed(reference: Reference, folder: Path, processes: int, seed: int) -> int:
    """Train with kills until a session ends by itself; return how many were killed.

    The first kill comes at a moment uniform over the undisturbed run's duration. Each session
    after it is killed as well with probability one third, again at a uniform moment.
    """
    moments = np.random.default_rng(seed)
    killed = 0
    while killed < MOST_SESSIONS and (killed == 0 or moments.random() < 1 / 3):
        session = launch(reference.cohort, folder, processes)
        time.sleep(moments.uniform(0, reference.seconds))
        session.kill()
        session.codes()
        killed += 1
    assert launch(reference.cohort, folder, processes).codes() == [0] * processes, trace(folder)
    return killed


@pytest.mark.parametrize("processes", [1, 2])
def test_kills_at_random_moments_change_nothing(
    processes: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Thirty runs in all, each killed once or more, and each resumed to the same bytes."""
    reference = request.getfixturevalue("alone" if processes == 1 else "pair")
    for seed in range(RUNS[processes]):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        disturbed(reference, folder, processes, seed)
        ends_as(folder, reference)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_does_not_wait_for_it(
    victim: int, pair: Reference, tmp_path: Path
) -> None:
    """It fails, by itself, and the run is resumed by two."""
    folder = tmp_path / "run"
    session = launch(pair.cohort, folder, 2, fault="slow")
    wait_for_checkpoint(folder, session)
    session.processes[victim].kill()
    codes = session.codes()
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, None)
    assert launch(pair.cohort, folder, 2).codes() == [0, 0], trace(folder)
    ends_as(folder, pair)


# ---------------------------------------------------------------- asked to stop


def wait_for_checkpoint(folder: Path, session: Launch) -> None:
    deadline = time.monotonic() + PATIENCE
    while not checkpoint_steps(folder):
        assert all(process.is_alive() for process in session.processes), trace(folder)
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(("processes", "receiver"), [(1, 0), (2, 0), (2, 1)])
def test_sigterm_finishes_the_step_writes_a_checkpoint_and_stops(
    processes: int, receiver: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Exit code 128 + 15; the log ends at the checkpoint's step; both processes stop there."""
    reference = request.getfixturevalue("alone" if processes == 1 else "pair")
    folder = tmp_path / "run"
    session = launch(reference.cohort, folder, processes, fault="slow")
    wait_for_checkpoint(folder, session)
    pid = session.processes[receiver].pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert session.codes() == [143] * processes, trace(folder)
    stopped_at = checkpoint_steps(folder)[-1]
    assert stopped_at < STEPS
    assert len(losses(folder)) == stopped_at
    assert f"synthbench train --resume --out {folder}" in (folder / "error.txt").read_text(
        encoding="utf-8"
    )
    assert not (folder / "weights.safetensors").exists()
    assert launch(reference.cohort, folder, processes).codes() == [0] * processes, trace(folder)
    ends_as(folder, reference)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_it_came_in(
    number: signal.Signals, cohort: Path, alone: Reference, tmp_path: Path
) -> None:
    """It comes between steps 3 and 4: step 4 is done and kept, though none was due."""

    def progress(done: int, total: int, words: str) -> None:
        if words != "reading" and done == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=f"at step 4 of {STEPS}") as stopped:
        fit(cohort, tmp_path / "run", progress, checkpoint_every=100)
    assert stopped.value.exit_code == 128 + number
    assert checkpoint_steps(tmp_path / "run") == [4]
    fit(cohort, tmp_path / "run")
    ends_as(tmp_path / "run", alone)


def test_signals_mean_again_what_they_meant_before(cohort: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    fit(cohort, tmp_path / "run", steps=1)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


# ---------------------------------------------------------------- damage and want of room


def interrupted(cohort: Path, folder: Path, after: int, **changes: Any) -> None:
    """Train, and fail as a programming error would after so many steps."""

    def progress(done: int, total: int, words: str) -> None:
        if words != "reading" and done == after:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(cohort, folder, progress, **changes)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize(
    "damage",
    [
        lambda newest: cut(newest / "model.safetensors"),
        lambda newest: cut(newest / "ema.safetensors"),
        lambda newest: cut(newest / "optimizer.safetensors"),
        lambda newest: cut(newest / "state.json"),
        lambda newest: (newest / "model.safetensors").unlink(),
        lambda newest: (newest / "state.json").unlink(),
    ],
    ids=["model", "ema", "optimizer", "state", "no model", "no state"],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: Callable[[Path], object],
    cohort: Path,
    alone: Reference,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Stopped at step 5, checkpoints 2 and 4 are there; 4 is damaged: on from 2, and said so."""
    folder = tmp_path / "run"
    interrupted(cohort, folder, after=5)
    assert checkpoint_steps(folder) == [2, 4]
    damage(folder / "checkpoints" / "step-00000004")
    fit(cohort, folder)
    assert "step-00000004 is damaged" in caplog.text
    ends_as(folder, alone)


def test_with_every_checkpoint_damaged_the_run_starts_anew(
    cohort: Path, alone: Reference, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    interrupted(cohort, folder, after=5)
    for checkpoint in (folder / "checkpoints").glob("step-*"):
        cut(checkpoint / "model.safetensors")
    fit(cohort, folder)
    assert caplog.text.count("is damaged") == 2
    ends_as(folder, alone)


def test_a_row_cut_short_in_the_log_is_done_again(
    cohort: Path, alone: Reference, tmp_path: Path
) -> None:
    """A kill between the log's write and the checkpoint leaves rows, or half of one, too many."""
    folder = tmp_path / "run"
    interrupted(cohort, folder, after=5)
    with (folder / "loss.csv").open("a", encoding="utf-8") as file:
        file.write("5,0.25,1.0\n6,0.")
    fit(cohort, folder)
    ends_as(folder, alone)


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(alone: Reference, tmp_path: Path) -> None:
    """The system refuses the checkpoint of step 4; that of step 2 is whole, and resuming works."""
    folder = tmp_path / "run"
    assert launch(alone.cohort, folder, fault="full disk").codes() == [2], trace(folder)
    message = (folder / "error.txt").read_text(encoding="utf-8")
    assert message.startswith("RunError")
    assert str(folder / "checkpoints" / "step-00000004") in message
    assert "step-00000002 is complete" in message
    assert f"synthbench train --resume --out {folder}" in message
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000002"]
    assert launch(alone.cohort, folder).codes() == [0], trace(folder)
    ends_as(folder, alone)


@pytest.mark.parametrize("write", [1, 2, 3])
def test_no_space_for_any_part_of_a_checkpoint(
    write: int, cohort: Path, alone: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC at the model, the average, or the optimizer of the second checkpoint."""
    folder, writes = tmp_path / "run", 0

    def save_file(tensors: Any, file: Path) -> None:
        nonlocal writes
        writes += 1
        if writes == 3 + write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_tensors(tensors, file)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", save_file)
        with pytest.raises(RunError, match=r"No space left on device.*Make room on that disk"):
            fit(cohort, folder)
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000002"]
    fit(cohort, folder)
    ends_as(folder, alone)


# ---------------------------------------------------------------- a loss that is not a number


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(
    poison: float, cohort: Path, alone: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth loss is spoilt. What is kept is the state after step 3, though none was due.

    That it is good is seen by going on from it without the fault.
    """
    folder, calls = tmp_path / "run", 0
    real = Diffusion.losses

    def losses_of(self: Diffusion, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(self, *arguments) * (poison if calls == 4 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(Diffusion, "losses", losses_of)
        with pytest.raises(RunError, match=r"step 4: the loss is (nan|inf).*learning_rate"):
            fit(cohort, folder)
    assert checkpoint_steps(folder) == [2, 3]
    newest = folder / "checkpoints" / "step-00000003"
    assert all(np.isfinite(v).all() for v in load_file(newest / "model.safetensors").values())
    assert json.loads((newest / "state.json").read_text(encoding="utf-8"))["step"] == 3
    assert [step for step, _ in losses(folder)] == ["1", "2", "3"]
    fit(cohort, folder)
    ends_as(folder, alone)
