"""Validation losses, previews and scores while a network is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from synthbench.generators.contracts import Monitor, Volume
from synthbench.generators.loop import checkpoints
from synthbench.generators.loop.settings import LoopSettings
from synthbench.generators.loop.sources import VALIDATION, Task, draws_of
from synthbench.generators.loop.step_log import StepLog
from synthbench.runs.folder import Run

BANDS = 5
"""Equal parts of the timesteps, from little noise to pure noise, with one validation loss each."""


class Watch:
    """Validation losses, previews and scores, each every few epochs.

    They do not change the training. All use averaged weights and fixed seeds. The processes share
    the work, and the results do not depend on the number of processes.
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
        """Keep only the logged rows of the first `steps` steps."""
        if self.settings is None:
            return
        if self.held_out is not None and self.settings.validate_every:
            self.validation.keep(steps)
        if self.monitor.score and self.settings.score_every:
            self.scores.keep(steps)

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
