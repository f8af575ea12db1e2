"""A quick part of the study of large sets: its table, and runs with kept sums."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

import pytest

from synthbench.metrics import kernels, mmd, mmd_permutation, prdc
from synthbench.metrics.blocked import near
from synthbench.metrics.fid import FID
from synthbench.metrics.inference import resampling
from tests.studies.conftest import script

FAMILIES = ["mmd2", "kid", "fid", "precision", "coverage"]


@pytest.fixture
def study(monkeypatch):
    """The script, which scores in this process; sets of 60 images are large."""
    found = script("large_sets")
    # The package exports a function of the name of FID's module.
    for module in (kernels, mmd, mmd_permutation, prdc, sys.modules[FID.__module__]):
        monkeypatch.setattr(module, "LARGE_SET", 50)
    monkeypatch.setattr(resampling, "LARGE_SET", 50)
    monkeypatch.setattr(found, "measured", found.costs_of)
    near.forget()
    return found


def test_the_table_has_a_row_for_each_family(study, capsys, tmp_path):
    numbers = tmp_path / "values.json"
    typed = ["--n", "30", "60", "--d", "8", "--family", *FAMILIES, "--resamples", "100"]
    study.main([*typed, "--together", "--out", str(numbers)])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    labels = [row.split("|")[1].strip() for row in rows[1:] if "---" not in row]
    assert labels == ["MMD² (RBF)", "KID", "FID", "Precision", "Coverage"]
    found = json.loads(numbers.read_text(encoding="utf-8"))
    assert set(found) == {f"{family}, n = {n}" for family in FAMILIES for n in (30, 60)}
    # Kept sums change no bit, and a second run computes none.
    again = tmp_path / "again.json"
    for _ in range(2):
        near.forget()
        study.main([*typed, "--together", "--pairs", str(tmp_path / "sums"), "--out", str(again)])
        assert again.read_bytes() == numbers.read_bytes()


def test_steps_can_be_left_out(study):
    chosen = Namespace(d=8, resamples=100, without=["p", "floor"], pairs=None)
    (found,) = study.costs_of(["kid"], 60, chosen)
    assert list(found.steps) == ["settings", "value", "interval"]
    assert set(found.found) == {"value", "low", "high"}
    assert found.peak >= found.before > 0
