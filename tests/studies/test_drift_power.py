"""The intervals of the study of drift's power."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.studies.conftest import script


@pytest.fixture(scope="module")
def drift_power() -> ModuleType:
    return script("drift_power")


def records(failed: Sequence[int], each: int) -> list[dict[str, Any]]:
    """Repetitions of pools of one size, of which so many failed in each pool."""
    return [
        {"pool": pool, "failed": ["mmd2"] if i < hits else []}
        for pool, hits in enumerate(failed)
        for i in range(each)
    ]


def test_the_interval_of_a_share_contains_the_variation_between_pools(drift_power):
    """Five pools with 50 to 90 of 100: 70% and t with 4 degrees of freedom. Equal pools have the
    interval of Wilson, as a single one has.
    """
    apart = [50, 60, 70, 80, 90]
    half = stats.t.ppf(0.975, 4) * np.std(apart, ddof=1) / np.sqrt(5)
    assert drift_power.share(records(apart, 100)) == f"70% [{70 - half:.0f}%, {70 + half:.0f}%]"
    wilson = stats.binomtest(350, 500).proportion_ci(method="wilson")
    expected = f"70% [{wilson.low:.0%}, {wilson.high:.0%}]"
    assert drift_power.share(records([70] * 5, 100)) == expected
    assert drift_power.share(records([350], 500)) == expected
