from __future__ import annotations

import pytest

from synthbench.render.charts import Series, line_chart


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
