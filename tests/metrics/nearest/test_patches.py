"""Patches: places, distances at a place, nearest subjects."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from synthbench.metrics.nearest import patches
from synthbench.metrics.nearest.patches import (
    Rule,
    contrast,
    grid_places,
    nearest_subject,
    scans_by_round,
    search,
)
from tests.metrics.simulated_volumes import SHAPE, ball, heads

RULE = Rule(sides=(3, 5), places=60, ratio=0.5, floor=0.01)


def by_hand(synth, real, mask, place, side):
    """Distances at a place, as a double loop over images; real ones also mirrored."""
    x, y, z = place
    rows = np.zeros((len(synth), len(real)))
    for i, own in enumerate(synth):
        for j, other in enumerate(real):
            squares = [
                ((own - image) ** 2 * mask)[
                    max(x - side // 2, 0) : x + side // 2 + 1,
                    max(y - side // 2, 0) : y + side // 2 + 1,
                    max(z - side // 2, 0) : z + side // 2 + 1,
                ].sum()
                for image in (other, other[::-1])
            ]
            rows[i, j] = np.sqrt(min(squares))
    return rows


@pytest.fixture(scope="module")
def volumes():
    drawn = heads(13, 5).astype(np.float64)
    return {"synth": drawn[:4], "train": drawn[4:8], "holdout": drawn[8:]}


def found_by(volumes, mask):
    index = {role: np.arange(len(images)) for role, images in volumes.items()}
    return search(volumes, index, mask, RULE, np.random.default_rng(0))


def test_the_nearest_subject_is_that_of_a_double_loop(volumes):
    """The mask is cut on one side, so it is not symmetric from left to right."""
    mask = ball()
    mask[:6] = False
    found = found_by(volumes, mask)
    real = np.concatenate([volumes["train"], volumes["holdout"]])
    assert 30 < len(found.places) <= 60
    gaps: dict[int, list[np.ndarray]] = {side: [] for side in RULE.sides}
    for p, place in enumerate(found.places):
        assert mask[tuple(place)]
        for side in RULE.sides:
            expected = by_hand(volumes["synth"], real, mask, place, side)
            assert found.found[side].nearest[0, :, p].tolist() == expected.argmin(axis=1).tolist()
            two = np.sort(expected, axis=1)
            copied = two[:, 0] < 0.5 * two[:, 1]
            assert found.found[side].copied[0, :, p].tolist() == copied.tolist()
            gaps[side].append(subset_contrast(np.log(expected), 4))
    for side in RULE.sides:
        assert found.found[side].gaps == pytest.approx(np.mean(gaps[side], axis=0))


@pytest.mark.parametrize("most", [4 * 13 * 30 * 34 * 12, 4 * 13 * 30 * 12 * 12, 1])
def test_blocks_give_what_one_block_gives(volumes, monkeypatch, most):
    whole = found_by(volumes, ball())
    monkeypatch.setattr(patches, "BLOCK_BYTES", most)
    monkeypatch.setattr(patches, "_ROWS", 3)
    blocks = found_by(volumes, ball())
    for side in RULE.sides:
        assert np.array_equal(whole.found[side].nearest, blocks.found[side].nearest)
        assert whole.found[side].gaps == pytest.approx(blocks.found[side].gaps)
    assert whole.between_real == pytest.approx(blocks.between_real)


def subset_contrast(logs, n_train):
    """The mean over all subsets of equal size, counted one by one."""
    sides = logs[:, :n_train], logs[:, n_train:]
    n = min(side.shape[1] for side in sides)
    train, holdout = (
        np.mean([side[:, list(c)].min(axis=1) for c in combinations(range(side.shape[1]), n)], 0)
        for side in sides
    )
    return holdout - train


@pytest.mark.parametrize("n_train", [2, 3, 4, 6])
def test_the_contrast_is_the_mean_over_all_subsets(n_train):
    logs = np.random.default_rng(1).normal(size=(5, 7))
    assert contrast(logs, n_train) == pytest.approx(subset_contrast(logs, n_train))


def test_a_copy_is_twice_as_near_as_any_other_subject():
    logs = np.log([[1.0, 2.1, 5.0], [1.0, 1.9, 5.0], [3.0, 3.0, 1.0], [0.01, 0.01, 0.01]])
    nearest, copied = nearest_subject(logs, 0.5)
    assert nearest[:3].tolist() == [0, 0, 2]
    assert copied.tolist() == [True, False, True, False]


def test_every_scan_stands_for_its_subject_in_some_round():
    rounds = scans_by_round(np.array([0, 1, 0, 2, 0, 1]))
    assert [r.tolist() for r in rounds] == [[0, 1, 3], [2, 5, 3], [4, 1, 3]]


def test_places_are_the_finest_grid_that_is_allowed():
    mask = ball()
    places, stride = grid_places(mask, 500)
    assert len(places) <= 500
    assert mask[tuple(places.T)].all()
    finer = mask[(stride - 1) // 2 :: stride - 1, (stride - 1) // 2 :: stride - 1]
    assert finer[:, :, (stride - 1) // 2 :: stride - 1].sum() > 500
    assert len(grid_places(np.ones((2, 2, 2), bool), 10)[0]) == 8


def test_a_thin_mask_still_has_places():
    mask = np.zeros(SHAPE, bool)
    mask[:, 0, 0] = True
    places, _ = grid_places(mask, 5)
    assert 0 < len(places) <= 5
    assert mask[tuple(places.T)].all()
