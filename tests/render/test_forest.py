from __future__ import annotations

import pytest

from synthbench.render.forest import Floor, Row, axis_of, forest_plot


def test_an_axis_holds_every_mark_and_is_linear_where_rows_are_near_the_floor():
    """Marks from 0 to 2 with a margin of 4% of 2: from -0.08 to 2.08."""
    axis = axis_of([Row("a", 1.0, 0.0, 2.0)], Floor(0.9, 1.1, n=3))
    assert (axis.low, axis.high) == pytest.approx((-0.1, 2.1))
    assert axis.stretch is None
    assert axis.share(1.0) == pytest.approx(0.5)
    assert axis.ticks() == [0.0, 1.0, 2.0]


def test_an_axis_is_logarithmic_where_rows_are_far_from_the_floor():
    """Beyond the floor's width of 0.1 a factor of ten is one step, on both sides of zero."""
    axis = axis_of([Row("a", -1000.0), Row("b", 1000.0)], Floor(-0.05, 0.05, n=3))
    assert axis.stretch == pytest.approx(0.1)
    assert axis.share(0.0) == pytest.approx(0.5)
    steps = [axis.share(100.0) - axis.share(10.0), axis.share(1000.0) - axis.share(100.0)]
    assert steps[0] == pytest.approx(steps[1], rel=1e-2)
    assert len(axis.ticks()) <= 11
    assert 0.0 in axis.ticks()


def test_a_forest_plot_is_as_wide_as_its_longest_text():
    """Beside the axis, which ends at 580, DejaVu Sans has 7 pixels for a digit, 9.2 for "+"."""
    row = Row("1. far", 6855.0, 4201.0, 10498.0)
    words = "6.86e+03 [4.2e+03, 1.05e+04]"
    svg = forest_plot("KID", [row], None)
    assert words in svg
    width = float(svg.split('width="')[1].split('"')[0])
    assert width >= 580 + 12 + 17 * 7 + 3 * 9.2 + 8 * 4.3
    assert 'width="760"' in forest_plot("KID", [Row("1. a", 1.0, 0.5, 1.5)], None)


def test_a_forest_plot_draws_each_row_and_the_floor():
    rows = [Row("1. a & b", 1.0, 0.5, 1.5, whole=1.2), Row("2. none", None)]
    svg = forest_plot("FID ↓", rows, Floor(0.0, 0.2, n=4))
    assert svg.count('class="whole"') == 1
    assert svg.count("<circle") == 1
    assert "1. a &amp; b" in svg
    assert "1 [0.5, 1.5]" in svg
    assert "both at n = 4 per side; hollow: all volumes" in svg
    alone = forest_plot("x", [Row("only", 2.0)], None)
    assert '<rect class="band-floor"' not in alone
