"""What a training would take, found without training and without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthbench import preflight, registry
from synthbench.cohort import read_cohort
from synthbench.errors import UsageError
from synthbench.render.numbers import duration
from synthbench.training import (
    ATLAS_SHAPE,
    ATLAS_SUBJECTS,
    RunSettings,
    resolve,
    training_volumes,
    trains_by_steps,
)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Plan:
    """What a training would take, and what would fit where it does not.

    Attributes
    ----------
    generator, preset
        Of the run.
    volumes, shape
        How many volumes it would train on, and their grid.
    estimate
        A `synthbench.generators.estimate.Estimate`.
    fits
        Whether its memory is there.
    alternatives
        `--set` options with which it would fit, each with the memory it would take in bytes.
    stage
        Which of its networks this is of; empty where there is one alone.
    before
        The plan of the network that is trained first, if there are two.
    """

    generator: str
    preset: str | None
    volumes: int
    shape: Shape
    estimate: Any
    fits: bool
    alternatives: list[tuple[str, int]]
    stage: str = ""
    before: Plan | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Return what to print: a name and a value a row."""
        e = self.estimate
        parts = ", ".join(f"{name} {_bytes(size)}" for name, size in asdict(e.memory).items())
        if e.seconds_a_step is None:
            pace = total = "not timed"
        else:
            how = "three steps measured"
            if e.timing == "extrapolated":
                how = f"extrapolated by operations from steps at {_grid(e.timed_shape)}"
            pace = f"{e.seconds_a_step:.3g} ({how})"
            total = f"{duration(e.total_seconds)} for {e.steps} steps"
        a_step = e.batch_size * e.accumulation * e.processes
        first = [] if self.before is None else self.before.rows()
        named = [("trained", self.stage)] if self.stage else []
        return [
            *first,
            *named,
            ("volumes", f"{self.volumes} of {_grid(self.shape)}; {a_step} a step"),
            ("parameters", f"{e.parameters / 1e6:.1f} M"),
            ("operations a step", f"{e.flops_a_step / 1e12:.3g} TFLOP"),
            ("memory", f"{_bytes(e.memory_bytes)} in {e.precision} ({parts})"),
            ("there is", f"{_bytes(e.device_memory_bytes)} ({e.device_name})"),
            ("seconds a step", pace),
            ("in all", total),
            ("a checkpoint", f"{_bytes(e.checkpoint_bytes)} on disk, two are kept"),
        ]

    def record(self) -> dict[str, Any]:
        """Return all of it for `--json`."""
        e = self.estimate
        derived = {"memory_bytes": e.memory_bytes, "total_seconds": e.total_seconds}
        before = None if self.before is None else self.before.record()
        return {**asdict(self), "estimate": {**asdict(e), **derived}, "before": before}


def dry_run(
    generator: str,
    *,
    real: Path | None = None,
    preset: str | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    assume_grid: float | None = None,
    accept: Sequence[str] = (),
) -> Plan:
    """Estimate what a training would take.

    Parameters
    ----------
    generator, real, preset, config, overrides, assume_grid, accept
        As for `synthbench.train`.

    Raises
    ------
    UsageError
        The settings cannot be, the grid does not fit the network, or the generator is not trained
        by steps.
    CohortError
        The cohort cannot be trained on.
    """
    settings, own = resolve(
        generator, preset=preset, config=config, overrides=overrides, assume_grid=assume_grid
    )
    plugin = registry.load("generators", generator)()
    from synthbench.generators.estimate import check_freeze, stages

    networks = stages(plugin, own) if trains_by_steps(plugin) else []
    if not networks:
        raise UsageError(
            f"--dry-run: {generator} is not trained by steps; its training takes seconds."
        )
    check_freeze(networks)
    if real is None:
        n, shape = ATLAS_SUBJECTS, settings.space.shape or ATLAS_SHAPE
    else:
        cohort = read_cohort(Path(real), role="real", assume_grid=assume_grid)
        preflight.check({"train": cohort}, accept)
        n, shape = len(cohort), training_volumes(cohort, settings).space.shape
    checked: Any = own
    checked.check_grid(shape)
    plan: Plan | None = None
    for stage in networks:
        plan = _stage_plan(settings, stage, n, shape, plan)
    assert plan is not None
    return plan


def _stage_plan(
    settings: RunSettings, stage: Any, n: int, shape: Shape, before: Plan | None
) -> Plan:
    from synthbench.generators.estimate import alternatives, estimate, fits
    from synthbench.processes import processes

    state = processes()
    common: dict[str, Any] = {
        "processes": state.num_processes,
        "device": state.device,
        "samples": stage.samples,
    }
    found = estimate(stage.parts, stage.settings, shape, volumes=n, **common)
    fitting = fits(found)
    options: list[tuple[str, int]] = []
    if not fitting:
        options = [
            (_options(option.overrides, stage.prefix), option.memory_bytes)
            for option in alternatives(stage.parts, stage.settings, shape, **common)
        ]
    fitting = fitting and (before is None or before.fits)
    return Plan(
        settings.generator, settings.preset, n, shape, found, fitting, options, stage.name, before
    )


def _options(overrides: Sequence[str], prefix: str) -> str:
    """Write overrides as options; the grid and the precision are of all stages."""
    shared = ("space.shape=", "precision=")
    return " ".join(f"--set {'' if o.startswith(shared) else prefix}{o}" for o in overrides)


def refusal(plan: Plan) -> str:
    """Say that a training does not fit, and what would."""
    if plan.before is not None and not plan.before.fits:
        return refusal(plan.before)
    e = plan.estimate
    name = f"{plan.stage}: " if plan.stage else ""
    words = (
        f"{name}it does not fit: training takes {_bytes(e.memory.training)}, and of the "
        f"{_bytes(e.device_memory_bytes)} there nine tenths can be used."
    )
    if not plan.alternatives:
        return f"{words} Nothing that was tried fits: choose a smaller preset or another machine."
    listed = "\n".join(f"  {option}   ({_bytes(size)})" for option, size in plan.alternatives)
    return f"{words} What would fit (memory in all):\n{listed}"


def _grid(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"
