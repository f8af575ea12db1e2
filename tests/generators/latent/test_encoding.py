"""The encoding of conditions: values, then flags of missing values."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.conditions import Conditions
from synthbench.errors import UsageError
from synthbench.generators.latent.encoding import ConditionEncoding
from tests.generators.latent.examples import ROWS

# ---------------------------------------------------------------- what the network is given


def test_values_are_followed_by_flags_of_what_is_missing():
    """From -4 to 4: age 57.5 is three quarters of the way from 20 to 70, so 2; M is 4, F is -4."""
    encoding = ConditionEncoding(
        Conditions.fit(ROWS, ["age", "sex"]), null_embedding=True, gain=4.0
    )
    rows = encoding.rows([{"age": 57.5, "sex": "M"}, {"age": None, "sex": "F"}, {}])
    expected: list[list[float]] = [[2, 4, 0, 0], [0, -4, 4, 0], [0, 0, 4, 4]]
    assert np.allclose(rows, expected)
    assert np.array_equal(rows[2], encoding.unconditional)
    assert encoding.width == 4


def test_without_a_null_every_condition_needs_a_value():
    encoding = ConditionEncoding(Conditions.fit(ROWS, ["age", "sex"]), null_embedding=False)
    assert np.allclose(encoding.rows([{"age": 70.0, "sex": "F"}]), [[1, 0]])
    with pytest.raises(UsageError, match="sex: this network has no null embedding"):
        encoding.rows([{"age": 70.0}])
