"""Sweeps: one or two conditions varied with the same noise, and a measurement of the volumes.

The noise is fixed, so along a row of volumes only the request changes. The row shows what a
condition does, and the curve shows whether the volumes follow it, inside the training range and
beyond (Pinaya et al. 2022, "Brain imaging generation with latent diffusion models", Figures 2 and
4).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from synthbench.cohorts.conditions import MISSING, Condition, Conditions, Row, cell
from synthbench.cohorts.requests import Among, parse_choices
from synthbench.errors import CohortError, SynthbenchError, UsageError
from synthbench.render import delimited
from synthbench.runs.dataset_card import write_dataset_card
from synthbench.runs.folder import Run
from synthbench.runs.seal import check_sealed_before
from synthbench.runs.sidecar import sidecar_file
from synthbench.runs.validation import from_options
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.files import write_atomic
from synthbench.runtime.lock import only_writer
from synthbench.sampling.folder import check_is_for_samples
from synthbench.sampling.source import Source
from synthbench.sampling.sweep_measure import default_measure, measure_of
from synthbench.sampling.sweep_record import Axis, Point, Sweep, short, varied
from synthbench.volumes.image_file import read_stored
from synthbench.volumes.intensity import to_unit

MOST_STEPS = 100
"""Largest number of values of a condition in one sweep."""


@dataclass(frozen=True)
class SweepRequest:
    """The options of a sweep.

    Attributes
    ----------
    run
        A finished run of a conditional generator.
    vary
        One or two texts for `parse_vary`, such as `age=0:1:5`.
    out
        The folder of the volumes.
    fix
        `NAME=VALUE` in natural units. Conditions that are neither varied nor fixed stay at the
        training median or the most common level.
    natural
        True where the numbers of `vary` are in natural units.
    seed, seeds
        Noise seeds `seed` to `seed + seeds - 1`; each repeats the whole sweep.
    measure
        `EXTRACTOR:FEATURE`, as for `measure_of`; None: the choice of `default_measure`.
    sampler, steps, guidance, precision
        As in `synthbench.sampling.sampling.SamplingRequest`.
    """

    run: Run | Path | str
    vary: Sequence[str]
    out: Path
    fix: Sequence[str] = ()
    natural: bool = False
    seed: int = 0
    seeds: int = 1
    measure: str | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    precision: str | None = None


def sweep(
    run: Run | Path | str,
    vary: Sequence[str],
    out: Path,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
    **options: Any,
) -> Sweep:
    """Vary one or two conditions with fixed noise, measure the volumes, and return the sweep.

    `out` gets a NIfTI file and a sidecar per volume, `sweep.tsv`, `montage.png` and, with a
    measurement, `curve.png`. Volumes that are there already are kept, so an interrupted sweep can
    be repeated.

    Parameters
    ----------
    run, vary, out
        A run of a conditional generator, the conditions to vary, and a folder, as in
        `SweepRequest`.
    progress
        Called with (done, total, text) after each volume that is drawn or measured.
    log
        Called with messages for the user.
    options
        The other fields of `SweepRequest`: fix, natural, seed, seeds, measure, sampler, steps,
        guidance, precision.

    Raises
    ------
    SynthbenchError
        The run has not finished or is not conditional, the request is impossible, or `out` holds
        volumes of another origin or of other conditions.
    TypeError
        There is no such option; the nearest is named.
    """
    options = {"run": run, "vary": vary, "out": out, **options}
    return run_sweep(from_options(SweepRequest, "sweep", options), progress, log)


def run_sweep(
    request: SweepRequest,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> Sweep:
    """Sweep as requested and return the sweep; raises as `sweep` does."""
    # Imported here because it needs torch: importing this module must not.
    from synthbench.runtime.processes import is_main

    with only_writer(request.out) if is_main() else nullcontext():
        return _swept(request, progress, log)


def _swept(
    request: SweepRequest, progress: Callable[[int, int, str], None] | None, log: Log
) -> Sweep:
    """Sweep as requested, as the only writer into the folder; return the sweep."""
    from synthbench.runtime.processes import processes

    out = Path(request.out)
    source, swept = _planned(request, out)
    state = processes()
    missing = [point for point in swept.points if not source.drew(point.file, point.row)]
    check_is_for_samples(out)
    check_sealed_before(out, _volumes_in(out))
    # No process writes before all have listed what is missing: their lists must be the same.
    state.wait_for_everyone()
    mine = missing[state.process_index :: state.num_processes]
    total = len(mine) + (len(swept.points) if swept.measure else 0)
    advance = progress or (lambda done, total, text: None)
    if state.is_main_process:
        source.describe(out)
        remarks = _remarks(swept, request.fix, request.natural)
        for sentence in [*source.warnings(), *remarks]:
            log(sentence)
    _draw(source, mine, lambda done, text: advance(done, total, text))
    state.wait_for_everyone()
    if not state.is_main_process:
        return swept
    if swept.measure:
        swept = _measured(
            swept, source, lambda done, text: advance(len(mine) + done, total, text), log
        )
    swept = replace(swept, written=_write(swept, source, out))
    volumes = _volumes_in(out)
    write_dataset_card(out, source.run, volumes, log=log)
    source.seal(out, volumes, log)
    return swept


def _planned(request: SweepRequest, out: Path) -> tuple[Source, Sweep]:
    """Return the source and the sweep to draw; raise, before anything is drawn, where it cannot."""
    if request.seed < 0 or request.seeds < 1:
        raise UsageError(
            "--seed must be at least 0 and --seeds at least 1; found "
            f"{request.seed} and {request.seeds}."
        )
    source = Source.of(
        request.run, request.sampler, request.steps, clean=False, guidance=request.guidance,
        precision=request.precision,
    )  # fmt: skip
    source.refuse_unconditional("synthbench sweep (sample draws volumes without conditions)")
    axes = _axes(request.vary, source.conditions, request.natural)
    fixed = _fixed(source.conditions, axes, request.fix)
    measure = measure_of(request.measure, axes) if request.measure else default_measure(axes)
    seeds = range(request.seed, request.seed + request.seeds)
    points = _points(out, source.conditions, axes, fixed, seeds)
    return source, Sweep(source.origin["generator"], axes, fixed, tuple(seeds), measure, points)


def _write(swept: Sweep, source: Source, out: Path) -> tuple[Path, ...]:
    """Write the table and the pictures, and return their files."""
    from synthbench.sampling.sweep_figures import curve, montage

    files = [out / "sweep.tsv", out / "montage.png"]
    write_atomic(files[0], _tsv(swept).encode())
    write_atomic(files[1], montage(swept, source.space, lambda point: _voxels(point, source)))
    if swept.measure and any(point.measured is not None for point in swept.points):
        files.append(out / "curve.png")
        write_atomic(files[2], curve(swept))
    return tuple(files)


def parse_vary(text: str, conditions: Conditions, *, natural: bool = False) -> Axis:
    """Return the axis of `NAME=FROM:TO:N`, N values at equal steps, or of `NAME=a,b,c`.

    Parameters
    ----------
    text
        The option. FROM and TO are on the scale whose 0 and 1 are the ends of the training range.
        Values in a list are levels, or numbers on the same scale.
    conditions
        Conditions of the run.
    natural
        True where numbers are in natural units instead.

    Raises
    ------
    UsageError
        The text has another form, or there is no such condition or level.
    """
    name, _, values = (part.strip() for part in text.partition("="))
    if not values:
        raise UsageError(f"--vary {text}: {_HOW_TO_VARY}")
    condition = conditions[name]
    if condition.kind == "categorical":
        if ":" in values and values not in condition.levels:
            raise UsageError(
                f"--vary {text}: {name} is one of {', '.join(condition.levels)}, without steps "
                f"between them. Write {name}={','.join(condition.levels)}."
            )
        levels = [condition.value(part.strip()) for part in values.split(",")]
        return _axis(text, condition, [str(level) for level in levels if level is not None])
    numbers = [_in_natural_units(condition, x, natural) for x in _numbers(text, values)]
    return _axis(text, condition, numbers)


_HOW_TO_VARY = (
    "write it as NAME=FROM:TO:N, N values from FROM to TO, for example ventricle_volume=-0.5:1.5:9"
)


def _numbers(text: str, values: str) -> list[float]:
    """Return the numbers of FROM:TO:N or of a,b,c."""
    try:
        if ":" not in values:
            return [float(part) for part in values.split(",")]
        parts = values.split(":")
        if len(parts) != 3:
            raise UsageError(f"--vary {text}: {_HOW_TO_VARY}.")
        first, last, n = float(parts[0]), float(parts[1]), int(parts[2])
    except ValueError as error:
        raise UsageError(f"--vary {text}: {_HOW_TO_VARY}; {error}.") from error
    if not 2 <= n <= MOST_STEPS:
        raise UsageError(f"--vary {text}: N must be 2 to {MOST_STEPS}; found {n}.")
    # Rounded, so that the steps 0 and 1 are not slightly beyond the training range.
    return [float(x) for x in np.round(np.linspace(first, last, n), 9)]


def _in_natural_units(condition: Condition, number: float, natural: bool) -> float:
    """Return a number in natural units, to nine digits; no value of the range is rounded beyond."""
    exact = number if natural else condition.natural(number)
    rounded = float(f"{exact:.9g}")
    inside = 0 <= condition.scaled(exact) <= 1
    return min(max(rounded, condition.natural(0)), condition.natural(1)) if inside else rounded


def _axis(text: str, condition: Condition, values: Sequence[float | str]) -> Axis:
    if len(set(values)) < max(2, len(values)) or not all(
        isinstance(value, str) or np.isfinite(value) for value in values
    ):
        raise UsageError(
            f"--vary {text}: at least two finite values are needed, all different; found "
            f"{', '.join(short(value) for value in values)}."
        )
    return Axis(condition, tuple(values))


def _axes(vary: Sequence[str], conditions: Conditions, natural: bool) -> tuple[Axis, ...]:
    axes = tuple(parse_vary(text, conditions, natural=natural) for text in vary)
    if not 1 <= len(axes) <= 2:
        raise UsageError(
            f"--vary: one condition, or two for a grid; found {len(axes)}. Fix the others with "
            "--fix, or vary them in another sweep."
        )
    if len({axis.name for axis in axes}) < len(axes):
        raise UsageError(f"--vary: {axes[0].name} is varied twice. Name another condition.")
    return axes


def _fixed(conditions: Conditions, axes: Sequence[Axis], fix: Sequence[str]) -> Row:
    choices = parse_choices(fix, conditions, option="--fix")
    varied = [axis.name for axis in axes]
    row: dict[str, float | str | None] = {}
    for name, choice in choices.items():
        if name in varied:
            raise UsageError(f"--fix {name}: it is varied. Leave out one of --fix and --vary.")
        if not (isinstance(choice, Among) and len(choice.values) == 1):
            raise UsageError(f"--fix {name}: one value is needed, such as {name}="
                             f"{short(conditions[name].typical())}.")  # fmt: skip
        row[name] = choice.values[0]
    others = [c for c in conditions.conditions if c.name not in varied]
    return {c.name: row[c.name] if c.name in row else c.typical() for c in others}


def _points(
    out: Path, conditions: Conditions, axes: Sequence[Axis], fixed: Row, seeds: Sequence[int]
) -> tuple[Point, ...]:
    names = [axis.name for axis in reversed(axes)]
    grid = list(itertools.product(*(axis.values for axis in reversed(axes))))
    points = []
    for seed in seeds:
        for step, values in enumerate(grid):
            requested = {**fixed, **dict(zip(names, values, strict=True))}
            row = {name: requested[name] for name in conditions.names}
            file = out / f"sweep-{seed:06d}-{step:03d}.nii.gz"
            points.append(Point(file, seed, row, conditions.extrapolated(row)))
    return tuple(points)


def _remarks(swept: Sweep, fix: Sequence[str], natural: bool) -> list[str]:
    """Return messages on conditions at their default, on extrapolation, and on a missing curve."""
    fixed = {text.partition("=")[0].strip() for text in fix}
    others = [f"{name} {short(value)}" for name, value in swept.fixed.items() if name not in fixed]
    beyond = sum(bool(point.extrapolated) for point in swept.points)
    sentences = []
    if others:
        sentences.append(f"at the training median or the most common level: {', '.join(others)}")
    if beyond:
        sentences.append(
            f"{beyond} of {len(swept.points)} volumes are requested beyond the training range: "
            "they are extrapolated, and marked so."
        )
    if not natural:
        sentences += [_perhaps_natural(axis) for axis in swept.axes if _reads_as_natural(axis)]
    if swept.measure is None:
        sentences.append(
            f"no extractor is known to measure {' or '.join(axis.name for axis in swept.axes)}, so "
            "no curve is drawn; name one with --measure EXTRACTOR:FEATURE."
        )
    return sentences


def _reads_as_natural(axis: Axis) -> bool:
    """Return True where all values are extrapolated, but one would not be in natural units."""
    if not all(axis.beyond(value) for value in axis.values):
        return False
    typed = [axis.scaled(value) for value in axis.values]
    return any(number is not None and 0 <= axis.condition.scaled(number) <= 1 for number in typed)


def _perhaps_natural(axis: Axis) -> str:
    """Return the message that the values were perhaps meant in natural units."""
    low, high = (short(axis.condition.natural(end)) for end in (0, 1))
    return (
        f"{axis.name}: the values are {short(axis.values[0])} to {short(axis.values[-1])}, the "
        f"training range is {low} to {high}. In --vary, 0 and 1 are the ends of that range. For "
        "values as in participants.tsv add --natural."
    )


def _measured(swept: Sweep, source: Source, advance: Callable[[int, str], None], log: Log) -> Sweep:
    """Return the sweep with the measurement of each file; log the files without one."""
    assert swept.measure is not None
    rule = source.run.config.get("intensity", "percentile")
    points, refused = [], []
    for done, point in enumerate(swept.points, 1):
        try:
            # Scaled as `score` scales them.
            volume = to_unit(_voxels(point, source) * source.scale, rule, point.file.name)
            points.append(replace(point, measured=swept.measure.read(volume, source.space)))
        except SynthbenchError as error:
            points.append(point)
            refused.append(f"{point.file.name}: {error}")
        advance(done, "measuring")
    if refused:
        log(
            f"{len(refused)} of {len(points)} volumes cannot be measured and are not in the curve; "
            f"the first: {refused[0]}"
        )
    return replace(swept, points=tuple(points))


def _draw(source: Source, points: Sequence[Point], advance: Callable[[int, str], None]) -> None:
    volumes = source.draw([p.seed for p in points], [p.row for p in points])
    for done, point in enumerate(points, 1):
        began = time.perf_counter()
        volume = next(volumes)
        source.write(volume, point.seed, point.file, time.perf_counter() - began, point.row)
        advance(done, "drawing")


def _voxels(point: Point, source: Source) -> Float32[np.ndarray, "d h w"]:
    """Return a volume from its file, in [0, 1]."""
    try:
        stored = read_stored(point.file).values.astype(np.float32)
    except CohortError as error:
        raise CohortError(f"{point.file.name}: {error}") from error
    return stored / np.float32(source.scale)


def _volumes_in(out: Path) -> list[Path]:
    return sorted(file for file in out.glob("sweep-*.nii.gz") if sidecar_file(file).is_file())


def _tsv(swept: Sweep) -> str:
    """Return the points as a table: natural and scaled values, and the measurement."""
    scaled = [axis for axis in swept.axes if axis.condition.kind == "numeric"]
    measured = [] if swept.measure is None else [f"measured {swept.measure.label}"]
    header = [
        "file", "seed", *swept.points[0].row, *(f"{axis.name}_scaled" for axis in scaled),
        *measured, "extrapolated",
    ]  # fmt: skip
    lines = [header]
    for point in swept.points:
        places = (axis.scaled(varied(point, axis)) for axis in scaled)
        lines.append(
            [
                point.file.name,
                str(point.seed),
                *(cell(value) for value in point.row.values()),
                *(MISSING if place is None else f"{place:.6g}" for place in places),
                *([cell(point.measured)] if measured else []),
                ",".join(point.extrapolated) or MISSING,
            ]
        )
    return delimited.lines(lines)
