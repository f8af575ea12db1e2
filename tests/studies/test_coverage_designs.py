"""The study of intervals in other designs: its populations, a cell and its section of the page."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def designs(study):
    """The module studies/coverage_designs.py."""
    return import_module("coverage_designs")


@pytest.mark.parametrize("regime", ["null", "shift .5", "spread .6"])
def test_kid_of_the_populations_is_the_mean_of_its_estimates(designs, regime):
    """The estimate is unbiased: 400 of them are within four standard errors of the truth."""
    draw = designs.independent(32, 25, 25, regime)
    found = [
        designs.estimate(designs.KID().prepare(*draw(np.random.default_rng(seed))[:2]))
        for seed in range(400)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert designs.population_kid(32, regime) == pytest.approx(np.mean(found), abs=4 * error)


def test_every_share_of_a_cell_is_printed(designs):
    """At a spread of 0.6 precision is 1 in nearly every sample."""
    cells = {design.name: design for design in designs.designs()}
    record = designs.run(cells["shares r=10 n=15 m=15 spread .6"], 4, {})
    assert json.loads(json.dumps(record))["metrics"].keys() == set(designs.SHARES)
    for metric, found in record["metrics"].items():
        assert found["printed"] == 4, metric
        assert found["covered"] + found["below"] + found["above"] == 4


def test_both_studies_write_one_page(designs, study, tmp_path):
    page, file = tmp_path / "coverage.md", tmp_path / "designs.jsonl"
    page.write_text("# Do the intervals cover?\n", encoding="utf-8")
    counts = {"method": "asinh", "target": 1.0, "printed": 4, "below": 1, "above": 0,
              "covered": 3, "width": 2.0, "sd": 0.5}  # fmt: skip
    record = {"name": "kid r=2 n=m=8 null", "reps": 4, "metrics": {"kid": counts}, "seconds": 1}
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")
    for _ in range(2):
        assert designs.main(["--out", str(file), "--report", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count(designs.HEADING) == 1
    assert "| r=2 n=m=8 null | kid | 4 | 1 | 100% | 75.0% |" in text
    assert study.designs_of_page(page) == text[text.index("\n" + designs.HEADING) :]
