"""The gate of the coverage study."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("metric", "regime", "covered", "fails"),
    [
        ("mmd2", "mean shift", 1900, False),
        ("mmd2", "mean shift", 1840, False),  # 92%: binomial sd 0.6 points, 93% is within two
        ("mmd2", "mean shift", 1800, True),  # 90%
        ("mmd2", "mean shift", 1970, True),  # 98.5%
        ("mmd2", "null", 1970, False),
        ("mmd2", "null", 1998, True),
        ("mmd2", "small spread change", 1970, False),  # nearly degenerate too
        ("ms_ssim", "null", 1970, True),  # the similarity gap is not degenerate
        ("fid", "mean shift", 1000, False),  # printed only
    ],
)
def test_gate(gate, metric, regime, covered, fails):
    target = {"null": 0.0, "small spread change": 0.002, "mean shift": 0.05}[regime]
    summary = {"covered": covered, "reps": 2000, "target": target, "sd": 0.01}
    record = {"name": "cell", "regime": regime, "intervals": {metric: summary}}
    assert bool(gate.failures([record])) is fails
