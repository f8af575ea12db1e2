"""Conditions that the tests of sweeps share."""

from __future__ import annotations

from synthbench.cohorts.conditions import Conditions

CONDITIONS = Conditions.fit(
    [{"age": 20.0 + i, "sex": "FM"[i % 2], "volume": 1556576.0 * (1 + i / 7)} for i in range(61)],
    ["age", "sex", "volume"],
)
