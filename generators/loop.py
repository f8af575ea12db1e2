"""One training loop for every diffusion generator, under Accelerate, with exact resume.

Everything random at a step is a function of (seed, index of the training sample), never of a
generator's running state: a run that was killed and resumed draws what the undisturbed run
would have drawn, and two processes draw what one with twice the batch would.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import FrameType
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float32
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synthbench.cohort import Volumes, read_ahead
from synthbench.errors import RunError, Stopped, UsageError
from synthbench.generators import checkpoints
from synthbench.generators.augmentation import AugmentationSettings, augment
from synthbench.generators.contracts import Monitor, Objective, Source, Volume
from synthbench.generators.generator import Progress
from synthbench.generators.step_log import StepLog
from synthbench.generators.volume_cache import VolumeCache
from synthbench.processes import on_cpu, processes
from synthbench.run import Run

BANDS = 5
"""Equal parts of the timesteps, from little noise to nothing but noise, validated apart."""

_ORDER, _DRAWS, _VALIDATION = 0, 1, 2  # independent random streams of one seed

Batch: TypeAlias = tuple[Tensor, ...]

# (the network with averaged weights, a seed) -> a volume in [0, 1]
Draw = Callable[[nn.Module, int], Volume]


class StepSettings(AugmentationSettings):
    """Settings of training by steps."""

    steps: int | None = Field(default=None, ge=1, description="optimizer steps; or give epochs")
    epochs: int | None = Field(default=None, ge=1, description="passes over the training set")
    batch_size: int = Field(default=1, ge=1, description="volumes a process and step")
    accumulation: int = Field(default=1, ge=1, description="batches added up before a step")
    learning_rate: float = Field(default=5e-5, gt=0, description="of Adam")
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="of the averaged weights")
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the network")
    freeze: tuple[str, ...] = Field(
        default=(),
        description="parts of the network that are not trained, by the start of a name",
        examples=[["unet.conv_in", "unet.down_blocks"]],
    )
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")

    @model_validator(mode="after")
    def _one_length(self) -> StepSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs (set the other to null)")
        return self

    def volumes_a_step(self, processes: int) -> int:
        """Return how many volumes an optimizer step sees, all processes together."""
        return self.batch_size * self.accumulation * processes

    def total_steps(self, n: int, processes: int) -> int:
        """Return the number of optimizer steps on `n` volumes."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * n / self.volumes_a_step(processes))


class LoopSettings(StepSettings):
    """Settings of the training loop: the steps, and how they are watched."""

    validate_every: int = Field(
        default=10, ge=0, description="epochs between validation losses; 0: never"
    )
    preview_every: int = Field(default=0, ge=0, description="epochs between previews; 0: never")
    previews: int = Field(default=4, ge=1, description="volumes of a preview, from fixed seeds")
    score_every: int = Field(default=0, ge=0, description="epochs between scores; 0: never")
    score_volumes: int = Field(default=16, ge=2, description="volumes drawn for a score")


class TrainingVolumes:
    """A source of whole volumes, each prepared once and augmented anew.

    Parameters
    ----------
    volumes
        The training volumes.
    settings
        The augmentation.
    run
        The prepared volumes lie in its folder.
    """

    def __init__(self, volumes: Volumes, settings: AugmentationSettings, run: Run) -> None:
        self.volumes, self.settings, self.run = volumes, settings, run

    def __len__(self) -> int:
        return len(self.volumes)

    @contextmanager
    def opened(self, progress: Progress | None) -> Iterator[None]:
        """Prepare the volumes as rows of one file, which the main process fills."""
        state = processes()
        main = state.is_main_process
        cache = VolumeCache(self.volumes, self.run.folder, progress, fill=True) if main else None
        state.wait_for_everyone()
        with cache or VolumeCache(self.volumes, self.run.folder, fill=False) as rows:
            self.rows = rows
            yield

    def batch(
        self, items: Sequence[int], draws: Sequence[torch.Generator]
    ) -> tuple[Float32[Tensor, "b 1 d h w"]]:
        """Return volumes, augmented."""
        space = self.volumes.space
        picked = torch.from_numpy(np.stack([self.rows[item] for item in items]))
        shaped = picked.reshape(len(items), 1, *space.shape)
        return (augment(shaped, self.settings, draws, space.spacing),)


