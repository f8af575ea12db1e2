"""The training loop of all generators that train by steps, under Accelerate, with exact resume.

Every random number of a step depends on the seed and the index of the training sample only, never
on numbers drawn before. So a run that was killed and resumed draws the same numbers as a run
without a break, and two processes draw the same numbers as one process with twice the batch.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NoReturn

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from synthbench.errors import RunError, Stopped
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import Progress
from synthbench.generators.loop import checkpoints
from synthbench.generators.loop.freezing import freeze
from synthbench.generators.loop.signals import flag, stop_signals
from synthbench.generators.loop.sources import Batch, Task, batches
from synthbench.generators.loop.step_log import StepLog
from synthbench.generators.loop.watch import Watch
from synthbench.runs.folder import Run
from synthbench.runtime.processes import on_cpu


def train(
    task: Task,
    run: Run,
    *,
    resume: bool,
    monitor: Monitor | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Train a network and return its averaged (EMA) weights by name, on the CPU.

    With scores during training they are the weights of the best score, otherwise the last ones.
    The run's record has their step (`weights_step`).

    Parameters
    ----------
    task
        The network, its loss and its data.
    run
        The folder of checkpoints and logs.
    resume
        Continue from the newest complete checkpoint; from step 0 if there is none.
    monitor
        Scores, previews and trackers; None: none of them.
    progress
        Called after each step on the main process.

    Raises
    ------
    RunError
        The loss or the gradient is not finite, or a checkpoint cannot be written. The last good
        state is kept.
    Stopped
        SIGTERM or SIGINT came; the step was finished and a checkpoint written.
    """
    training = Training(task, run, monitor or Monitor(), resume=resume)
    total = training.total
    with (
        task.source.opened(progress),
        stop_signals() as signals,
        closing(training.batches()) as ahead,
    ):
        for done in range(training.start + 1, total + 1):
            loss, stop = training.step(ahead, signals)
            training.look()
            training.keep(stop)
            if training.main and progress:
                progress(done, total, f"loss {loss:.4f}")
            if stop and done < total:
                raise training.stopped(signals)
        training.accelerator.wait_for_everyone()
    training.record()
    return training.averaged()


