"""One training loop for every diffusion generator, under Accelerate, with exact resume.

Everything random at a step is a function of (seed, index of the training sample), never of a
generator's running state: a run that was killed and resumed draws what the undisturbed run
would have drawn, and two processes draw what one with twice the batch would.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float32
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synthbench.cohort import Volumes
from synthbench.errors import RunError, UsageError
from synthbench.files import sha256_file, write_atomic
from synthbench.generators.generator import Progress, Settings
from synthbench.generators.volume_cache import VolumeCache
from synthbench.processes import on_cpu
from synthbench.run import Run

log = logging.getLogger("synthbench")

KEPT_CHECKPOINTS = 2
_ORDER, _DRAWS = 0, 1  # independent random streams of one seed

# (model, volumes [b 1 d h w], one random generator a volume) -> scalar loss
Loss = Callable[[nn.Module, Tensor, list[torch.Generator]], Tensor]


class LoopSettings(Settings):
    """Settings of the training loop."""

    steps: int | None = Field(default=None, ge=1, description="optimizer steps; or give epochs")
    epochs: int | None = Field(default=None, ge=1, description="passes over the training set")
    batch_size: int = Field(default=1, ge=1, description="volumes a process and step")
    accumulation: int = Field(default=1, ge=1, description="batches added up before a step")
    learning_rate: float = Field(default=5e-5, gt=0, description="of Adam")
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="of the averaged weights")
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the network")
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")

    @model_validator(mode="after")
    def _one_length(self) -> LoopSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs (set the other to null)")
        return self

    def total_steps(self, n: int, processes: int) -> int:
        """Return the number of optimizer steps on `n` volumes."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * n / (self.batch_size * self.accumulation * processes))


