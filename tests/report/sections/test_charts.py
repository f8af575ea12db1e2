from __future__ import annotations

import pytest

from synthbench.records.values import FloorRecord, IntervalRecord, Value
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


def test_marks_lie_where_the_axis_says():
    """The axis runs from -1 to 4 with a twentieth of 5 on each side: -1.25 to 4.25."""
    chart = metric_chart("M", [("a", value(3.0, 2.5, 4.0, FLOOR))])
    (row,) = chart.rows

    def percent(x):
        return pytest.approx(100 * (x + 1.25) / 5.5, abs=0.01)

    assert (row.value, row.whole, row.floor_mean) == (percent(2), None, percent(0))
    assert row.interval == (percent(2.5), percent(4))
    assert row.floor == (percent(-1), percent(1))
    assert chart.null == percent(0)
    assert row.words == "a at n = 3 per side: 2 [2.5, 4]; floor 0 (-1 to 1)"


def test_a_value_that_depends_on_n_is_marked_at_the_floors_n_and_of_all_volumes():
    """The interval of all volumes does not belong to the filled mark: it is not drawn there."""
    floor = FLOOR.model_copy(update={"synth_low": 1.5, "synth_high": 2.5})
    rows = [("a", value(3.0, 2.5, 4.0, f, target="floor")) for f in (FLOOR, floor)]
    old, new = metric_chart("M", rows).rows

    def percent(x):
        return pytest.approx(100 * (x + 1.25) / 5.5, abs=0.01)

    assert (old.value, old.whole, old.interval) == (percent(2), percent(3), None)
    assert new.interval == (percent(1.5), percent(2.5))
    assert new.words.endswith("of all volumes 3")


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


def test_the_spread_of_a_value_that_depends_on_n_stays_on_its_axis():
    """It may be wider than the interval of all volumes, the floor and the value together."""
    wide = FLOOR.model_copy(update={"synth_low": -3.0, "synth_high": 7.0})
    (row,) = metric_chart("M", [("a", value(3.0, 2.5, 4.0, wide, target="floor"))]).rows
    assert row.interval is not None
    assert 0 <= row.interval[0] < row.interval[1] <= 100
