"""The rows of a scorecard: one metric's value, interval and floor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from synthbench.errors import MetricError
from synthbench.metrics.blocked.near import CHECKED, SAMPLED_ROWS
from synthbench.metrics.inference import contracts, floors, intervals, resampling
from synthbench.metrics.metric import Composite, Direction, Metric, Part, Statistic, Studentized
from synthbench.metrics.subjects import n_subjects
from synthbench.records.keys import JobKey
from synthbench.records.protocol import Protocol
from synthbench.records.values import FloorRecord, IntervalRecord, Missing, Value
from synthbench.scoring.protocol import frozen_settings
from synthbench.scoring.sample_data import JobData
from synthbench.scoring.setup import Setup
from synthbench.scoring.statistics import (
    Job,
    across,
    against_itself,
    measure,
    prepared,
    sampled,
    shift_of,
)


def rows_of_job(job: Job, setup: Setup) -> tuple[list[Value], JobData | MetricError | None]:
    """Return the metric's row and those of its parts, and the matrices they were computed from.

    There are no matrices of all images where the metric was computed on some of them.

    Where the metric cannot be computed, the only row says why in the words that may be published,
    and the error comes in place of the matrices.
    """
    protocol, mask = setup.protocol, setup.mask
    how = setup.context.progress, setup.context.cache
    settings = frozen_settings(job.metric, job.key, protocol)
    real, synth = (sampled(job, setup.samples[role], protocol) for role in ("real", "synth"))
    halves = setup.reference is setup.samples["real"]
    reference = real if halves else sampled(job, setup.reference, protocol)
    subjects = {"real": real.subjects, "synth": synth.subjects}
    try:
        measure(job, reference, mask, settings, *how)
        measure(job, synth, mask, settings, *how)
        cross = across(job, real, synth, mask, settings, *how)
        if len(reference) < len(setup.reference):
            measure(job, real, mask, settings, *how)
            of_real = job.material(real)
        else:
            of_real = job.material(reference, len(real))
        of_synth = job.material(synth)
        statistic = prepared(job, of_real, of_synth, subjects, settings, cross)
        floor_statistic = against_itself(job, reference, settings)
        p = job.metric.p_value(
            of_real, of_synth, permutations=protocol.permutations, seed=protocol.seed,
            subjects=subjects, **settings,
        )  # fmt: skip
        source: Literal["halves", "hold-out"] = "halves" if halves else "hold-out"
        whole = Part(job.metric.label, statistic, tabled=True)
        large = max(len(setup.reference), len(setup.samples["synth"])) > resampling.LARGE_SET
        shift = None if large else shift_of(job, reference, settings)
        null = _Null(floor_statistic, shift, source)
        row = _row(job, JobKey(job.metric.name), whole, null, protocol)
    except MetricError as error:
        setup.context.log(f"{job.key}: {error}")
        return [missing_row(job, Missing.of(error))], error
    _say_what_was_found(job, statistic, setup)
    rank = None if job.extractor is None else setup.samples["real"].rank(job.extractor)
    saturated = getattr(statistic, "saturated", None)
    rows = [row.model_copy(update={"p": p, "effective_rank": rank, "saturated": saturated})]
    inner_floors = floor_statistic.parts() if isinstance(floor_statistic, Composite) else {}
    parts = statistic.parts() if isinstance(statistic, Composite) else {}
    for name, part in parts.items():
        key = JobKey(job.metric.name, name)
        both = set(part.statistic.subjects) == {"real", "synth"}
        inner = None
        if both and name in inner_floors:
            shift = None if large else shift_of(job, reference, settings, name)
            inner = _Null(inner_floors[name].statistic, shift, source)
        try:
            rows.append(_row(job, key, part, inner, protocol))
        except MetricError as error:
            setup.context.log(f"{key}: {error}")
            declared = _declared(job, key, part.label, tabled=part.tabled, direction=part.direction)
            rows.append(Value(**declared, missing=Missing.of(error)))
    every = len(real) == len(setup.samples["real"]) and len(synth) == len(setup.samples["synth"])
    return rows, JobData(of_real, of_synth, cross) if every else None


def _say_what_was_found(job: Job, statistic: Statistic, setup: Setup) -> None:
    """Note the share of nearest images that an index found."""
    share = getattr(statistic, "share_found", None)
    if share is not None:
        note = (
            f"{job.key}: an index found {share:.1%} of the {CHECKED} nearest images, of "
            f"{SAMPLED_ROWS} random images; the value has that error"
        )
        setup.notes.append(note)
        setup.context.log(note)


@dataclass(frozen=True)
class _Null:
    """The reference against itself: the statistic, how it is shifted, and what the sides are of.

    It is not shifted in a large set, whose floors have no minimum detectable effect: that takes
    up to a dozen floors.
    """

    statistic: Statistic
    shift: Callable[[float], Statistic] | None
    source: Literal["halves", "hold-out"]


def _row(job: Job, key: JobKey, part: Part, null: _Null | None, protocol: Protocol) -> Value:
    statistic = part.statistic
    method = protocol.intervals[job.metric.name]
    # A part may lack the variance that its metric estimates; the record names the method used.
    if method == "studentized" and key.part and not isinstance(statistic, Studentized):
        method = "jackknife"
    if null is not None:
        _look_ahead(statistic, null, protocol)
    value = resampling.estimate(statistic)
    interval = intervals.interval(
        statistic, method, resamples=protocol.resamples, level=protocol.level, seed=protocol.seed
    )
    direction = part.direction or job.metric.direction
    floor = None if null is None else _floor(direction, statistic, null, protocol)
    return Value(
        **_declared(job, key, part.label, tabled=part.tabled, direction=part.direction),
        value=value,
        magnitude=resampling.magnitude(statistic),
        interval=_record(interval, job.metric, statistic),
        floor=floor,
    )  # fmt: skip


def _record(
    interval: contracts.Interval, metric: Metric, statistic: Statistic
) -> IntervalRecord | None:
    """Return the record of an interval, cut where the metric cannot lie, which loses no coverage.

    A part may have bounds of its own, which its statistic states.

    None for an interval of no width: where all resamples agree they say nothing of the error. A
    share of 0 of 86 images does not prove that the share is 0.
    """
    if interval.low == interval.high:
        return None
    anywhere = (-math.inf, math.inf)
    bounds = [getattr(of, "bounds", anywhere) for of in (metric, statistic)]
    low = max(interval.low, *(least for least, _ in bounds))
    high = min(interval.high, *(most for _, most in bounds))
    if low > high:  # the whole interval lies outside, by rounding
        return None
    return IntervalRecord(
        low=low, high=high, level=interval.level, method=interval.method,
        label=interval.label, conditional_on_n=interval.conditional_on_n,
    )  # fmt: skip


def _floor(
    direction: Direction, statistic: Statistic, null: _Null, protocol: Protocol
) -> FloorRecord:
    """Return the floor at the largest n that all sides reach, and synth at the same n."""
    splits, seed, n = protocol.floor_splits, protocol.seed, _floor_size(statistic, null)
    available = {role: n_subjects(index) for role, index in statistic.subjects.items()}
    floor = floors.floor(
        null.statistic, n=n, splits=splits, seed=seed, direction=direction,
        shifted=null.shift, n_synth=available["synth"],
    )  # fmt: skip
    matched = floors.matched(statistic, n, repeats=splits, seed=seed)
    return FloorRecord(
        n=n, mean=floor.mean, low=floor.low, high=floor.high, synth_mean=matched.mean,
        synth_low=matched.low, synth_high=matched.high, source=null.source,
        minimum_detectable_effect=floor.minimum_detectable_effect,
    )  # fmt: skip


def _floor_size(statistic: Statistic, null: _Null) -> int:
    """Return the largest number of subjects per side that all sides reach."""
    sides = [n_subjects(index) for index in statistic.subjects.values()]
    return min(n_subjects(null.statistic.subjects["real"]) // 2, *sides)


def _look_ahead(statistic: Statistic, null: _Null, protocol: Protocol) -> None:
    """Let the pass over all pairs that gives the value also give those at the floor's n."""
    n, repeats = _floor_size(statistic, null), protocol.floor_splits
    if (
        isinstance(statistic, contracts.Foresighted)
        and n >= 2
        and repeats < resampling.rows_at_once(statistic)
    ):
        statistic.ahead(floors.matched_weights(statistic, n, repeats, protocol.seed))


def missing_row(job: Job, why: Missing) -> Value:
    """Return the row of a metric that has no value."""
    label = job.metric.label
    return Value(**_declared(job, JobKey(job.metric.name), label, tabled=True), missing=why)


def _declared(
    job: Job, key: JobKey, label: str, *, tabled: bool, direction: Direction | None = None
) -> dict[str, Any]:
    """Return the fields of a row that its metric, or its part, declares."""
    metric, whole = job.metric, key.part is None
    return {
        "metric": key.row, "label": label, "extractor": job.extractor,
        "direction": direction or metric.direction, "role": metric.role, "tabled": tabled,
        "label_with_n": whole and metric.label_with_n, "of_variety": whole and metric.of_variety,
        "target": metric.target,
    }  # fmt: skip
