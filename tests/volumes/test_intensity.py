"""Rules of intensity."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import CohortError, UsageError
from synthbench.volumes.intensity import to_unit


def test_percentile_scaling_by_hand():
    """0 to 1000 with zeros behind: the 99.9th percentile of 1 to 1000 is 999.001."""
    volume = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
    scaled = to_unit(volume, "percentile", "v")
    assert scaled.ravel()[500] == pytest.approx(500 / 999.001, rel=1e-5)
    assert scaled.max() == 1
    assert to_unit(7 * volume, "percentile", "v") == pytest.approx(scaled, rel=1e-5)


def test_small_overshoot_below_zero_is_cut_and_more_is_refused():
    volume = np.ones((4, 4, 4), np.float32)
    volume[0, 0, 0] = -0.04
    assert to_unit(volume, "percentile", "v").min() == 0
    volume[0, 0, 0] = -0.06
    with pytest.raises(CohortError, match=r"v: negative values down to -0.06"):
        to_unit(volume, "percentile", "v")


def test_the_unit_rule_scales_nothing_and_refuses_the_rest():
    volume = np.full((3, 3, 3), 0.5, np.float32)
    assert to_unit(volume, "unit", "v") is volume
    with pytest.raises(CohortError, match="--intensity percentile"):
        to_unit(2.1 * volume, "unit", "v")


def test_a_quantitative_map_is_divided_by_its_one_constant():
    volume = np.zeros((4, 4, 4), dtype=np.float32)
    volume[1:3, 1:3, 1:3] = 0.0007
    volume[0, 0, 0] = 0.00001
    scaled = to_unit(volume, "constant:0.003:mm2/s", "v")
    # 0.00001 is less than a hundredth of 0.003: background.
    assert scaled[0, 0, 0] == 0
    assert scaled[1, 1, 1] == pytest.approx(0.0007 / 0.003, rel=1e-6)
    brighter = to_unit(2 * volume, "constant:0.003:mm2/s", "v")
    assert brighter[1, 1, 1] == pytest.approx(2 * scaled[1, 1, 1], rel=1e-6)


@pytest.mark.parametrize(
    ("factor", "found"), [(100, "0.07"), (0.001, "7e-07")], ids=["too large", "another unit"]
)
def test_values_outside_the_declared_scale_are_refused(factor, found):
    volume = np.full((4, 4, 4), factor * 0.0007, dtype=np.float32)
    with pytest.raises(CohortError, match=rf"{found}.*Is the volume in mm2/s"):
        to_unit(volume, "constant:0.003:mm2/s", "v")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("percentil", "did you mean 'percentile'"),
        ("constant", "write it as constant:SCALE:UNIT"),
        ("constant:0:mm2/s", "write it as"),
        ("constant:0.003", "write it as"),
        ("constant:nan:mm", "write it as"),
    ],
)
def test_a_wrong_intensity_rule_is_refused(rule, words):
    with pytest.raises(UsageError, match=words):
        to_unit(np.ones((2, 2, 2), dtype=np.float32), rule, "v")
