"""The measurement of a sweep: units, and features of other extractors."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.conditions import Conditions
from synthbench.sampling.sweep import parse_vary
from synthbench.sampling.sweep_measure import default_measure, measure_of
from synthbench.volumes.grid import Space
from tests import ellipsoids
from tests.sampling.examples import CONDITIONS

# ---------------------------------------------------------------- the measure and its unit


@pytest.mark.parametrize(
    ("factor", "unit", "of"),
    [(1.0, "mL", "ventricle_volume"), (1000.0, "mm³", "ventricle_volume"), (0.001, "mL", None)],
    ids=["mL", "mm³", "a share of the head"],
)
def test_the_unit_of_a_volume_follows_from_its_training_range(factor, unit, of):
    """Ventricles of 8 to 60 mL; as a share of a head they are some hundredths, in no such unit."""
    rows = [{"ventricle_volume": factor * x} for x in (8.0, 14.0, 20.0, 31.0, 60.0)]
    conditions = Conditions.fit(rows, ["ventricle_volume"])
    axis = parse_vary("ventricle_volume=0:1:3", conditions)
    found = default_measure([axis])
    assert found is not None
    assert (found.name, found.unit, found.of) == ("anatomy:ventricle_volume", unit, of)


def test_another_quantity_than_the_varied_one_is_in_millilitres():
    axis = parse_vary("age=0:1:3", CONDITIONS)
    assert default_measure([axis]) is None
    found = measure_of("anatomy:ventricle_volume", [axis])
    assert (found.unit, found.of) == ("mL", None)


def test_features_are_of_the_extractors_own_grid():
    found = measure_of("dark:0", [])
    space = Space.of(ellipsoids.SHAPE, np.diag([4.0, 4.0, 4.0, 1.0]))
    assert found.read(ellipsoids.ball(0, {"ventricle_volume": 3200.0}), space) == 3200
