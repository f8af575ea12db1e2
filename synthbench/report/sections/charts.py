"""The section with one chart per metric: values, intervals, floors and the null on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthbench.records.values import Value
from synthbench.render.axis import Axis, axis_over, tick_text
from synthbench.render.charts import MetricChart, Tick, ValueMarks
from synthbench.render.numbers import number
from synthbench.report.sections.rows import Group, groups
from synthbench.report.sections.section import Page, Section
from synthbench.report.standing import Headline, depends_on_n, headline


def _build(page: Page) -> Mapping[str, Any]:
    compared = groups(page)
    return {"groups": [_charts(group) for group in compared]}


def _charts(group: Group) -> Mapping[str, Any]:
    charts: dict[bool, list[MetricChart]] = {False: [], True: []}
    for label, found in group.rows():
        if any(row.value is not None for _, row in found):
            charts[found[0][1].role == "for_papers"].append(metric_chart(label, found))
    return {
        "words": group.words,
        "several": group.several,
        "ranked": charts[False],
        "for_papers": charts[True],
    }


def metric_chart(title: str, values: Sequence[tuple[str, Value]]) -> MetricChart:
    """Return a metric's values, intervals, floors and null, placed on one axis.

    Parameters
    ----------
    title
        Of the chart.
    values
        The name of the volumes and their row. Rows without a value are left out; at least one
        must have a value.
    """
    known = [(name, v) for name, v in values if v.value is not None]
    to_zero = any(_null_is_zero(v) for _, v in known)
    widths = [v.floor.high - v.floor.low for _, v in known if v.floor]
    numbers = [x for _, v in known for x in _numbers(v)] + ([0.0] if to_zero else [])
    axis = axis_over(numbers, max(widths, default=0.0))
    return MetricChart(
        title=title,
        ticks=tuple(Tick(axis.percent(t), tick_text(t)) for t in axis.ticks()),
        null=axis.percent(0.0) if to_zero else None,
        stretched=axis.stretch is not None,
        rows=tuple(_marks(name, v, axis) for name, v in known),
    )


def _null_is_zero(value: Value) -> bool:
    """Return True where real volumes are expected to score zero.

    A part takes over the target of its metric, so its floor must also contain zero.
    """
    if value.key.part is not None and (
        value.floor is None or not value.floor.low <= 0 <= value.floor.high
    ):
        return False
    return value.target == "zero"


def _numbers(value: Value) -> list[float]:
    assert value.value is not None
    found = [value.value]
    if value.interval is not None:
        found += [value.interval.low, value.interval.high]
    if value.floor is not None:
        found += [value.floor.low, value.floor.high, value.floor.synth_mean]
        found += [end for end in (value.floor.synth_low, value.floor.synth_high) if end is not None]
    return found


def _marks(name: str, value: Value, axis: Axis) -> ValueMarks:
    """Return the marks of a row: filled is the number that is compared with the floor."""
    assert value.value is not None
    found = headline(value)
    assert found is not None
    at = "" if found.n is None else f" at n = {found.n} per side"
    words = [f"{name}{at}: {found.text}"]
    floor = floor_mean = whole = None
    if value.floor is not None:
        f = value.floor
        floor, floor_mean = (axis.percent(f.low), axis.percent(f.high)), axis.percent(f.mean)
        words.append(f"floor {number(f.mean)} ({number(f.low)} to {number(f.high)})")
        if depends_on_n(value):
            whole = axis.percent(value.value)
            words.append(f"of all volumes {number(value.value)}")
    return ValueMarks(
        name, axis.percent(found.value), _line(found, axis), floor, floor_mean, whole,
        "; ".join(words),
    )  # fmt: skip


def _line(found: Headline, axis: Axis) -> tuple[float, float] | None:
    ends = found.interval or found.spread
    if ends is None or ends[0] >= ends[1]:
        return None
    return axis.percent(ends[0]), axis.percent(ends[1])


SECTION = Section("charts", "Charts", "Charts", 30, _build)
