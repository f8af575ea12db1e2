"""Axes and marks: where numbers lie."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synthbench.records.values import FloorRecord, IntervalRecord, Value
from synthbench.render.axis import Axis, axis_over
from synthbench.render.charts import Series, line_chart
from synthbench.report.sections.charts import metric_chart


def value(x, low=None, high=None, floor=None, metric="m", target="zero"):
    interval = None
    if low is not None:
        interval = IntervalRecord(low=low, high=high, level=0.95, method="percentile", label="CI")
    return Value(
        metric=metric, label="M", direction="lower", target=target, value=x, interval=interval,
        floor=floor,
    )  # fmt: skip


FLOOR = FloorRecord(n=3, mean=0.0, low=-1.0, high=1.0, synth_mean=2.0)


def test_a_linear_axis_has_a_margin_of_a_twentieth():
    axis = axis_over([0.0, 10.0])
    assert (axis.low, axis.high, axis.stretch) == (-0.5, 10.5, None)
    assert axis.share(5.0) == pytest.approx(0.5)


def test_numbers_that_agree_have_an_axis():
    assert axis_over([4.0, 4.0]).share(4.0) == pytest.approx(0.5)
    assert axis_over([0.0]).share(0.0) == pytest.approx(0.5)


def test_an_axis_is_stretched_where_the_floor_would_be_a_line():
    """From 25 floor widths on: then asinh(x / width) is what is even."""
    assert axis_over([0.0, 25.0], 1.0).stretch is None
    axis = axis_over([0.0, 26.0], 1.0)
    assert axis.stretch == 1.0
    middle = math.sinh(math.asinh(26.0) / 2)
    assert axis.share(middle) == pytest.approx(0.5)
    assert axis.share(1.0) - axis.share(0.0) > 0.1


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0.0, 4.0), [0, 1, 2, 3, 4]),
        (Axis(-0.011, 0.032), [-0.0, 0.02]),
        (Axis(-2.0, 150.0, 1.0), [-1, 0, 1, 10, 100]),
    ],
    ids=["units", "twos", "decades"],
)
def test_ticks_are_round(axis, ticks):
    np.testing.assert_allclose(axis.ticks(), ticks, atol=1e-12)


@pytest.mark.parametrize("span", [1e-9, 0.7, 3.0, 99.0, 12345.0])
@pytest.mark.parametrize("low", [-3.3, 0.0, 71.0])
def test_ticks_lie_on_the_axis(low, span):
    axis = Axis(low, low + span)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))
    assert all(-1e-9 <= axis.share(t) <= 1 + 1e-9 for t in ticks)


def test_marks_lie_where_the_axis_says():
    """The axis runs from -1 to 4 with a twentieth of 5 on each side: -1.25 to 4.25."""
    chart = metric_chart("M", [("a", value(3.0, 2.5, 4.0, FLOOR))])
    (row,) = chart.rows

    def percent(x):
        return pytest.approx(100 * (x + 1.25) / 5.5, abs=0.01)

    assert (row.value, row.matched, row.floor_mean) == (percent(3), percent(2), percent(0))
    assert row.interval == (percent(2.5), percent(4))
    assert row.floor == (percent(-1), percent(1))
    assert chart.null == percent(0)
    assert "95% interval 2.5 to 4" in row.words


@pytest.mark.parametrize(
    ("row", "null"),
    [
        (value(1.0), True),
        (value(1.0, target="floor"), False),
        (value(1.0, metric="m.part"), False),
        (value(1.0, metric="m.part", floor=FLOOR), True),
        (value(1.0, metric="m.part", floor=FLOOR.model_copy(update={"low": 0.5})), False),
    ],
    ids=["zero", "floor", "part without floor", "part about zero", "part away from zero"],
)
def test_zero_is_the_null_where_real_volumes_score_about_zero(row, null):
    assert (metric_chart("M", [("a", row)]).null is not None) is null


def test_lines_fill_the_frame():
    """X from 0 to 2 over 50 to 330 pixels; y from 0 to 10 with margins, upwards."""
    chart = line_chart("t", "x", "y", "words", [Series("s", "real", (0.0, 1.0, 2.0), (0, 5, 10))])
    points = [tuple(map(float, p.split(","))) for p in chart.lines[0].points.split()]
    assert [x for x, _ in points] == [50.0, 190.0, 330.0]
    heights = [y for _, y in points]
    assert heights[1] == pytest.approx((heights[0] + heights[2]) / 2)
    assert heights[0] > heights[2]


def test_ticks_in_thousands_are_whole_numbers():
    ends = (0.0, 30_000.0)
    chart = line_chart("t", "mm³", "mm³", "words", [Series("s", "real", ends, ends)])
    assert [tick.words for tick in chart.x_ticks][:3] == ["0", "10,000", "20,000"]
    assert not [t for t in (*chart.x_ticks, *chart.y_ticks) if "e+" in t.words]
