from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from synthbench.cohorts.preflight.alignment import (
    Turn,
    asymmetry_scores,
    best_turns,
    displacements,
    is_shift,
    outlying,
    shifted,
    shifted_fit,
    spread,
    turns,
)

SHAPE = (24, 28, 24)


def gaussian(centre, sigma=(4.0, 5.0, 4.5)):
    """A smooth blob: its translation by any vector is known without interpolation."""
    axes = np.meshgrid(*[np.arange(s) for s in SHAPE], indexing="ij")
    squared = sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, sigma, strict=True))
    return np.exp(-squared / 2).astype(np.float32)


@pytest.mark.parametrize("moved", [(0, 0, 0), (1, 0, 0), (0.3, -0.6, 1.2), (-2, 1.5, 0)])
def test_a_displacement_is_the_vector_by_which_a_blob_was_moved(moved):
    middle = np.array([11.5, 13.5, 11.5])
    reference = gaussian(middle).astype(np.float64)
    volume = 0.8 * gaussian(middle + moved) + 0.01
    found = displacements(volume[None], (6.0, 6.0, 5.0), reference)
    np.testing.assert_allclose(found[0], np.array(moved) * (6, 6, 5), atol=0.3)


def test_against_the_others_one_moved_volume_keeps_its_full_displacement():
    """6 mm off seven others that agree; each of these is -6/7 mm off the mean of its others."""
    middle = np.array([11.5, 13.5, 11.5])
    stack = np.stack([gaussian(middle)] * 7 + [gaussian((12.5, 13.5, 11.5))])
    found = displacements(stack, (6.0, 6.0, 6.0))
    assert found[-1][0] == pytest.approx(6.0, abs=0.2)
    assert found[0][0] == pytest.approx(-6 / 7, abs=0.2)


def test_noise_lies_nowhere():
    rng = np.random.default_rng(0)
    reference = gaussian((11.5, 13.5, 11.5)).astype(np.float64)
    noise = rng.standard_normal((1, *SHAPE)).astype(np.float32) * 0.05
    assert np.isnan(displacements(noise, (6.0, 6.0, 6.0), reference)).all()


def test_turns_keep_the_shape_and_are_all_different():
    volume = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    turned = [turn(volume) for turn in turns(volume.shape)]
    assert len(turned) == 6 * 4
    assert len({t.tobytes() for t in turned}) == len(turned)
    assert len(turns((5, 6, 5))) == 2 * 4
    assert len(turns((5, 6, 7))) == 4
    assert turns((5, 6, 7))[0] == Turn()


def test_a_turn_says_what_it_does():
    assert str(Turn()) == "as it is"
    assert str(Turn((0, 1, 2), (1,))) == "mirrored front-back"
    words = "with axes 1 and 3 exchanged and mirrored left-right and up-down"
    assert str(Turn((2, 1, 0), (0, 2))) == words


@pytest.mark.parametrize(
    "mistake", [Turn((0, 1, 2), (1,)), Turn((2, 1, 0)), Turn((0, 1, 2), (1, 2))]
)
def test_the_one_turned_volume_is_found(mistake):
    """Each of these turns is its own inverse: what undoes it is the turn itself."""
    rng = np.random.default_rng(0)
    shape = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2).astype(np.float32)
    stack = np.stack([shape + 0.01 * rng.standard_normal(SHAPE).astype(np.float32)] * 8)
    stack[3] = mistake(stack[3])
    expected = [Turn()] * 8
    expected[3] = mistake
    assert best_turns(stack, 0.02, 0.8) == expected


def test_mirroring_a_volume_changes_the_sign_of_its_score_alone():
    rng = np.random.default_rng(0)
    shape = gaussian((9.0, 13.5, 11.5))
    stack = shape + 0.02 * rng.standard_normal((9, *SHAPE)).astype(np.float32)
    scores = asymmetry_scores(stack)
    mirrored = stack.copy()
    mirrored[2] = mirrored[2, ::-1]
    assert scores.min() > 0.5
    assert asymmetry_scores(mirrored)[2] == pytest.approx(-scores[2])
    others = np.delete(stack, 2, axis=0)
    assert asymmetry_scores(stack[2:3], against=others)[0] == pytest.approx(scores[2])


