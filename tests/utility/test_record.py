"""The record of a study: aggregates, its file, and its verdict."""

from __future__ import annotations

import json

import pytest

from synthbench.errors import ScorecardError
from synthbench.utility.record import BOTH, UtilityRecord

pytestmark = pytest.mark.slow


def test_the_verdict_is_that_of_the_first_difference(record):
    found = record.difference(BOTH)
    assert found is not None
    of_auc = found.values["auc"]
    assert (record.summary.low, record.summary.high) == (of_auc.low, of_auc.high)
    assert f"{100 * of_auc.value:+.1f} points AUC, 95% CI" in record.summary.sentence
    assert record.summary.sentence.startswith("synthetic data ")


def test_a_record_holds_no_names_and_survives_its_file(record, tmp_path):
    file = tmp_path / "utility.json"
    record.save(file)
    assert UtilityRecord.load(file) == record
    assert "sub-" not in file.read_text(encoding="utf-8")
    changed = json.loads(file.read_text(encoding="utf-8"))
    changed["settings"]["seed"] = 7
    file.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ScorecardError, match="it was edited"):
        UtilityRecord.load(file)
