"""Copied parts: planted cubes are found, and nothing is found where nothing was copied."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics import local_copying
from synthbench.metrics.local_copying import LocalCopying, sides_p_value
from tests.metrics.simulated_volumes import SHAPE, ball, heads


def assessed(synth, train, holdout, mask=None, permutations=199, subjects=None):
    """As `local_copying`, at fewer places."""
    sources = {"synth": synth, "train": train, "holdout": holdout}
    inside = np.ones(SHAPE, bool) if mask is None else mask
    return LocalCopying().assess(
        sources, inside, permutations=permutations, seed=0, subjects=subjects, places=400
    )


def shuffled(count, seed=0):
    """Three sets of simulated volumes of one population."""
    drawn = heads(sum(count), seed)
    return np.split(drawn, np.cumsum(count)[:-1])


def with_parts(synth, train, corner, side, mirrored=False):
    """Each synthetic volume with a cube of another training volume."""
    planted = synth.copy()
    cube = tuple(slice(c, c + side) for c in corner)
    for i in range(len(planted)):
        source = train[i % len(train)]
        planted[i][cube] = (source[::-1] if mirrored else source)[cube]
    return planted


@pytest.fixture(scope="module")
def sets():
    return shuffled((12, 14, 16))


def test_nothing_is_found_in_volumes_of_the_same_population(sets):
    synth, train, holdout = sets
    found = assessed(synth, train, holdout, ball(), permutations=199)
    assert found.verdict in ("none", "nearer")
    assert "no copied parts found" in found.text
    assert max(abs(scale.share) for scale in found.scales) < 0.002


@pytest.mark.parametrize("mirrored", [False, True])
def test_copied_cubes_are_found_and_located(sets, mirrored):
    """Cubes of 9 voxels are 4% of the mask. A cube of 3 voxels inside them lies on a training
    volume; the map exceeds its threshold inside the planted cube only.
    """
    synth, train, holdout = sets
    corner, side = np.array([6, 12, 10]), 9
    planted = with_parts(synth, train, corner, side, mirrored)
    found = assessed(planted, train, holdout, ball(), permutations=199)
    assert found.verdict == "copies"
    assert found.text == "copied parts found"
    smallest = found.scales[0]
    assert smallest.side == 3
    assert smallest.p == pytest.approx(1 / 200)
    inside = ((found.places > corner) & (found.places < corner + side - 1)).all(axis=1)
    touching = ((found.places >= corner - 1) & (found.places <= corner + side)).all(axis=1)
    # Cubes inside are copies; of those that reach over the edge, some are; others by chance only.
    assert inside.mean() - 0.001 < smallest.share < touching.mean()
    assert smallest.share_low < smallest.share < smallest.share_high
    strong = found.places[found.map.share > found.map.threshold]
    assert len(strong) > 0
    assert ((strong >= corner - 1) & (strong <= corner + side)).all()


def test_exact_copies_of_hold_out_parts_are_no_copies_of_training_parts(sets):
    synth, train, holdout = sets
    planted = with_parts(synth, holdout, (6, 12, 10), 9)
    found = assessed(planted, train, holdout, ball(), permutations=199)
    assert found.verdict != "copies"
    assert found.scales[0].share < 0


def test_a_hold_out_of_another_brightness_is_said_and_accuses_nobody():
    synth, train, holdout = shuffled((12, 24, 24), seed=3)
    found = assessed(synth, train, holdout * 1.3, ball(), permutations=199)
    assert found.sides_p <= 0.05
    assert found.verdict == "sides_differ"
    assert found.text == "cannot be told: training and hold-out differ"


def test_an_even_background_is_left_out(sets):
    """Without a mask, most cubes near the corners are zero in every volume: no logarithm of 0."""
    inside = ball()
    synth, train, holdout = (volumes * inside for volumes in sets)
    with np.errstate(all="raise"):
        found = assessed(synth, train, holdout, permutations=99)
    assert found.verdict != "copies"
    assert all(np.isfinite([scale.gap, scale.share, scale.p]).all() for scale in found.scales)


def test_the_scale_and_the_order_of_images_change_nothing(sets):
    synth, train, holdout = sets
    planted = with_parts(synth, train, (6, 12, 10), 7)
    first = assessed(planted, train, holdout, ball(), permutations=99)
    second = assessed(3 * planted[::-1], 3 * train, 3 * holdout[::-1], ball(), permutations=99)
    for one, other in zip(first.scales, second.scales, strict=True):
        assert other.share == pytest.approx(one.share)
        assert other.gap == pytest.approx(one.gap, abs=1e-5)


def test_copies_of_any_scan_of_a_subject_are_found(sets):
    """The first 7 volumes and the last 7 are two scans each of 7 subjects. Parts of second scans
    are copied; rounds alternate between the scans.
    """
    synth, train, holdout = sets
    planted = with_parts(synth, train[7:], (6, 12, 10), 9)
    subjects = {"train": np.tile(np.arange(7), 2)}
    found = assessed(planted, train, holdout, ball(), permutations=199, subjects=subjects)
    assert (found.n_train, found.n_holdout) == (7, 16)
    assert found.verdict == "copies"


def test_power_is_said_where_nothing_is_found(sets):
    synth, train, holdout = sets
    found = local_copying(synth, train, holdout, ball(), permutations=199)
    assert found.detectable is not None
    assert f"5% of the image is copied in {found.detectable:.0%} of images" in found.text


def test_the_energy_test_keeps_equal_sets_apart_from_shifted_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    x[30:] += 2
    distances = np.linalg.norm(x[:, None] - x[None], axis=2)
    assert sides_p_value(distances, 99, rng) == pytest.approx(0.01)
    mixed = rng.permutation(60)
    assert sides_p_value(distances[np.ix_(mixed, mixed)], 99, rng) > 0.01


def test_too_few_subjects_or_permutations_are_refused(sets):
    synth, train, holdout = sets
    with pytest.raises(MetricError, match="at least 2 subjects"):
        local_copying(synth, train[:1], holdout)
    with pytest.raises(MetricError, match="at least 19 permutations"):
        local_copying(synth, train, holdout, permutations=10)
    with pytest.raises(MetricError, match="mask holds no voxel"):
        local_copying(synth, train, holdout, np.zeros(SHAPE, bool))
    with pytest.raises(MetricError, match="share one grid"):
        local_copying(synth, train[:, 1:], holdout, ball())
    with pytest.raises(MetricError, match="NaN"):
        local_copying(np.where(synth == synth.max(), np.nan, synth), train, holdout, ball())
    with pytest.raises(MetricError, match="training images"):
        LocalCopying().prepare(synth, synth)
