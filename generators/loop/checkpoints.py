"""Checkpoints of a training run. A checkpoint has its final name only when it is complete.

Nothing is a pickle:

RUN/checkpoints/step-00001000/model.safetensors      the weights
                              ema.safetensors        their running average
                              optimizer.safetensors  Adam's moments
                              state.json             step, cost, and the sha256 of the three
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from synthbench.errors import RunError, UsageError
from synthbench.generators.networks.weights import read_tensors
from synthbench.runs import checkpoint
from synthbench.runs.folder import Run
from synthbench.runtime.files import flush, is_held, sha256_file, write_atomic
from synthbench.runtime.owner import temporary_name

KEPT = 2
"""Checkpoints that stay on disk, the newest."""


@dataclass(frozen=True)
class State:
    """How far a training has come.

    Attributes
    ----------
    step
        Optimizer steps done.
    seconds
        Time spent in training, all sessions together.
    volumes_a_step
        Volumes per optimizer step: batch size x accumulation x processes.
    best_step, best_score, best_of
        The step of the lowest value so far, that value, and what it is a value of: "score",
        "training" or "validation"; None before the first value.
    looked
        The step of the newest value that was compared with the best.
    smoothed
        The smoothed training loss; None in checkpoints of versions without it.
    """

    step: int
    seconds: float
    volumes_a_step: int
    best_step: int | None = None
    best_score: float | None = None
    best_of: str | None = None
    looked: int | None = None
    smoothed: float | None = None


def save(
    run: Run,
    state: State,
    model: nn.Module,
    ema: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint, and remove all but the newest two.

    Raises
    ------
    RunError
        It could not be written (a full disk, a quota). Earlier checkpoints stay complete.
    """
    final = run.checkpoints / f"step-{state.step:08d}"
    partial = run.checkpoints / temporary_name()
    parts = {
        "model": dict(model.state_dict()),
        "ema": dict(ema),
        "optimizer": _optimizer_tensors(optimizer),
    }
    is_held(partial)
    try:
        partial.mkdir(parents=True)
        hashes = {}
        for part, tensors in parts.items():
            file = partial / f"{part}.safetensors"
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, file)
            hashes[part] = sha256_file(file)
        whole = {**asdict(state), "sha256": hashes}
        write_atomic(partial / "state.json", json.dumps(whole, indent=1).encode())
        for file in partial.iterdir():
            flush(file)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        flush(run.checkpoints)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        kept = [folder.name for folder in sorted(run.checkpoints.glob("step-*"))]
        before = f"{kept[-1]} is complete" if kept else "there is no earlier one"
        raise RunError(
            f"{final}: the checkpoint could not be written ({error}); {before}. Make room on that "
            f"disk, then continue: synthbench train --resume --out {run.root}"
        ) from error
    for old in sorted(run.checkpoints.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def restore(
    run: Run,
    model: nn.Module,
    ema: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    volumes_a_step: int,
) -> State:
    """Load the newest complete checkpoint into the network, and return its state.

    A damaged checkpoint is left out, with a warning. Without any checkpoint, training starts at
    step 0.

    Raises
    ------
    UsageError
        The run was trained with another number of volumes per step.
    """
    found = checkpoint.newest(run)
    if found is None:
        return State(step=0, seconds=0.0, volumes_a_step=volumes_a_step)
    # A checkpoint of a newer version may hold more.
    state = State(**{k: v for k, v in found.fields.items() if k in State.__dataclass_fields__})
    if state.volumes_a_step != volumes_a_step:
        raise UsageError(
            f"{run.folder}: trained with {state.volumes_a_step} volumes per step (batch size "
            f"x accumulation x processes), resumed with {volumes_a_step}. Launch as many "
            "processes as before."
        )
    parts = {
        part: read_tensors(found.folder / f"{part}.safetensors")
        for part in ("model", "ema", "optimizer")
    }
    try:
        model.load_state_dict(parts["model"])
        for name, value in ema.items():
            value.copy_(parts["ema"][name])
        _load_optimizer(optimizer, parts["optimizer"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise RunError(
            f"{found.folder}: its tensors do not fit this network ({error}). Use the settings "
            "that it was trained with."
        ) from error
    return state


def is_older(run: Run, step: int) -> bool:
    """Return True where there is a complete checkpoint of an earlier step."""
    return any(found.step < step for found in checkpoint.complete(run))


def set_aside(run: Run, step: int) -> None:
    """Rename the checkpoint of a step, so that the one before it is the newest."""
    for old in run.checkpoints.glob("diverged-*"):
        shutil.rmtree(old)
    folder = run.checkpoints / f"step-{step:08d}"
    folder.rename(folder.with_name(f"diverged-{step:08d}"))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, s in state.items() for k, v in s.items()}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
