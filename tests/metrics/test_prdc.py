from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from synthbench.errors import MetricError
from synthbench.metrics import prdc
from synthbench.metrics import prdc as manifold
from synthbench.metrics.inference import resampling
from synthbench.metrics.metric import Metric
from synthbench.metrics.prdc import Coverage, Density, Precision, Recall

METRICS = [Precision, Recall, Density, Coverage]


def sets(n=30, m=25, d=4, spread=0.8, shift=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), spread * rng.normal(size=(m, d)) + shift


def by_neighbours(x, y, k, x_id=None, y_id=None):
    """The four metrics by scikit-learn's neighbour search, neighbours of one subject left out."""

    def radius(rows, ids):
        found = []
        for row, own in zip(rows, ids, strict=True):
            search = NearestNeighbors(n_neighbors=k).fit(rows[ids != own])
            found.append(search.kneighbors(row[None])[0][0, -1])
        return np.array(found)

    x_id = np.arange(len(x)) if x_id is None else x_id
    y_id = np.arange(len(y)) if y_id is None else y_id
    across = NearestNeighbors(n_neighbors=len(y)).fit(y)
    distance, order = across.kneighbors(x)
    distances = np.empty_like(distance)
    np.put_along_axis(distances, order, distance, axis=1)
    in_real = distances <= radius(x, x_id)[:, None] * (1 + 1e-12)
    in_synth = distances <= radius(y, y_id)[None, :] * (1 + 1e-12)
    return {
        "precision": in_real.any(axis=0).mean(),
        "recall": in_synth.any(axis=1).mean(),
        "density": in_real.sum() / (k * len(y)),
        "coverage": in_real.any(axis=1).mean(),
    }


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_a_metric(metric):
    assert isinstance(metric(), Metric)
    assert metric().freeze(None, None) == {"k": 5}


@pytest.mark.parametrize(
    ("n", "m", "d", "k"), [(30, 25, 4, 5), (25, 40, 2, 3), (20, 20, 60, 1), (6, 9, 3, 5)]
)
def test_values_are_those_of_a_neighbour_search(n, m, d, k):
    x, y = sets(n, m, d)
    for name, expected in by_neighbours(x, y, k).items():
        assert getattr(manifold, name)(x, y, k) == pytest.approx(expected, rel=1e-12), name


def test_neighbours_of_the_same_subject_are_left_out():
    x, y = sets()
    rng = np.random.default_rng(1)
    subjects = {"real": rng.integers(12, size=len(x)), "synth": rng.integers(12, size=len(y))}
    expected = by_neighbours(x, y, 5, subjects["real"], subjects["synth"])
    for metric in METRICS:
        found = resampling.estimate(metric().prepare(x, y, subjects=subjects))
        assert found == pytest.approx(expected[metric.name], rel=1e-12), metric.name


def test_counts_are_repeated_images_that_are_no_neighbours_of_themselves():
    x, y = sets()
    rng = np.random.default_rng(2)
    w = rng.multinomial(30, np.full(30, 1 / 30), size=4)
    v = rng.multinomial(25, np.full(25, 1 / 25), size=4)
    weights = {"real": w.astype(float), "synth": v.astype(float)}
    repeated = [
        (np.repeat(np.arange(30), a), np.repeat(np.arange(25), b))
        for a, b in zip(w, v, strict=True)
    ]
    expected = [by_neighbours(x[i], y[j], 5, i, j) for i, j in repeated]
    for metric in METRICS:
        found = metric().prepare(x, y).value(weights)
        np.testing.assert_allclose(found, [e[metric.name] for e in expected], rtol=1e-12)


def test_density_and_coverage_of_equal_distributions_have_their_expectations():
    """A synthetic image is as likely as any of the n - 1 other real ones to be among the k
    nearest of real image i: with probability k/n, so the expected density is 1. A ball is empty
    where the k nearest of the n + m - 1 others are all real: the expected coverage is
    1 - (n-1)...(n-k) / ((n+m-1)...(n+m-k)).
    """
    n, m, k, repeats = 12, 10, 3, 600
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
        found.append((prdc.density(x, y, k), prdc.coverage(x, y, k)))
    steps = np.arange(1, k + 1)
    expected = np.array([1, 1 - np.prod((n - steps) / (n + m - steps))])
    error = np.std(found, axis=0) / np.sqrt(repeats)
    assert (np.abs(np.mean(found, axis=0) - expected) < 4 * error).all()


