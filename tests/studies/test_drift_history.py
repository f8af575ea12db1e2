"""The study of histories counts the alarms that the chart raises."""

from __future__ import annotations

import numpy as np

from synthbench.drift.control_chart import chart, limit_for
from tests.studies.conftest import script


def test_the_study_sees_the_alarms_of_the_chart():
    values = np.random.default_rng(0).normal(size=(12, 60))
    values[:6, 30:] += 4
    expected = [chart(x, 200).alarm for x in values]
    found = script("drift_history").first_alarms(values, limit_for(200))
    assert found.tolist() == [60 if alarm is None else alarm for alarm in expected]
