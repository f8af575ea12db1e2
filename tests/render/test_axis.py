from __future__ import annotations

import math

import numpy as np
import pytest

from synthbench.render.axis import Axis, axis_over


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