def test_a_ball_holds_its_surface():
    """Real images at 0, 1 and 3 with k = 1 have the balls [-1, 1], [0, 2] and [1, 5]."""
    x = np.array([[0.0], [1.0], [3.0]])
    assert prdc.precision(x, np.array([[-1.0], [5.0]]), k=1) == 1
    assert prdc.density(x, np.array([[1.0], [2.0]]), k=1) == (3 + 2) / 2
    assert prdc.coverage(x, np.array([[2.0], [2.0]]), k=1) == 2 / 3
    assert prdc.recall(np.array([[-1.0], [9.0]]), x, k=1) == 1 / 2


def test_copies_of_an_image_have_balls_that_are_points():
    """Three copies of 0 and one image at 1, with k = 2: the copies' balls hold 0 alone, and that
    of the image at 1 reaches to 0. So an exact copy is in four balls, and 0.5 in one.
    """
    x = np.array([[0.0], [0.0], [0.0], [1.0]])
    assert prdc.density(x, np.array([[0.0], [0.0]]), k=2) == 4 / 2
    assert prdc.density(x, np.array([[0.5], [0.5]]), k=2) == 1 / 2


@pytest.mark.parametrize("name", ["precision", "recall", "density", "coverage"])
def test_a_far_set_scores_zero_and_recall_is_precision_exchanged(name):
    x, y = sets()
    assert getattr(manifold, name)(x, y + 100) == 0
    assert prdc.recall(x, y) == prdc.precision(y, x)


def test_shrunk_spread_is_rewarded_by_all_but_recall():
    """What `misses` says, on features of 10 dimensions: n = m = 86, a third of the spread."""
    x, y = sets(86, 86, 10, spread=0.3, shift=0)
    assert prdc.precision(x, y) == 1
    assert prdc.coverage(x, y) > 0.95
    assert prdc.density(x, y) > 3
    assert prdc.recall(x, y) < 0.1


def test_tensors_give_the_same_values():
    x, y = sets()
    tensors: list[Any] = [torch.from_numpy(x), torch.from_numpy(y)]
    assert prdc.density(*tensors) == prdc.density(x, y)


def test_too_little_weight_for_k_neighbours_is_undefined():
    """With k = 5 an image needs five others: six images of weight one have them, five have not.
    One image of weight 9 beside one of weight 1 has one other only.
    """
    x, y = sets()
    weights = {"real": np.zeros((3, len(x))), "synth": np.ones((3, len(y)))}
    weights["real"][0, :6] = 1
    weights["real"][1, :5] = 1
    weights["real"][2, :2] = 9, 1
    for metric in (Precision, Density, Coverage):
        found = metric().prepare(x, y).value(weights)
        assert np.isfinite(found).tolist() == [True, False, False], metric.name


@pytest.mark.parametrize("metric", METRICS)
def test_too_few_images_are_refused(metric):
    x, y = sets(5, 5)
    role = "synth" if metric is Recall else "real"
    message = (
        rf"{metric.name}: each {role} image needs at least k = 5 images of other subjects; found "
        r"4, with 5 images of 5 subjects\. Use at least 6 subjects, or a smaller k\."
    )
    with pytest.raises(MetricError, match=message):
        metric().prepare(x, y)
    metric().prepare(x, y, k=4)


def test_scans_of_one_subject_are_no_neighbours_to_count_on():
    x, y = sets(8, 8)
    subjects = {"real": np.array(["a", "a", "a", "a", "b", "c", "d", "e"])}
    with pytest.raises(MetricError, match="found 4, with 8 images of 5 subjects"):
        Precision().prepare(x, y, subjects=subjects)


def test_k_below_one_is_refused():
    with pytest.raises(MetricError, match="density: k must be at least 1 neighbour; found 0"):
        Density().prepare(*sets(), k=0)
