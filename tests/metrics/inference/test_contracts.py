"""The contracts of statistics in inference."""

from __future__ import annotations

import numpy as np

from synthbench.metrics.inference import (
    contracts,
)
from synthbench.metrics.metric import Statistic, Studentized
from tests.metrics.inference.means import OnlyValue, mean_of


def test_the_contracts_are_recognised():
    statistic = mean_of(np.arange(4.0))
    assert isinstance(statistic, Studentized)
    assert isinstance(statistic, contracts.Differentiable)
    assert isinstance(OnlyValue(), Statistic)
    assert not isinstance(OnlyValue(), Studentized)