def test_symmetric_volumes_have_no_score():
    stack = np.stack([gaussian((11.5, 13.5, 11.5))] * 5)
    np.testing.assert_array_equal(asymmetry_scores(stack), np.zeros(5))


def test_spread_is_that_of_scipy_and_leaves_nan_out():
    values = np.random.default_rng(0).standard_normal(50)
    median, deviation = spread(np.append(values, np.nan))
    assert median == np.median(values)
    assert deviation == pytest.approx(stats.median_abs_deviation(values, scale="normal"), rel=1e-4)


def test_outlying_needs_both_the_least_and_the_deviations():
    """Of 0 to 8, 21 and 31 the median is 5, the median absolute deviation 3, six sd 26.7."""
    values = np.append(np.arange(9.0), [21.0, 31.0])
    assert not outlying(values, least=1.0).any()
    values[-1] = 32.0
    assert outlying(values, least=1.0).sum() == 1
    tight = np.append(np.full(9, 1.0), 3.0)
    assert not outlying(tight, least=4.0).any()
    np.testing.assert_array_equal(np.flatnonzero(outlying(tight, least=1.0)), [9])
    assert not outlying(np.array([np.nan] * 9 + [1.0]), least=0.5)[0]


@pytest.mark.parametrize("cells", [(0, 0, 0), (3, -2, 5), (-6, 0, 1)])
def test_a_displacement_is_found_and_undone_wherever_it_is(cells):
    """Inside the padded grid the correlation after the shift is 1, of any gain and offset of 0."""
    rng = np.random.default_rng(0)
    reference = np.zeros((24, 26, 22), dtype=np.float32)
    reference[8:16, 8:16, 8:16] = ndimage.gaussian_filter(rng.random((8, 8, 8)), 1)
    moved = 3 * np.roll(reference, cells, (0, 1, 2))
    found, fit = shifted_fit(moved, reference, (2.0, 3.0, 4.0))
    wanted = np.array(cells) * (2.0, 3.0, 4.0)
    assert found == pytest.approx(tuple(wanted), abs=0.7)
    assert fit == pytest.approx(1, abs=0.02)
    assert shifted_fit(reference * 0, reference, (1, 1, 1))[1] == 0


def test_the_fit_is_pearsons_over_the_padded_grid():
    """Two different volumes at no displacement: 47 x 51 x 43 cells hold both and zeros."""
    rng = np.random.default_rng(2)
    one, other = (rng.random((24, 26, 22)).astype(np.float32) for _ in range(2))
    one[10:14, 10:14, 10:14] += 9  # so that no displacement is the best
    other[10:14, 10:14, 10:14] += 9
    whole = [np.zeros((47, 51, 43)) for _ in range(2)]
    for padded, volume in zip(whole, (one, other), strict=True):
        padded[:24, :26, :22] = volume
    _, fit = shifted_fit(one, other, (1.0, 1.0, 1.0))
    assert fit == pytest.approx(np.corrcoef(whole[0].ravel(), whole[1].ravel())[0, 1], abs=1e-3)


def test_a_turn_that_a_shift_explains_is_none():
    """A wedge: mirrored, no shift makes it fit."""
    wedge = np.zeros((24, 24, 24), dtype=np.float32)
    wedge[8:16, 6:18, 9:14] = np.arange(12)[:, None] ** 2
    displaced, mirrored = np.roll(wedge, 5, axis=1), wedge[:, ::-1]
    assert is_shift(displaced, displaced[:, ::-1], wedge, 0.02)
    assert not is_shift(mirrored, mirrored[:, ::-1], wedge, 0.02)


@pytest.mark.parametrize(
    "cells", [(0.0, 0.0, 0.0), (1.0, -2.0, 0.0), (0.3, -1.2, 4.0), (-3.7, 2.5, -0.1), (40, 0, 0)]
)
def test_a_shift_is_that_of_scipy(cells):
    volume = np.random.default_rng(0).random((9, 12, 8), dtype=np.float32)
    expected = ndimage.shift(volume, cells, order=1, mode="constant")
    np.testing.assert_allclose(shifted(volume, np.array(cells)), expected, atol=1e-6)
