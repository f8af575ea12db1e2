"""The comparison of scorecards of the public board that two kinds of processor made."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

BOARD = Path(__file__).parents[2] / "leaderboards" / "atlas"
COMMITTED = BOARD / "entries" / "pca-gaussian.json"


@pytest.fixture(scope="module")
def overlap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("overlap", BOARD / "overlap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def card():
    return json.loads(COMMITTED.read_text(encoding="utf-8"))


def moved(card, label, widths):
    """The card with one interval moved by so many of its widths."""
    changed = copy.deepcopy(card)
    (value,) = [v for v in changed["values"] if (v["label"], v["extractor"]) == label]
    interval = value["interval"]
    by = widths * (interval["high"] - interval["low"])
    interval["low"], interval["high"] = interval["low"] + by, interval["high"] + by
    return changed


@pytest.mark.parametrize(("widths", "agree"), [(0, True), (0.9, True), (-0.9, True), (1.1, False)])
def test_values_agree_where_their_intervals_overlap(overlap, card, widths, agree):
    label = ("FID", "anatomy")
    lines = overlap.apart(card, moved(card, label, widths))
    assert lines == [] if agree else lines[0].startswith("FID | anatomy: committed [")
    assert overlap.apart(moved(card, label, widths), card) == [] or not agree


def test_a_value_that_one_card_lacks_does_not_agree(overlap, card):
    less = {**card, "values": card["values"][1:]}
    assert len(overlap.apart(card, less)) == len(overlap.apart(less, card)) == 1


def test_the_exit_status_says_it(overlap, card, tmp_path, capsys):
    other = tmp_path / "rebuilt.json"
    other.write_text(json.dumps(moved(card, ("FID", "anatomy"), 1.1)), encoding="utf-8")
    assert overlap.main(str(COMMITTED), str(COMMITTED)) == 0
    assert "values overlap" in capsys.readouterr().out
    assert overlap.main(str(COMMITTED), str(other)) == 1
    assert "FID | anatomy: committed" in capsys.readouterr().out