class HeldOutVolumes:
    """A source of whole volumes as they are.

    Parameters
    ----------
    volumes
        Of subjects that are not trained on.
    """

    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes

    def __len__(self) -> int:
        return len(self.volumes)

    def opened(self, progress: Progress | None) -> AbstractContextManager[None]:
        """Prepare nothing: validation reads a volume when its turn comes."""
        return nullcontext()

    def batch(
        self, items: Sequence[int], draws: Sequence[torch.Generator]
    ) -> tuple[Float32[Tensor, "b 1 d h w"]]:
        """Return volumes."""
        return (torch.from_numpy(np.stack([self.volumes[item] for item in items]))[:, None],)


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes
    ----------
    model
        The network, in its initial state.
    objective
        What it is trained for.
    source
        What to train on.
    settings
        The loop's settings. Training is watched where they are `LoopSettings`.
    draw
        Samples a volume with a network of averaged weights, for previews and scores; None where
        there are none.
    held_out
        What validation losses are of.
    """

    model: nn.Module
    objective: Objective
    source: Source
    settings: StepSettings
    draw: Draw | None = None
    held_out: Source | None = None


def train(
    task: Task,
    run: Run,
    *,
    resume: bool,
    monitor: Monitor | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Train a model on a source and return averaged (EMA) weights, on the CPU.

    Those of the best score where scores are taken, otherwise the last ones; the run's record says
    of which step (`weights_step`).

    Parameters
    ----------
    task
        What is trained.
    run
        Checkpoints and logs go here.
    resume
        Continue from the newest checkpoint that is whole; from the start if there is none.
    monitor
        Scores, previews and trackers, where wanted.
    progress
        Called after each step on the main process.

    Raises
    ------
    RunError
        The loss or the gradient is not finite, or a checkpoint cannot be written; the last good
        state is kept.
    Stopped
        A signal (SIGTERM, SIGINT) asked to stop; the step was finished and a checkpoint written.
    """
    training = Training(task, run, monitor or Monitor(), resume=resume)
    total = training.total
    with (
        task.source.opened(progress),
        _stop_signals() as signals,
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
    """A training: its state, and what is done with it in each step.

    Parameters
    ----------
    task, run, monitor, resume
        See `train`.

    Attributes
    ----------
    start, total
        Steps done before this process, and in all.
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
        self.watch = _Watch(self.accelerator, task, run, monitor)
        self.losses = StepLog(run.folder / "loss.csv", ("loss", "seconds"), run.root)
        self.pending: list[tuple[int, float, float]] = []
        if self.main:
            self.losses.keep(self.start)
            self.watch.keep(self.start)
        self.began = time.monotonic()

    def batches(self) -> Generator[Batch]:
        """Yield what this process's steps are taken on, one batch after the other."""
        return _batches(self.task, self.accelerator, self.start, self.total)

    def step(self, ahead: Iterator[Batch], signals: Sequence[int] = ()) -> tuple[float, bool]:
        """Take the next optimizer step; return its mean loss, and whether to stop after it.

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
        """Return the loss, the gradient's norm and whether to stop, alike in all processes."""
        # One message between the processes: all go on, or all stop at the same step.
        own = torch.stack([mean_loss, norm.detach().to(mean_loss), _flag(signals, mean_loss)])
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
        """Take validation losses, previews and scores where they are due."""
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
        """Write into the run's record what the training was."""
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
        """Return the averaged weights, on the CPU: of the best score, or else the last ones."""
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


# ---------------------------------------------------------------- what a step sees


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def _draws(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*key))


def _batches(task: Task, accelerator: Accelerator, start: int, total: int) -> Generator[Batch]:
    """Yield this process's batches, prepared while the network computes.

    One is (clean, timesteps, noise, *conditioning).
    """
    source, objective, settings = task.source, task.objective, task.settings
    size, accumulation = settings.batch_size, settings.accumulation
    rank, processes = accelerator.process_index, accelerator.num_processes
    on_gpu = accelerator.device.type == "cuda"

    def batch(index: int) -> Batch:
        first = (index * processes + rank) * size
        samples = range(first, first + size)
        draws = [_draws(settings.seed, _DRAWS, sample) for sample in samples]
        clean, *conditioning = source.batch(_items_at(len(source), settings.seed, samples), draws)
        t = torch.cat([torch.randint(objective.timesteps, (1,), generator=g) for g in draws])
        # Into place, where torch.stack of whole volumes would start threads beside the step's own.
        noise = torch.empty(clean.shape)
        for row, g in zip(noise, draws, strict=True):
            torch.randn(row.shape, generator=g, out=row)
        prepared = (clean, t, noise, *conditioning)
        return tuple(x.pin_memory() for x in prepared) if on_gpu else prepared

    yield from read_ahead(batch, range(start * accumulation, total * accumulation), workers=1)