class Training:
    """The state of a training, and the work of each step.

    Parameters
    ----------
    task, run, monitor, resume
        As for `train`.

    Attributes
    ----------
    start, total
        Steps done before this session, and steps in all.
    state
        Steps done, seconds, and the best score so far.
    """

    def __init__(self, task: Task, run: Run, monitor: Monitor, *, resume: bool) -> None:
        settings = task.settings
        self.task, self.run, self.monitor, self.settings = task, run, monitor, settings
        self.accelerator = Accelerator(
            cpu=on_cpu(),
            mixed_precision="bf16" if settings.precision == "bf16" else "no",
            gradient_accumulation_steps=settings.accumulation,
        )
        self.main, count = self.accelerator.is_main_process, self.accelerator.num_processes
        self.trained = freeze(task.model, settings.freeze)
        optimizer = torch.optim.Adam(self.trained, lr=settings.learning_rate, foreach=True)
        self.model, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        self.bare = self.accelerator.unwrap_model(self.model)
        self.ema = {name: p.detach().clone() for name, p in self.bare.named_parameters()}
        self.total = settings.total_steps(len(task.source), count)
        self.state = checkpoints.State(0, 0.0, settings.volumes_a_step(count))
        if resume:
            self.state = checkpoints.restore(
                run, self.bare, self.ema, self.optimizer.optimizer, self.state.volumes_a_step
            )
        self.start, self.seconds_before = self.state.step, self.state.seconds
        self.watch = Watch(self.accelerator, task, run, monitor)
        self.losses = StepLog(run.folder / "loss.csv", ("loss", "seconds"), run.root)
        self.pending: list[tuple[int, float, float]] = []
        if self.main:
            self.losses.keep(self.start)
            self.watch.keep(self.start)
        self.began = time.monotonic()

    def batches(self) -> Generator[Batch]:
        """Yield this process's batches, in order."""
        return batches(self.task, self.accelerator, self.start, self.total)

    def step(self, ahead: Iterator[Batch], signals: Sequence[int] = ()) -> tuple[float, bool]:
        """Take the next optimizer step; return its mean loss, and True to stop after it.

        Raises
        ------
        RunError
            The loss or the gradient is not finite; the state before the step is kept.
        """
        mean_loss, norm = self._accumulate(ahead)
        loss, largest, stop = self._agree(mean_loss, norm, signals)
        if not (math.isfinite(loss) and math.isfinite(largest)):
            self._give_up(loss, largest)
        self._move(loss, largest)
        return loss, stop

    def _accumulate(self, ahead: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """Add up the gradients of a step; return the mean loss and the norm of the gradient."""
        rate = min(1.0, (self.state.step + 1) / (self.settings.warmup_steps + 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        accelerator = self.accelerator
        mean_loss = torch.zeros((), device=accelerator.device)
        norm: Tensor | None = None
        for _ in range(self.settings.accumulation):
            batch = [x.to(accelerator.device, non_blocking=True) for x in next(ahead)]
            with accelerator.accumulate(self.model):
                loss = self.task.objective.losses(self.model, *batch).mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(self.trained, self.settings.clip_norm)
            mean_loss += loss.detach() / self.settings.accumulation
        assert norm is not None
        return mean_loss, norm

    def _agree(
        self, mean_loss: Tensor, norm: Tensor, signals: Sequence[int]
    ) -> tuple[float, float, bool]:
        """Return the loss, the gradient's norm, and True to stop: the same in all processes."""
        # The processes exchange one message, so that all go on or all stop at the same step.
        own = torch.stack([mean_loss, norm.detach().to(mean_loss), flag(signals, mean_loss)])
        loss, largest, stop = self.accelerator.reduce(own, reduction="mean").tolist()
        return loss, largest, bool(stop)

    def _give_up(self, loss: float, norm: float) -> NoReturn:
        """Keep the state before this step, and raise."""
        self._log_losses()
        self._save()
        raise RunError(
            f"step {self.state.step + 1}: the loss is {loss}, the gradient's norm {norm}. The "
            f"state before that step is kept in {self.run.checkpoints}. Lower learning_rate "
            f"(now {self.settings.learning_rate:g}), or use precision=fp32, and train again."
        )

    def _move(self, loss: float, norm: float) -> None:
        """Take the optimizer's step, and average the weights."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        done = self.state.step + 1
        _update_ema(self.ema, self.bare, self.settings.ema_decay, done)
        seconds = self.seconds_before + time.monotonic() - self.began
        self.state = replace(self.state, step=done, seconds=seconds)
        self.pending.append((done, loss, seconds))
        if self.main and self.monitor.log:
            self.monitor.log(done, {"loss": loss, "gradient_norm": norm})

    def look(self) -> None:
        """Compute validation losses, previews and scores where they are due."""
        last = self.state.step == self.total
        self.state = self.watch.after(self.state, self.bare, self.ema, last=last)

    def keep(self, stop: bool) -> None:
        """Write a checkpoint where one is due."""
        done = self.state.step
        if done % self.settings.checkpoint_every == 0 or done == self.total or stop:
            self._log_losses()
            self._save()

    def stopped(self, signals: Sequence[int]) -> Stopped:
        """Return the error that ends a training that a signal asked to stop."""
        stage = "" if self.run.part_of is None else f" of {self.run.folder.name}"
        return Stopped(
            f"stopped by a signal at step {self.state.step} of {self.total}{stage}; its checkpoint "
            f"is written. Continue: synthbench train --resume --out {self.run.root}",
            signals[0] if signals else signal.SIGTERM,
        )

    def record(self) -> None:
        """Write steps, processes, seconds and the best score into the run's record."""
        if not self.main:
            return
        state = self.state
        self.run.update(
            steps=self.total,
            processes=self.accelerator.num_processes,
            device=str(self.accelerator.device.type),
            training_seconds=round(state.seconds, 1),
            weights_step=self.total if state.best_step is None else state.best_step,
            best_score=state.best_score,
        )

    def averaged(self) -> dict[str, Tensor]:
        """Return the averaged weights by name, on the CPU: of the best score, else the last."""
        if self.state.best_step is None:
            return {name: value.cpu() for name, value in self.ema.items()}
        best: dict[str, Tensor] = load_file(self.watch.best_file)
        return best

    def _log_losses(self) -> None:
        if self.main and self.pending:
            self.losses.append(self.pending)
        self.pending = []

    def _save(self) -> None:
        if self.main and self.state.step > self.start:
            checkpoints.save(self.run, self.state, self.bare, self.ema, self.optimizer.optimizer)


@torch.no_grad()
def _update_ema(ema: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the weights; the first steps average over fewer steps."""
    effective = min(decay, (1 + step) / (10 + step))
    values = [p.detach() for _, p in model.named_parameters()]
    torch._foreach_lerp_(list(ema.values()), values, 1 - effective)
