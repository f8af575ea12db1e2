"""Validation losses, previews and scores while a network is trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from synthbench.errors import RunError
from synthbench.generators.contracts import Monitor, Volume
from synthbench.generators.loop import checkpoints
from synthbench.generators.loop.settings import LoopSettings
from synthbench.generators.loop.sources import VALIDATION, Task, draws_of
from synthbench.generators.loop.step_log import StepLog
from synthbench.runs.collapse import collapse_in_words
from synthbench.runs.folder import FIX, Run
from synthbench.runtime.arrays import metadata_of
from synthbench.runtime.files import replacing

log = logging.getLogger("synthbench")

BANDS = 5
"""Equal parts of the timesteps, from little noise to pure noise, with one validation loss each."""

DIVERSITY_COLUMNS = ("similarity", "real_similarity", "diversity", "twins", "collapsed")
"""Columns of diversity.csv: fields of `synthbench.metrics.similarity.collapse.Diversity`."""


class Watch:
    """Validation losses, previews, scores and checks for collapse, each every few epochs.

    They do not change the training. All use averaged weights and fixed seeds. The processes share
    the work, and the results do not depend on the number of processes.
    """

    def __init__(self, accelerator: Accelerator, task: Task, run: Run, monitor: Monitor) -> None:
        self.accelerator, self.objective, self.draw = accelerator, task.objective, task.draw
        self.steps = task.settings
        self.settings = task.settings if isinstance(task.settings, LoopSettings) else None
        self.run, self.monitor, self.held_out = run, monitor, task.held_out
        self.volumes = len(task.source)
        bands = tuple(f"{i / BANDS:.0%}-{(i + 1) / BANDS:.0%}" for i in range(BANDS))
        self.validation = StepLog(run.folder / "validation.csv", ("epoch", *bands), run.root)
        self.scores = StepLog(run.folder / "scores.csv", ("epoch", "score"), run.root)
        self.diversity = StepLog(run.folder / "diversity.csv", DIVERSITY_COLUMNS, run.root)
        self.best_file = run.folder / "best.safetensors"

    def keep(self, steps: int) -> None:
        """Keep only the logged rows of the first `steps` steps."""
        if self.settings is None:
            return
        if self.held_out is not None and self.settings.validate_every:
            self.validation.keep(steps)
        if self.monitor.score and self.settings.score_every:
            self.scores.keep(steps)
        if self._is_diversity_checked:
            self.diversity.keep(steps)

    def after(
        self, state: checkpoints.State, model: nn.Module, ema: Mapping[str, Tensor], last: bool
    ) -> checkpoints.State:
        """Do what is due after this step; return the state with the best score so far."""
        settings, monitor = self.settings, self.monitor
        if settings is None:
            return state
        validate = self.held_out is not None and self._due(settings.validate_every, state, last)
        preview = monitor.preview is not None and self._due(settings.preview_every, state, False)
        score = monitor.score is not None and self._due(settings.score_every, state, last)
        diversity = (
            self._is_diversity_checked
            and not last
            and self._due(settings.diversity_every, state, False)
        )  # the last look is at the weights that the run keeps: `check_diversity`
        if diversity:
            self.check_diversity(state.step, model, ema)
        if not (validate or preview or score):
            return state
        epoch = state.step * state.volumes_a_step / self.volumes
        with _averaged(model, ema):
            if validate:
                loss = self._validate(state.step, epoch, model, settings.seed)
                if settings.early_stopping == "validation":
                    state = self.compared(state, loss, ema, "validation")
            if preview:
                self._preview(state.step, model, settings.previews)
            if score:
                state = self._score(state, epoch, model, ema, settings.score_volumes)
        return state

    @property
    def _is_diversity_checked(self) -> bool:
        settings = self.settings
        return bool(self.monitor.diversity and settings and settings.diversity_every)

    def check_diversity(
        self, step: int, model: nn.Module, weights: Mapping[str, Tensor], newest: bool = True
    ) -> None:
        """Compare the diversity of samples with that of training volumes, and say a collapse.

        The result goes into the run's record, the log and the trackers, and into diversity.csv
        where the weights are those of the `newest` step.
        """
        if not self._is_diversity_checked:
            return
        assert self.settings is not None
        assert self.monitor.diversity is not None
        with _averaged(model, weights):
            drawn = self._drawn(model, self.settings.diversity_volumes)
        if not self.accelerator.is_main_process:
            return
        found = self.monitor.diversity(drawn)
        if found is None:
            return
        values = {name: float(getattr(found, name)) for name in DIVERSITY_COLUMNS}
        if newest:
            self.diversity.keep(step - 1)
            self.diversity.append([(step, *values.values())])
        self.run.update(diversity={"step": step, **asdict(found)})
        if self.monitor.log:
            self.monitor.log(step, {f"diversity/{name}": v for name, v in values.items()})
        if found.collapsed:
            log.warning("%s: %s", self.run.root, collapse_in_words(asdict(found), step))

    def _due(self, every: int, state: checkpoints.State, last: bool) -> bool:
        if not every:
            return False
        period = every * self.volumes
        seen = state.step * state.volumes_a_step
        return last or seen // period > (seen - state.volumes_a_step) // period

    def _validate(self, step: int, epoch: float, model: nn.Module, seed: int) -> float:
        """Compute the losses of the validation volumes by band, and return their mean."""
        held_out = self.held_out
        assert held_out is not None
        device, bands = self.accelerator.device, BANDS
        edges = [round(self.objective.timesteps * i / bands) for i in range(bands + 1)]

        def losses(index: int) -> Tensor:
            by_band = []
            for band in range(bands):
                draws = draws_of(seed, VALIDATION, index, band)
                clean, *conditioning = (x.to(device) for x in held_out.batch([index], [draws]))
                low, high = edges[band], max(edges[band] + 1, edges[band + 1])
                t = torch.randint(low, high, (1,), generator=draws).to(device)
                noise = torch.randn(clean.shape, generator=draws).to(device)
                by_band.append(self.objective.losses(model, clean, t, noise, *conditioning))
            return torch.cat(by_band)

        means = self._shared(len(held_out), (bands,), losses).double().mean(0).tolist()
        if self.accelerator.is_main_process:
            self.validation.append([(step, epoch, *means)])
            if self.monitor.log:
                names = self.validation.columns[2:]
                self.monitor.log(
                    step, {f"validation/{n}": v for n, v in zip(names, means, strict=True)}
                )
        return float(sum(means) / len(means))

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
        return self.compared(state, value, ema, "score")

    def compared(
        self, state: checkpoints.State, value: float, ema: Mapping[str, Tensor], of: str
    ) -> checkpoints.State:
        """Return the state after a value is compared with the lowest of its kind so far.

        The averaged weights of the lowest value are kept. A value that is not finite is never the
        lowest. Values of another kind, before a setting was changed, do not count.
        """
        state = replace(state, looked=state.step)
        same = (state.best_of or "score") == of
        beaten = same and state.best_score is not None and value >= state.best_score
        if beaten or not math.isfinite(value):
            return state
        if self.accelerator.is_main_process:
            self._keep_best(ema, state.step)
        return replace(state, best_step=state.step, best_score=value, best_of=of)

    def is_patience_over(self, state: checkpoints.State) -> bool:
        """Return True where early stopping is on, and the loss has not fallen for too long."""
        of, patience = self.steps.early_stopping, self.steps.patience
        if of is None or state.best_of != of or state.best_step is None or state.looked is None:
            return False
        return state.looked - state.best_step >= patience

    def best_of(self, state: checkpoints.State) -> Path | None:
        """Return the file of the best weights; None where the last weights are the run's.

        A run that went on from an earlier checkpoint with other settings may have lost them.
        """
        scored = self.settings is not None and self.settings.score_every > 0
        of = self.steps.early_stopping or ("score" if scored else None)
        if state.best_step is None or (state.best_of or "score") != of:
            return None
        about = metadata_of(self.best_file, error=RunError, fix=FIX)
        step = about.get("step", str(state.best_step))
        if step != str(state.best_step):
            log.warning(
                "%s: holds the weights of step %s, not those of step %d, which were the best: the "
                "last weights are taken", self.best_file, step, state.best_step,
            )  # fmt: skip
            return None
        return self.best_file

    def _keep_best(self, ema: Mapping[str, Tensor], step: int) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in ema.items()}
        with replacing(self.best_file) as temporary:
            save_file(tensors, temporary, {"step": str(step)})

    def _shared(self, n: int, shape: tuple[int, ...], item: Callable[[int], Tensor]) -> Tensor:
        """Return items 0 to n - 1 in every process; each is computed in one process."""
        table = torch.zeros((n, *shape), device=self.accelerator.device)
        for i in range(self.accelerator.process_index, n, self.accelerator.num_processes):
            table[i] = item(i).to(table)
        # Every row is zero in all processes but one, so the sum is exact.
        summed: Tensor = self.accelerator.reduce(table, reduction="sum")
        return summed


@contextmanager
def _averaged(model: nn.Module, ema: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the network the averaged weights, without gradients; then restore its own."""
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