def _items_at(n: int, seed: int, samples: range) -> list[int]:
    """Return the items at these places of the endless, per-epoch shuffled sequence."""
    items = []
    for sample in samples:
        epoch, place = divmod(sample, n)
        order = np.random.default_rng([seed, _ORDER, epoch]).permutation(n)
        items.append(int(order[place]))
    return items


def freeze(
    model: nn.Module, starts: Sequence[str], *, setting: str = "freeze"
) -> list[nn.Parameter]:
    """Freeze the parameters whose names start so, and return the others.

    Parameters
    ----------
    model
        It may be without data, on the meta device.
    starts
        Beginnings of names.
    setting
        What the user calls them, for errors.

    Raises
    ------
    UsageError
        No name starts so, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for start in starts:
        if not any(name.startswith(start) for name in names):
            raise UsageError(
                f"{setting}: no parameter's name starts with '{start}'. {_similar(start, names)}"
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(starts)))
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise UsageError(
            f"{setting}: every parameter is frozen; nothing is left to train. Leave some of "
            f"{', '.join(starts)} out."
        )
    return trained


def _similar(start: str, names: Sequence[str]) -> str:
    """Name the parts of a network that are called much like it, or else its largest parts."""
    split = [name.split(".") for name in names]
    # A part is also known by the end of its name: people leave out what it lies in.
    ends: dict[str, str] = {}
    for name in split:
        for depth in range(1, len(name)):
            for first in range(depth):
                ends.setdefault(".".join(name[first:depth]), ".".join(name[:depth]))
    close = list(dict.fromkeys(ends[end] for end in get_close_matches(start, ends)))
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Names start with: {', '.join(sorted({'.'.join(name[:2]) for name in split}))}."


@torch.no_grad()
def _update_ema(ema: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the weights; young runs average over fewer steps."""
    effective = min(decay, (1 + step) / (10 + step))
    values = [p.detach() for _, p in model.named_parameters()]
    torch._foreach_lerp_(list(ema.values()), values, 1 - effective)


