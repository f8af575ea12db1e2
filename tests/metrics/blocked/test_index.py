"""Nearest images by an index: near the exact values, and the share that it finds is measured."""

from __future__ import annotations

import re

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics import prdc
from synthbench.metrics.blocked import index, near
from synthbench.metrics.inference import floors, intervals, resampling
from synthbench.metrics.prdc import Coverage, Density, Precision, Recall

pytest.importorskip("faiss")
BALLS = [Precision, Recall, Density, Coverage]


@pytest.fixture(autouse=True)
def large(monkeypatch):
    monkeypatch.setattr(prdc, "LARGE_SET", 100)
    near.forget()


def sets(n=1500, m=1400, d=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)), 0.95 * rng.normal(size=(m, d)) + 0.1


@pytest.mark.parametrize("metric", BALLS, ids=lambda metric: metric.name)
def test_an_index_that_searches_all_cells_gives_the_exact_values(metric, monkeypatch):
    monkeypatch.setattr(index, "SHARE_SEARCHED", 1)
    exact = metric().prepare(*sets())
    found = metric().prepare(*sets(), neighbours="index")
    assert found.share_found == 1.0
    assert exact.share_found is None
    assert resampling.estimate(found) == resampling.estimate(exact)
    one, other = (intervals.interval(s, "score", seed=0) for s in (exact, found))
    assert (one.low, one.high) == (other.low, other.high)
    assert floors.matched(exact, 700, repeats=5, seed=0) == floors.matched(
        found, 700, repeats=5, seed=0
    )


@pytest.mark.parametrize("metric", BALLS, ids=lambda metric: metric.name)
def test_an_index_that_misses_images_says_how_many(metric):
    exact = resampling.estimate(metric().prepare(*sets()))
    statistic = metric().prepare(*sets(), neighbours="index")
    assert resampling.estimate(statistic) == pytest.approx(exact, abs=0.05)
    share = statistic.share_found
    assert 0.5 < share < 1
    # The share of all images, not of the 256 drawn ones: four standard errors of 256 x 5 draws.
    x = sets()[0 if statistic.around == "real" else 1]
    every = prdc.nearest(x, np.arange(len(x))).order[:, :5]
    held = (statistic._lists.nearest.order[:, None, :] == every[:, :, None]).any(axis=2)
    assert share == pytest.approx(held.mean(), abs=4 * np.sqrt(0.25 / 256))


def test_images_of_a_subject_are_no_neighbours(monkeypatch):
    monkeypatch.setattr(index, "SHARE_SEARCHED", 1)
    subjects = {"real": np.arange(1500) // 3}
    exact = Coverage().prepare(*sets(), subjects=subjects)
    found = Coverage().prepare(*sets(), subjects=subjects, neighbours="index")
    assert resampling.estimate(found) == resampling.estimate(exact)


def test_it_is_for_sets_above_the_stated_number():
    assert Coverage().with_index({"k": 5}, index.INDEX_SET) == {"k": 5}
    assert Coverage().with_index({"k": 5}, index.INDEX_SET + 1) == {"k": 5, "neighbours": "index"}


def test_without_faiss_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(index, "find_spec", lambda name: None)
    with pytest.raises(MetricError, match=re.escape("pip install 'synthbench[index]'")) as refused:
        Coverage().prepare(*sets(), neighbours="index")
    assert refused.value.code == "not installed"
