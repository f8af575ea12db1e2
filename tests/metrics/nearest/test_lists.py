"""Lists of the nearest images give what matrices of distances give."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics import kernels
from synthbench.metrics.inference import resampling
from synthbench.metrics.memorization import Memorization, memorization
from synthbench.metrics.nearest import lists, pairs
from synthbench.metrics.nearest.distances import Distances, feature_distances
from synthbench.metrics.nearest.findings import Assessment
from synthbench.metrics.nearest.lists import (
    NearestDistances,
    copy_distances,
    list_length,
    nearest_distances,
)
from synthbench.metrics.nearest.rows import NearestLists, Ranked, Rows
from tests.metrics.nearest.copies import near_copies

SCANS = {
    "synth": np.arange(40),
    "train": np.repeat(np.arange(20), np.arange(20) % 3 + 1)[:36],
    "holdout": np.repeat(np.arange(25), np.arange(25) % 2 + 1)[:36],
}


def features(m=40, n_train=36, n_holdout=36, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    synth, train, holdout = (100 + rng.normal(size=(n, 5)) for n in (m, n_train, n_holdout))
    few = min(8, n_train)
    synth[:few] = near_copies(rng, train, few, 0.2)
    return synth, train, holdout + shift


def with_ties():
    """Whole numbers: many distances are equal, and synthetic images equal real ones."""
    rng = np.random.default_rng(3)
    synth, train, holdout = (rng.integers(0, 6, size=(n, 3)).astype(float) for n in (30, 25, 25))
    holdout += 0.5
    synth[0], synth[1] = train[3], holdout[5]
    return synth, train, holdout


CASES: dict[str, tuple[tuple[np.ndarray, ...], dict[str, Any]]] = {
    "plain": (features(), {}),
    "near copies by the old rule": (features(), {"copy_size": None}),
    "several scans": (features(), {"subjects": SCANS}),
    "several scans by the old rule": (features(), {"subjects": SCANS, "copy_size": None}),
    "three to one": (features(30, 60, 20), {}),
    "one to five": (features(30, 12, 60), {}),
    "another site": (features(shift=3.0), {}),
    "sites": (
        features(shift=1.0),
        {"sites": {"train": np.repeat(["a", "b"], 18), "holdout": np.repeat(["b", "c"], 18)}},
    ),
    "ties": (with_ties(), {}),
}


def assessed(distances, **settings) -> Assessment:
    return Memorization().assess(distances, permutations=99, seed=5, **settings)


def assert_same(found: Assessment, expected: Assessment) -> None:
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "flipped":
            assert (one is None) == (other is None)
        elif field.name == "statistic":
            np.testing.assert_allclose(one.contrasts, other.contrasts, rtol=1e-7, atol=1e-8)
            np.testing.assert_array_equal(one.authentic, other.authentic)
        elif field.name in ("value", "gap"):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)
        elif field.name == "neighbours":
            # Of images at one distance either may be named.
            distances = [2, 4]
            np.testing.assert_allclose(
                np.array(one)[:, distances], np.array(other)[:, distances], atol=1e-9
            )
        else:
            assert one == other, field.name


@pytest.fixture(params=[(32, 2**22), (1, 200)], ids=["long lists", "short lists and blocks"])
def short(request, monkeypatch):
    """Lists that are longer than the sets, and lists that are often too short."""
    neighbours, block = request.param
    monkeypatch.setattr(lists, "NEIGHBOURS", neighbours)
    monkeypatch.setattr(kernels, "BLOCK_NUMBERS", block)
    monkeypatch.setattr(pairs, "TILE_NUMBERS", block)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("flip", [False, True])
def test_the_finding_is_that_of_matrices(name, flip, short):
    (synth, train, holdout), settings = CASES[name]
    flipped = synth * np.array([-1.0, *np.ones(synth.shape[1] - 1)]) if flip else None
    expected = assessed(feature_distances(synth, train, holdout, flipped), **settings)
    subjects = settings.get("subjects")
    found = assessed(nearest_distances(synth, train, holdout, flipped, subjects), **settings)
    assert_same(found, expected)
    if flip:
        assert found.flipped is not None
        assert expected.flipped is not None
        for attribute in ("p", "near_p", "copies", "close", "holdout_close", "detectable"):
            assert getattr(found.flipped, attribute) == getattr(expected.flipped, attribute)
        np.testing.assert_allclose(
            found.flipped.statistic.contrasts, expected.flipped.statistic.contrasts, atol=1e-8
        )


def test_the_cases_have_something_to_find():
    found = {
        name: assessed(feature_distances(*sets), **settings)
        for name, (sets, settings) in CASES.items()
    }
    assert found["ties"].copies > 0
    assert found["ties"].holdout_copies > 0
    assert found["plain"].verdict == "copies"
    assert found["another site"].sides_p == 0.01


def test_a_copy_of_a_training_image_in_the_hold_out_is_refused(short):
    synth, train, holdout = features()
    holdout[7] = train[4]
    with pytest.raises(MetricError, match="hold-out image 7 is training image 4"):
        assessed(nearest_distances(synth, train, holdout))


def test_many_equal_images_leave_no_certain_neighbour(short):
    """A list of equal distances may lack a subject that is as near, so rows are taken in full."""
    synth, train, holdout = features()
    train[:30] = train[0] + 1e-12 * np.arange(30)[:, None]
    scans = {"train": np.repeat(np.arange(7), [30, 1, 1, 1, 1, 1, 1])}
    expected = assessed(feature_distances(synth, train, holdout), subjects=scans)
    assert_same(assessed(nearest_distances(synth, train, holdout), subjects=scans), expected)


def test_a_row_that_knows_too_little_is_nan_and_computed_in_full():
    """The nearest two of four subjects are known, and both are of training."""
    known = NearestLists((0, 4), np.array([[0, 1]]), np.array([[1.0, 2.0]]), np.array([2]))
    distances = np.array([[1.0, 2.0, 4.0, 8.0]])
    calls = []

    def compute(chosen):
        calls.append(chosen.tolist())
        return distances[chosen]

    to_real = Rows((1, 4), compute, (known,))
    ranked = to_real.ranked(np.array([0]), np.arange(4), np.arange(4), 1e-3)
    assert ranked.order.tolist() == [[0, 1]]
    assert calls == []
    is_train = np.arange(4) < 2
    assert [found.item() for found in to_real.closest(is_train)] == [0, 1.0]
    assert calls == []
    assert [found.item() for found in to_real.closest(~is_train)] == [2, 4.0]
    assert calls == [[0]]


def test_entries_behind_the_last_known_subject_have_no_label():
    logs = np.log([[2.0, np.inf, 1.0], [1.0, 2.0, 3.0]])
    ranked = Ranked.of(logs)
    assert ranked.known.tolist() == [2, 3]
    assert ranked.order.tolist() == [[2, 0, 3], [0, 1, 2]]
    np.testing.assert_allclose(np.exp(ranked.logs), [[1, 2, 2], [1, 2, 3]])
    order, table = ranked.labelled(np.array([[True, False, True]]))
    assert table[order][..., 0].tolist() == [[True, True, False], [True, False, True]]


def test_large_sets_have_lists(monkeypatch):
    synth, train, holdout = features()
    assert isinstance(copy_distances(synth, train, holdout), Distances)
    small = memorization(synth, train, holdout, permutations=99)
    monkeypatch.setattr(resampling, "LARGE_SET", 39)
    assert isinstance(copy_distances(synth, train, holdout), NearestDistances)
    assert_same(memorization(synth, train, holdout, permutations=99), small)


def test_lists_are_longer_where_sides_are_unequal_or_subjects_have_several_scans():
    sizes = {"synth": 9, "train": 4000, "holdout": 4000}
    assert list_length(sizes, None) == 64
    assert list_length({**sizes, "holdout": 400}, None) == 32 * 11
    assert list_length(sizes, {"train": np.repeat(np.arange(1000), 4)}) == 2 * 32 * 5
    assert list_length({**sizes, "train": 20, "holdout": 20}, None) == 40


def test_what_does_not_fit_is_refused_before_it_is_computed(monkeypatch):
    """300 images with 2 features and lists of 64, 16 and 16 neighbours."""
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "300KiB")
    x = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(MetricError, match=r"needs 459 KiB.*--max-memory"):
        nearest_distances(x, x + 1, x + 2)
    with pytest.raises(MetricError, match="as many flipped images as synthetic ones; found 99"):
        nearest_distances(x, x + 1, x + 2, x[:-1])
    with pytest.raises(MetricError, match=r"of 100 synthetic.*values under.*--max-memory"):
        assessed(feature_distances(x, x + 1, x + 2))
    # Lists take 459 KiB and values 2188: each of them fits, both together do not.
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "2400KiB")
    found = nearest_distances(x, x + 1, x + 2)
    assert found.numbers == 300 * (2 * 2 + 2 * (64 + 16 + 16)) == 58800
    with pytest.raises(MetricError, match=r"of 100 synthetic.*values under.*--max-memory"):
        assessed(found)