# ---------------------------------------------------------------- signals


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM (a scheduler's) and SIGINT (Ctrl-C); a second Ctrl-C acts at once.

    A second SIGTERM does not: a scheduler and a launcher may send one each for one stop.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may set handlers
        return

    def remember(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before: dict[int, Any] = {}
    for wanted in (signal.SIGTERM, signal.SIGINT):
        before[wanted] = signal.getsignal(wanted) or signal.SIG_DFL
        signal.signal(wanted, remember)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _flag(signals: Sequence[int], like: Tensor) -> Tensor:
    return torch.as_tensor(float(bool(signals))).to(like)


# ---------------------------------------------------------------- what is watched meanwhile


class _Watch:
    """Validation losses, previews and scores, each due after so many epochs.

    None of it changes the training. All of it uses averaged weights and fixed seeds, and is
    shared out among the processes with results that do not depend on their number.
    """

    def __init__(self, accelerator: Accelerator, task: Task, run: Run, monitor: Monitor) -> None:
        self.accelerator, self.objective, self.draw = accelerator, task.objective, task.draw
        self.settings = task.settings if isinstance(task.settings, LoopSettings) else None
        self.run, self.monitor, self.held_out = run, monitor, task.held_out
        self.volumes = len(task.source)
        bands = tuple(f"{i / BANDS:.0%}-{(i + 1) / BANDS:.0%}" for i in range(BANDS))
        self.validation = StepLog(run.folder / "validation.csv", ("epoch", *bands), run.root)
        self.scores = StepLog(run.folder / "scores.csv", ("epoch", "score"), run.root)
        self.best_file = run.folder / "best.safetensors"

    def keep(self, steps: int) -> None:
        """Keep what was logged of the first `steps` steps."""
        if self.settings is None:
            return
        if self.held_out is not None and self.settings.validate_every:
            self.validation.keep(steps)
        if self.monitor.score and self.settings.score_every:
            self.scores.keep(steps)

    def after(
        self, state: checkpoints.State, model: nn.Module, ema: Mapping[str, Tensor], last: bool
    ) -> checkpoints.State:
        """Do what is due after this step, and return the state with the best score so far."""
        settings, monitor = self.settings, self.monitor
        if settings is None:
            return state
        validate = self.held_out is not None and self._due(settings.validate_every, state, last)
        preview = monitor.preview is not None and self._due(settings.preview_every, state, False)
        score = monitor.score is not None and self._due(settings.score_every, state, last)
        if not (validate or preview or score):
            return state
        epoch = state.step * state.volumes_a_step / self.volumes
        with _averaged(model, ema):
            if validate:
                self._validate(state.step, epoch, model, settings.seed)
            if preview:
                self._preview(state.step, model, settings.previews)
            if score:
                state = self._score(state, epoch, model, ema, settings.score_volumes)
        return state

    def _due(self, every: int, state: checkpoints.State, last: bool) -> bool:
        if not every:
            return False
        period = every * self.volumes
        seen = state.step * state.volumes_a_step
        return last or seen // period > (seen - state.volumes_a_step) // period

    def _validate(self, step: int, epoch: float, model: nn.Module, seed: int) -> None:
        held_out = self.held_out
        assert held_out is not None
        device, bands = self.accelerator.device, BANDS
        edges = [round(self.objective.timesteps * i / bands) for i in range(bands + 1)]

        def losses(index: int) -> Tensor:
            found = []
            for band in range(bands):
                draws = _draws(seed, _VALIDATION, index, band)
                clean, *conditioning = (x.to(device) for x in held_out.batch([index], [draws]))
                low, high = edges[band], max(edges[band] + 1, edges[band + 1])
                t = torch.randint(low, high, (1,), generator=draws).to(device)
                noise = torch.randn(clean.shape, generator=draws).to(device)
                found.append(self.objective.losses(model, clean, t, noise, *conditioning))
            return torch.cat(found)

        means = self._shared(len(held_out), (bands,), losses).double().mean(0).tolist()
        if self.accelerator.is_main_process:
            self.validation.append([(step, epoch, *means)])
            if self.monitor.log:
                names = self.validation.columns[2:]
                self.monitor.log(
                    step, {f"validation/{n}": v for n, v in zip(names, means, strict=True)}
                )

    def _drawn(self, model: nn.Module, n: int) -> list[Volume]:
        draw = self.draw
        assert draw is not None
        first = torch.from_numpy(draw(model, 0))
        shared = self._shared(
            n - 1, tuple(first.shape), lambda i: torch.from_numpy(draw(model, i + 1))
        )
        return [first.numpy(), *shared.cpu().numpy()]

    def _preview(self, step: int, model: nn.Module, n: int) -> None:
        drawn = self._drawn(model, n)
        if self.accelerator.is_main_process and self.monitor.preview:
            folder = self.run.folder / "previews"
            folder.mkdir(exist_ok=True)
            self.monitor.preview(drawn, folder / f"step-{step:08d}.png")

    def _score(
        self,
        state: checkpoints.State,
        epoch: float,
        model: nn.Module,
        ema: Mapping[str, Tensor],
        n: int,
    ) -> checkpoints.State:
        assert self.monitor.score is not None
        values = dict(self.monitor.score(self._drawn(model, n)))
        value = next(iter(values.values()))
        if self.accelerator.is_main_process:
            self.scores.append([(state.step, epoch, value)])
            if self.monitor.log:
                self.monitor.log(state.step, {f"score/{n}": v for n, v in values.items()})
        if state.best_score is not None and value >= state.best_score:
            return state
        if self.accelerator.is_main_process:
            self._keep_best(ema)
        return replace(state, best_step=state.step, best_score=value)

    def _keep_best(self, ema: Mapping[str, Tensor]) -> None:
        temporary = self.best_file.with_suffix(".tmp")
        save_file({k: v.detach().cpu().contiguous() for k, v in ema.items()}, temporary)
        temporary.replace(self.best_file)

    def _shared(self, n: int, shape: tuple[int, ...], item: Callable[[int], Tensor]) -> Tensor:
        """Compute items 0 to n - 1, each in one process; every process returns all of them."""
        table = torch.zeros((n, *shape), device=self.accelerator.device)
        for i in range(self.accelerator.process_index, n, self.accelerator.num_processes):
            table[i] = item(i).to(table)
        # Every row is zero in all processes but one, so the sum is exact.
        summed: Tensor = self.accelerator.reduce(table, reduction="sum")
        return summed


@contextmanager
def _averaged(model: nn.Module, ema: Mapping[str, Tensor]) -> Iterator[None]:
    """Lend the averaged weights to the network, without gradients; then put its own back."""
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(ema[name])
        try:
            yield
        finally:
            for name, p in model.named_parameters():
                p.copy_(own[name])
            model.train()