def train(
    model: nn.Module,
    loss: Loss,
    volumes: Volumes,
    settings: LoopSettings,
    run: Run,
    *,
    resume: bool,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """Train a model on volumes and return the averaged (EMA) weights, on the CPU.

    Parameters
    ----------
    model
        In its initial state.
    loss
        Mean loss of a batch; it draws volume i's randomness from generator i alone.
    volumes
        The training volumes.
    settings
        The loop's settings.
    run
        Checkpoints and the loss log go here.
    resume
        Continue from the newest checkpoint that is whole; from the start if there is none.
    progress
        Called after each step on the main process.

    Raises
    ------
    RunError
        The loss is not finite; the last checkpoint is kept.
    """
    accelerator = Accelerator(
        cpu=on_cpu(),
        mixed_precision="bf16" if settings.precision == "bf16" else "no",
        gradient_accumulation_steps=settings.accumulation,
    )
    main = accelerator.is_main_process
    cache = VolumeCache(volumes, run.folder, progress, fill=main) if main else None
    accelerator.wait_for_everyone()
    cache = cache or VolumeCache(volumes, run.folder, fill=False)

    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, foreach=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    bare = accelerator.unwrap_model(model)
    ema = {name: p.detach().clone() for name, p in bare.named_parameters()}
    processes = accelerator.num_processes
    total = settings.total_steps(len(volumes), processes)
    volumes_a_step = settings.batch_size * settings.accumulation * processes
    start, seconds_before = 0, 0.0
    if resume:
        start, seconds_before = _restore(run, bare, ema, optimizer.optimizer, volumes_a_step)
    if main:
        _truncate_log(run.folder / "loss.csv", start)

    began = time.monotonic()
    pending: list[tuple[int, float, float]] = []
    with cache as rows:
        for step in range(start, total):
            rate = settings.learning_rate * min(1.0, (step + 1) / (settings.warmup_steps + 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            mean_loss = torch.zeros((), device=accelerator.device)
            for micro in range(settings.accumulation):
                first = (step * settings.accumulation + micro) * settings.batch_size * processes
                mine = first + accelerator.process_index * settings.batch_size
                samples = range(mine, mine + settings.batch_size)
                batch = _batch(rows, volumes.space.shape, settings.seed, samples)
                draws = [_draws(settings.seed, sample) for sample in samples]
                with accelerator.accumulate(model):
                    value = loss(model, batch.to(accelerator.device), draws)
                    accelerator.backward(value)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                mean_loss += value.detach() / settings.accumulation
            reached = float(accelerator.reduce(mean_loss, reduction="mean"))
            done = step + 1
            if not math.isfinite(reached):
                raise RunError(
                    f"step {done}: the loss is {reached}. The state of the last checkpoint is kept "
                    f"in {run.checkpoints}. Lower learning_rate (now {settings.learning_rate:g}), "
                    "or use precision=fp32, and train again."
                )
            _update_ema(ema, bare, settings.ema_decay, done)
            seconds = seconds_before + time.monotonic() - began
            pending.append((done, reached, seconds))
            if main:
                if done % settings.checkpoint_every == 0 or done == total:
                    _append_log(run.folder / "loss.csv", pending)
                    pending = []
                    state = {"step": done, "seconds": seconds, "volumes_a_step": volumes_a_step}
                    _save(run, state, bare, ema, optimizer.optimizer)
                if progress:
                    progress(done, total, f"loss {reached:.4f}")
        accelerator.wait_for_everyone()
    if main:
        run.update(
            steps=total,
            processes=processes,
            device=str(accelerator.device.type),
            training_seconds=round(seconds_before + time.monotonic() - began, 1),
        )
    return {name: value.cpu() for name, value in ema.items()}


# ---------------------------------------------------------------- what a step sees


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def _draws(seed: int, sample: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(seed, _DRAWS, sample))


def _batch(
    rows: Float32[np.ndarray, "n voxels"], shape: tuple[int, int, int], seed: int, samples: range
) -> Tensor:
    """Return the training volumes at these places of the endless, per-epoch shuffled sequence."""
    n = len(rows)
    picked = []
    for sample in samples:
        epoch, place = divmod(sample, n)
        order = np.random.default_rng([seed, _ORDER, epoch]).permutation(n)
        picked.append(np.array(rows[order[place]]))
    return torch.from_numpy(np.stack(picked)).reshape(len(picked), 1, *shape)


@torch.no_grad()
def _update_ema(ema: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the weights; young runs average over fewer steps."""
    effective = min(decay, (1 + step) / (10 + step))
    values = [p.detach() for _, p in model.named_parameters()]
    torch._foreach_lerp_(list(ema.values()), values, 1 - effective)


# ---------------------------------------------------------------- the loss log


def _truncate_log(file: Path, steps: int) -> None:
    """Keep the rows of the first `steps` steps: what a killed run wrote beyond is done again."""
    rows = ["step,loss,seconds"]
    if steps and file.is_file():
        old = list(csv.reader(file.read_text().splitlines()))[1:]
        rows += [",".join(row) for row in old if int(row[0]) <= steps]
    write_atomic(file, ("\n".join(rows) + "\n").encode())


def _append_log(file: Path, rows: list[tuple[int, float, float]]) -> None:
    with file.open("a") as log_file:
        log_file.writelines(f"{step},{loss:.8g},{seconds:.2f}\n" for step, loss, seconds in rows)


# ---------------------------------------------------------------- checkpoints


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, s in state.items() for k, v in s.items()}


def _save(
    run: Run,
    state: Mapping[str, int | float],
    model: nn.Module,
    ema: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint: whole under its final name, or not there."""
    final = run.checkpoints / f"step-{state['step']:08d}"
    partial = run.checkpoints / f".{final.name}.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    parts = {
        "model": dict(model.state_dict()),
        "ema": dict(ema),
        "optimizer": _optimizer_tensors(optimizer),
    }
    hashes = {}
    for part, tensors in parts.items():
        file = partial / f"{part}.safetensors"
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, file)
        hashes[part] = sha256_file(file)
    whole = {**state, "sha256": hashes}
    write_atomic(partial / "state.json", json.dumps(whole, indent=1).encode())
    for file in partial.iterdir():
        _flush(file)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    _flush(run.checkpoints)
    for old in sorted(run.checkpoints.glob("step-*"))[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _restore(
    run: Run,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    volumes_a_step: int,
) -> tuple[int, float]:
    """Load the newest whole checkpoint; return its step and seconds, zeros where there is none."""
    for folder in sorted(run.checkpoints.glob("step-*"), reverse=True):
        try:
            state = json.loads((folder / "state.json").read_text())
            for part, expected in state["sha256"].items():
                if sha256_file(folder / f"{part}.safetensors") != expected:
                    raise ValueError(f"{part}.safetensors is not what was written")
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s is damaged (%s): falling back to the one before", folder, error)
            continue
        if state["volumes_a_step"] != volumes_a_step:
            raise UsageError(
                f"{run.folder}: trained with {state['volumes_a_step']} volumes a step (batch size "
                f"x accumulation x processes), resumed with {volumes_a_step}. Launch as many "
                "processes as before."
            )
        model.load_state_dict(load_file(folder / "model.safetensors"))
        averaged = load_file(folder / "ema.safetensors")
        for name, value in ema.items():
            value.copy_(averaged[name])
        _load_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
        return int(state["step"]), float(state["seconds"])
    return 0, 0.0


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
