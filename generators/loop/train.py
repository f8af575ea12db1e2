"""The training loop of all generators that train by steps, under Accelerate, with exact resume.

Every random number of a step depends on the seed and the index of the training sample only, never
on numbers drawn before. So a run that was killed and resumed draws the same numbers as a run
without a break, and two processes draw the same numbers as one process with twice the batch.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from synthbench.errors import RunError, Stopped
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import Progress
from synthbench.generators.loop import checkpoints, precision
from synthbench.generators.loop.freezing import freeze
from synthbench.generators.loop.signals import flag, stop_signals
from synthbench.generators.loop.sources import Batch, OptimizerGroup, Task, batches
from synthbench.generators.loop.step_log import StepLog
from synthbench.generators.loop.watch import Watch
from synthbench.generators.networks.weights import read_tensors
from synthbench.runs.folder import Run
from synthbench.runtime.processes import on_cpu

log = logging.getLogger("synthbench")

SMOOTHING = 200
"""Steps over which the training loss is smoothed."""

LOOKS = 10
"""How often per `patience` the smoothed training loss is compared with the lowest so far."""


def train(
    task: Task,
    run: Run,
    *,
    resume: bool,
    monitor: Monitor | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Train a network and return its averaged (EMA) weights by name, on the CPU.

    With scores during training they are the weights of the best score, with early stopping those
    of the lowest loss, otherwise the last ones. The run's record has their step (`weights_step`).

    A resumed run whose first step is not finite, although settings may have changed, began from a
    state that has diverged. It goes on from the checkpoint before that one, where there is one.

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
    UsageError
        bf16 gives wrong gradients on this processor.
    Stopped
        SIGTERM or SIGINT came; the step was finished and a checkpoint written.
    """
    training = Training(task, run, monitor or Monitor(), resume=resume)
    with task.source.opened(progress), stop_signals() as signals:
        while not training.session(signals, progress):
            training.go_back()
        training.accelerator.wait_for_everyone()
    training.record()
    averaged = training.averaged()
    training.check_diversity(averaged)
    return averaged


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
        freeze(task.model, settings.freeze)
        groups = parameter_groups(task.model, task.optimizers or (OptimizerGroup(""),))
        optimizer = torch.optim.Adam(groups, lr=settings.learning_rate, foreach=True)
        self.model, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        self.bare = self.accelerator.unwrap_model(self.model)
        self.ema = {name: p.detach().clone() for name, p in self.bare.named_parameters()}
        self.total = settings.total_steps(len(task.source), count)
        device = self.accelerator.device.type
        self.unchecked = settings.precision == "bf16" and device == "cpu"
        self.watch = Watch(self.accelerator, task, run, monitor)
        self.losses = StepLog(run.folder / "loss.csv", ("loss", "seconds"), run.root)
        self.pending: list[tuple[int, float, float]] = []
        state = checkpoints.State(0, 0.0, settings.volumes_a_step(count))
        self._begin_at(self._restored(state.volumes_a_step) if resume else state)

    def _restored(self, volumes_a_step: int) -> checkpoints.State:
        return checkpoints.restore(
            self.run, self.bare, self.ema, self.optimizer.optimizer, volumes_a_step
        )

    def _begin_at(self, state: checkpoints.State) -> None:
        """Begin a session at this state: later rows of the logs will be written again."""
        self.state = state
        self.start, self.seconds_before = state.step, state.seconds
        if self.main:
            self.losses.keep(self.start)
            self.watch.keep(self.start)
        self.began = time.monotonic()

    def session(self, signals: Sequence[int], progress: Progress | None) -> bool:
        """Train until the end; return False where the state of the first step has diverged.

        Raises
        ------
        RunError, Stopped
            As `train`.
        """
        with closing(self.batches()) as ahead:
            while self.state.step < self.total and not self.watch.is_patience_over(self.state):
                loss, norm, stop = self._gradients(ahead, signals)
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    if self.state.step == self.start and checkpoints.is_older(self.run, self.start):
                        return False
                    self._give_up(loss, norm)
                self._move(loss, norm)
                self.look()
                self.keep(stop)
                done = self.state.step
                if self.main and progress:
                    progress(done, self.total, f"loss {loss:.4f}")
                if stop and done < self.total:
                    raise self.stopped(signals)
        return True

    def go_back(self) -> None:
        """Begin again at the checkpoint before the one that has diverged, which is set aside."""
        diverged, volumes_a_step = self.start, self.state.volumes_a_step
        self.accelerator.wait_for_everyone()
        if self.main:
            checkpoints.set_aside(self.run, diverged)
        self.accelerator.wait_for_everyone()
        self.optimizer.zero_grad()
        self._begin_at(self._restored(volumes_a_step))
        log.warning(
            "%s: the loss or the gradient is not finite from the checkpoint of step %d: going on "
            "from step %d", self.run.root, diverged, self.start,
        )  # fmt: skip

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
        loss, norm, stop = self._gradients(ahead, signals)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._give_up(loss, norm)
        self._move(loss, norm)
        return loss, stop

    def _gradients(
        self, ahead: Iterator[Batch], signals: Sequence[int]
    ) -> tuple[float, float, bool]:
        """Compute the next step's gradients; return its loss, their norm, and True to stop."""
        if self.unchecked:
            with precision.convolutions(self.bare) as seen:
                found = self._accumulate(ahead)
            precision.check_bf16(seen)
            self.unchecked = False
        else:
            found = self._accumulate(ahead)
        return self._agree(*found, signals)

    def _accumulate(self, ahead: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """Add up the gradients of a step; return the mean loss and the norm of the gradient."""
        for group in self.optimizer.param_groups:
            rate = self.settings.learning_rate_at(self.state.step, self.total)
            group["lr"] = rate * group["rate"]
        accelerator = self.accelerator
        mean_loss = torch.zeros((), device=accelerator.device)
        norm: Tensor | None = None
        for _ in range(self.settings.accumulation):
            batch = [x.to(accelerator.device, non_blocking=True) for x in next(ahead)]
            with accelerator.accumulate(self.model):
                loss = self.task.objective.losses(self.model, *batch).mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    norm = self._clip()
            mean_loss += loss.detach() / self.settings.accumulation
        assert norm is not None
        return mean_loss, norm

    def _clip(self) -> Tensor:
        """Limit the gradient's norm of each group; return the largest norm before, or NaN."""
        limit = self.settings.clip_norm
        norms = [
            self.accelerator.clip_grad_norm_(group["params"], limit)
            for group in self.optimizer.param_groups
        ]
        return torch.stack(norms).amax()  # amax returns NaN where one of them is NaN

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
        settings, stage = (
            self.settings,
            "" if self.run.part_of is None else f"{self.run.folder.name}.",
        )
        fp32 = f", or --set {stage}precision=fp32" if settings.precision != "fp32" else ""
        raise RunError(
            f"step {self.state.step + 1}: the loss is {loss}, the gradient's norm {norm}"
            + (" (with precision=bf16)" if fp32 else "")
            + f". The state before that step is kept in {self.run.checkpoints}, and can be sampled "
            "from. Continue with a lower learning_rate"
            f"{fp32}: synthbench train --resume --out {self.run.root} --set "
            f"{stage}learning_rate={settings.learning_rate / 10:.2g}"
        )

    def _move(self, loss: float, norm: float) -> None:
        """Take the optimizer's step, and average the weights."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        done = self.state.step + 1
        _update_ema(self.ema, self.bare, self.settings.ema_decay, done)
        seconds = self.seconds_before + time.monotonic() - self.began
        smoothed = smooth(self.state.smoothed, loss, done)
        self.state = replace(self.state, step=done, seconds=seconds, smoothed=smoothed)
        self.pending.append((done, loss, seconds))
        if self.main and self.monitor.log:
            self.monitor.log(done, {"loss": loss, "gradient_norm": norm})

    def look(self) -> None:
        """Compute validation losses, previews and scores where they are due."""
        last = self.state.step == self.total
        self.state = self.watch.after(self.state, self.bare, self.ema, last=last)
        period = max(1, self.settings.patience // LOOKS)
        if self.settings.early_stopping == "training" and (last or self.state.step % period == 0):
            assert self.state.smoothed is not None
            self.state = self.watch.compared(self.state, self.state.smoothed, self.ema, "training")

    def keep(self, stop: bool) -> None:
        """Write a checkpoint where one is due."""
        done = self.state.step
        ends = done == self.total or self.watch.is_patience_over(self.state)
        if done % self.settings.checkpoint_every == 0 or ends or stop:
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
        """Write steps, processes, seconds and the best value into the run's record."""
        if not self.main:
            return
        state, stopping = self.state, self.settings.early_stopping
        best = {} if stopping is None else {
            "best_loss": state.best_score, "stopped_early": state.step < self.total,
        }  # fmt: skip
        self.run.update(
            steps=state.step,
            processes=self.accelerator.num_processes,
            device=str(self.accelerator.device.type),
            training_seconds=round(state.seconds, 1),
            weights_step=state.step if self.watch.best_of(state) is None else state.best_step,
            best_score=state.best_score if stopping is None else None,
            **best,
        )

    def check_diversity(self, averaged: Mapping[str, Tensor]) -> None:
        """Compare the diversity of samples of the run's weights with that of training volumes."""
        last = self.watch.best_of(self.state) is None
        step = self.state.step if last else self.state.best_step
        assert step is not None
        self.watch.check_diversity(step, self.bare, averaged, newest=last)

    def averaged(self) -> dict[str, Tensor]:
        """Return the averaged weights by name, on the CPU: of the best value, else the last."""
        file = self.watch.best_of(self.state)
        if file is None:
            return {name: value.cpu() for name, value in self.ema.items()}
        return read_tensors(file)

    def _log_losses(self) -> None:
        if self.main and self.pending:
            self.losses.append(self.pending)
        self.pending = []

    def _save(self) -> None:
        if self.main and self.state.step > self.start:
            checkpoints.save(self.run, self.state, self.bare, self.ema, self.optimizer.optimizer)


def parameter_groups(
    model: nn.Module, optimizers: Sequence[OptimizerGroup]
) -> list[dict[str, Any]]:
    """Return the trained parameters of each optimizer, as PyTorch's parameter groups.

    A group whose parameters are all frozen is left out.

    Raises
    ------
    ValueError
        A parameter belongs to no group, or to more than one.
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "rate": one.rate, "betas": one.betas} for one in optimizers
    ]
    for name, parameter in model.named_parameters():
        places = [i for i, one in enumerate(optimizers) if name.startswith(one.start)]
        if len(places) != 1:
            raise ValueError(
                f"optimizers: {name} belongs to {len(places)} groups, not to one; the groups begin "
                f"with {[one.start for one in optimizers]}."
            )
        if parameter.requires_grad:
            groups[places[0]]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def smooth(before: float | None, loss: float, step: int) -> float:
    """Return the smoothed loss after a step, counted from 1, from that before it.

    It is the mean of the losses of the first `SMOOTHING` steps, then an exponential mean: single
    steps say little, because their timesteps are random.

    >>> smooth(smooth(None, 1.0, 1), 3.0, 2)
    2.0
    """
    return loss if before is None else before + (loss - before) / min(step, SMOOTHING)


@torch.no_grad()
def _update_ema(ema: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the weights; the first steps average over fewer steps."""
    effective = min(decay, (1 + step) / (10 + step))
    values = [p.detach() for _, p in model.named_parameters()]
    torch._foreach_lerp_(list(ema.values()), values, 1 - effective)
