"""The dry run: memory and time of a training, without training and without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from synthbench import registry
from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.preflight import check
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from synthbench.generators.generator import (
    GridRule,
    Shape,
    Stage,
    TrainedBySteps,
    check_settings_used,
)
from synthbench.render.numbers import duration
from synthbench.runs.configuration import ATLAS_SHAPE, RunSettings, resolve
from synthbench.training.data import ATLAS_SUBJECTS, check_stated_grid, training_volumes


@dataclass(frozen=True)
class Plan:
    """The memory and time of a training, and what to change where it does not fit.

    Attributes
    ----------
    generator, preset
        Names of the generator and its preset.
    volumes, shape
        Number of training volumes, and their grid.
    estimate
        A `synthbench.training.estimate.estimate.Estimate`.
    fits
        True where the device has enough memory.
    changes
        Where it does not fit: `--set` options that take less memory. None of them was tried.
    stage
        Name of the network; empty where there is only one.
    before
        The plan of the network that is trained before this one, or None.
    """

    generator: str
    preset: str | None
    volumes: int
    shape: Shape
    estimate: Any
    fits: bool
    changes: list[str]
    stage: str = ""
    before: Plan | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Return the printed table: one name and one value per row."""
        e = self.estimate
        parts = ", ".join(f"{name} {_bytes(size)}" for name, size in asdict(e.memory).items())
        if e.seconds_a_step is None:
            slow = f"a step of {e.flops_a_step / 1e12:.3g} TFLOP takes minutes on a CPU"
            pace, total = f"not timed: {'it does not fit' if self.changes else slow}", "not timed"
        else:
            pace = f"{e.seconds_a_step:.3g} (three steps measured)"
            total = f"{duration(e.total_seconds)} for {e.steps} steps"
        per_step = e.batch_size * e.accumulation * e.processes
        first = [] if self.before is None else self.before.rows()
        stage = [("network", self.stage)] if self.stage else []
        return [
            *first,
            *stage,
            ("volumes", f"{self.volumes} of {_grid(self.shape)}; {per_step} per step"),
            ("parameters", f"{e.parameters / 1e6:.1f} M"),
            ("operations per step", f"{e.flops_a_step / 1e12:.3g} TFLOP"),
            ("memory needed", f"{_bytes(e.memory_bytes)} in {e.precision} ({parts})"),
            ("memory available", f"{_bytes(e.device_memory_bytes)} ({e.device_name})"),
            ("seconds per step", pace),
            ("total time", total),
            ("checkpoint", f"{_bytes(e.checkpoint_bytes)} on disk, two are kept"),
        ]

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON values, for `--json`."""
        e = self.estimate
        derived = {"memory_bytes": e.memory_bytes, "total_seconds": e.total_seconds}
        before = None if self.before is None else self.before.record()
        return {**asdict(self), "estimate": {**asdict(e), **derived}, "before": before}


def dry_run(
    generator: str,
    *,
    real: Path | CohortFiles | None = None,
    preset: str | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    init: Path | None = None,
    assume_grid: float | None = None,
    accept: Sequence[str] = (),
) -> Plan:
    """Return the memory and time that a training would take.

    Parameters
    ----------
    generator, real, preset, config, overrides, init, assume_grid, accept
        As for `synthbench.train`.

    Raises
    ------
    UsageError
        The settings are wrong, the network cannot take the grid, or the generator is not trained
        by steps.
    CohortError
        The cohort cannot be trained on.
    """
    settings, own = resolve(
        generator, preset=preset, config=config, overrides=overrides, assume_grid=assume_grid,
        init=None if init is None else str(init),
    )  # fmt: skip
    plugin = registry.load("generators", generator)()
    from synthbench.training.stages import check_freeze

    if not isinstance(plugin, TrainedBySteps):
        raise UsageError(
            f"--dry-run: {generator} is not trained by steps; its training takes seconds."
        )
    check_settings_used(generator, plugin, own)
    networks = plugin.stages(own)
    check_freeze(networks)
    check_stated_grid(settings, own)
    if real is None:
        n, shape = ATLAS_SUBJECTS, settings.space.shape or ATLAS_SHAPE
    else:
        cohort = read_cohort(real, role="real", assume_grid=assume_grid)
        check.check({"train": cohort}, accept)
        n, shape = len(cohort), training_volumes(cohort, settings).space.shape
    if isinstance(own, GridRule):
        own.check_grid(shape)
    plan: Plan | None = None
    for stage in networks:
        plan = _stage_plan(settings, own, stage, (n, shape), plan)
    assert plan is not None
    return plan


def _stage_plan(
    settings: RunSettings,
    own: BaseModel,
    stage: Stage,
    cohort: tuple[int, Shape],
    before: Plan | None,
) -> Plan:
    from synthbench.runtime.processes import processes
    from synthbench.training.estimate.estimate import estimate, fits

    (n, shape), state = cohort, processes()
    estimated = estimate(
        stage, shape, volumes=n, processes=state.num_processes, device=state.device
    )
    fitting = fits(estimated)
    changes = [] if fitting else _changes(stage, own, shape)
    fitting = fitting and (before is None or before.fits)
    return Plan(
        settings.generator, settings.preset, n, shape, estimated, fitting, changes, stage.name,
        before,
    )  # fmt: skip


def _changes(stage: Stage, own: BaseModel, shape: Shape) -> list[str]:
    """Return options that take less memory; first those that change the result least."""
    values, prefix = stage.settings.model_dump(), stage.prefix
    changes = []
    if values.get("batch_size", 1) > 1:
        volumes = values["batch_size"] * values.get("accumulation", 1)
        changes.append(f"--set {prefix}batch_size=1 --set {prefix}accumulation={volumes}")
    if values.get("gradient_checkpointing") is False:
        changes.append(f"--set {prefix}gradient_checkpointing=true")
    if values.get("precision") == "fp32":
        changes.append("--set precision=bf16")
    d, h, w = (max(1, 3 * side // 4) for side in shape)
    smaller = own.nearest_grid((d, h, w)) if isinstance(own, GridRule) else (d, h, w)
    return [*changes, f"--set space.shape=[{','.join(map(str, smaller))}]"]


def refusal(plan: Plan) -> str:
    """Return the message that a training does not fit, with options that take less memory."""
    if plan.before is not None and not plan.before.fits:
        return refusal(plan.before)
    e = plan.estimate
    name = f"{plan.stage}: " if plan.stage else ""
    reason = (
        f"{name}it does not fit: training takes {_bytes(e.memory.training)}, and nine tenths of "
        f"the {_bytes(e.device_memory_bytes)} can be used."
    )
    listed = "\n".join(f"  {change}" for change in plan.changes)
    return (
        f"{reason} These options take less memory. Add one or more, or choose a smaller preset, "
        f"and try --dry-run again:\n{listed}"
    )


def _grid(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"
