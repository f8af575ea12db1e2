"""A preflight report as JSON and as lines."""

from __future__ import annotations

import json

import numpy as np

from synthbench.cohorts.preflight.check import (
    report,
)
from synthbench.cohorts.preflight.table import as_json, properties
from tests.cohorts.preflight.sets import N


def test_a_sound_cohort_in_json(real):
    found = json.loads(json.dumps(as_json(report(real.entries[0].path.parent))))
    assert found["failed"] is False
    assert found["properties"]["skull-stripped"] == "yes"
    assert found["properties"]["registered to MNI152"] == "yes"
    assert found["properties"]["stored axes"] == "RAS"
    assert [f["rule"] for f in found["findings"]] == ["few"]
    assert len(found["volumes"]) == N


def test_where_nothing_is_usable_the_report_says_why(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    found = report(tmp_path)
    assert found.failed
    assert properties(found) == {}
    assert as_json(found)["unusable"].keys() == {"a.npy"}
