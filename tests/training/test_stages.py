"""Stages of a generator that break the contract."""

from __future__ import annotations

import pytest

from synthbench.errors import UsageError
from synthbench.generators.generator import Settings, Stage
from synthbench.training.estimate.estimate import estimate
from tests.training.estimate.examples import CPU, SHAPE, SquaredError, TwoConvolutions


def test_a_stage_without_the_settings_of_steps_is_refused():
    stage = Stage(TwoConvolutions, SquaredError(), Settings())
    with pytest.raises(UsageError, match=r"must be StepSettings .*found Settings"):
        estimate(stage, SHAPE, volumes=1, device=CPU, measure=False)
