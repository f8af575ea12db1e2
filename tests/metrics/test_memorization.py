"""The test of memorization: by hand, by its level and by its power."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics.inference import intervals
from synthbench.metrics.memorization import Memorization, memorization
from synthbench.metrics.metric import Composite, Metric, Studentized
from synthbench.metrics.nearest import power
from synthbench.metrics.nearest.distances import feature_distances, voxel_distances
from synthbench.metrics.nearest.verdict import WORDS
from tests.metrics.nearest.copies import near_copies, sets

TRAIN, HOLDOUT = np.array([[0.0], [10.0]]), np.array([[4.0], [14.0]])


@pytest.fixture
def without_power(monkeypatch):
    """Plant next to nothing: for simulations that look at p alone."""
    monkeypatch.setattr(power, "PLANTINGS", 2)


def test_it_is_a_metric_whose_statistic_is_studentized_and_has_parts():
    found = memorization(*sets(), permutations=99)
    assert isinstance(Memorization(), Metric)
    assert isinstance(found.statistic, Studentized)
    assert isinstance(found.statistic, Composite)


def test_settings_are_json_and_come_back_as_they_are():
    settings = Memorization().freeze(None, None)
    assert json.loads(json.dumps(settings)) == settings
    distances = feature_distances(*sets())
    with_settings = Memorization().assess(distances, permutations=99, seed=3, **settings)
    without = Memorization().assess(distances, permutations=99, seed=3)
    assert (with_settings.p, with_settings.text) == (without.p, without.text)


def test_two_sets_are_refused():
    with pytest.raises(MetricError, match="--train"):
        Memorization().prepare(TRAIN, HOLDOUT)


def test_value_by_hand():
    """1 is 1 from 0 and 3 from 4: log 3. 11 is 1 from 10 and 3 from 14: log 3. 6 is 4 from 10
    and 2 from 4: -log 2.
    """
    found = memorization(np.array([[1.0], [11.0], [6.0]]), TRAIN, HOLDOUT, permutations=99)
    np.testing.assert_allclose(found.statistic.contrasts, np.log([3, 3, 0.5]), rtol=1e-12)
    assert found.value == pytest.approx((2 * np.log(3) - np.log(2)) / 3, rel=1e-12)
    assert found.n == 2
    assert [tuple(row) for row in found.neighbours] == [
        (0, 0, 1.0, 0, 3.0),
        (1, 1, 1.0, 1, 3.0),
        (2, 1, 4.0, 0, 2.0),
    ]


def test_distances_below_the_floor_are_floored():
    """The typical distance is 10 and the floor a hundredth of it: 0.05 counts as 0.1."""
    found = memorization(np.array([[0.05], [6.0]]), TRAIN, HOLDOUT, permutations=99)
    assert found.statistic.contrasts[0] == pytest.approx(np.log(3.95 / 0.1), rel=1e-12)
    assert found.copies == 0


def test_p_is_the_share_of_all_labellings():
    """All 20 ways to call 3 of 6 images training, in place of random ones."""
    rng = np.random.default_rng(2)
    synth, real = rng.normal(size=(5, 3)), rng.normal(size=(6, 3))
    synth[0] = real[0] + 0.3
    distances = cdist(synth, real)

    def value(train):
        holdout = [i for i in range(6) if i not in train]
        return np.log(distances[:, holdout].min(axis=1) / distances[:, train].min(axis=1)).mean()

    observed = value([0, 1, 2])
    exact = np.mean([value(list(t)) >= observed - 1e-12 for t in combinations(range(6), 3)])
    found = memorization(synth, real[:3], real[3:], permutations=20_000)
    assert found.value == pytest.approx(observed, rel=1e-12)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


@pytest.mark.slow
@pytest.mark.parametrize("n_train", [12, 20])
def test_the_level_is_held_where_synth_differs_from_real(without_power, n_train):
    """No image is copied, and synth is shifted and shrunk: p is uniform on 0.01, ..., 1.

    With 300 p-values the standard error of a share of 0.05 is 0.0126.
    """
    found = []
    for seed in range(300):
        synth, train, holdout = sets(15, n_train, 12, 5, seed)
        assessment = memorization(0.7 * synth + 0.5, train, holdout, permutations=99, seed=seed)
        found.append(assessment.p)
    p = np.array(found)
    assert (p <= 0.05).mean() <= 0.05 + 3 * 0.0126
    # Spread within each step of 0.01, uniform p-values are continuous.
    spread = p - 0.01 * np.random.default_rng(0).random(len(p))
    assert stats.kstest(spread, "uniform").pvalue > 0.001


def test_a_tenth_of_near_copies_is_found(without_power):
    """98% power at 10% copies among 86/86/86; 12 sets, of which 10 must be found.

    Binomial(12, 0.98) is below 10 with a probability of 0.002.
    """
    found = 0
    for seed in range(12):
        synth, train, holdout = sets(86, 86, 86, 32, seed)
        synth[:9] = near_copies(np.random.default_rng(seed), train, 9, 0.1)
        assessment = memorization(synth, train, holdout, permutations=199, seed=seed)
        assert assessment.copies == 0
        found += assessment.detected
    assert found >= 10


def test_more_copies_raise_the_value():
    synth, train, holdout = sets(20, 20, 20, 8)
    copies = near_copies(np.random.default_rng(1), train, 20, 0.2)
    values = []
    for count in (0, 3, 6, 12, 20):
        mixed = np.concatenate([copies[:count], synth[count:]])
        values.append(memorization(mixed, train, holdout, permutations=99).value)
    assert values == sorted(values)


def test_order_does_not_matter():
    synth, train, holdout = sets(n_train=11)
    found = memorization(synth, train, holdout, permutations=99)
    turned = memorization(synth[::-1], train[::-1], np.roll(holdout, 3, axis=0), permutations=99)
    assert turned.value == pytest.approx(found.value, rel=1e-9)
    assert turned.auth_pct == found.auth_pct
    assert memorization(synth[::-1], train, holdout, permutations=99).p == found.p


def test_scale_does_not_matter():
    small = memorization(*sets(), permutations=99)
    large = memorization(*(1024 * x for x in sets()), permutations=99)
    assert large.value == pytest.approx(small.value, rel=1e-12)
    assert (large.p, large.detectable, large.auth_pct) == (
        small.p, small.detectable, small.auth_pct,
    )  # fmt: skip


def test_a_seed_fixes_everything():
    one, again, other = (memorization(*sets(), permutations=199, seed=s) for s in (1, 1, 2))
    assert (one.p, one.detectable) == (again.p, again.detectable)
    assert one.p != other.p
    assert one.value == other.value


def test_counts_are_repeated_rows():
    synth, train, holdout = sets()
    counts = np.array([2, 0, 1, 3, 1, 0, 1, 1, 0])
    weights = {"synth": counts[None].astype(float)}
    statistic = memorization(synth, train, holdout, permutations=99).statistic
    repeated = memorization(np.repeat(synth, counts, axis=0), train, holdout, permutations=99)
    assert statistic.value(weights)[0] == pytest.approx(repeated.value, rel=1e-12)
    auth = statistic.parts()["auth_pct"].statistic
    assert auth.value(weights)[0] == pytest.approx(repeated.auth_pct, rel=1e-12)


def test_variance_is_that_of_a_mean_and_gives_an_interval():
    found = memorization(*sets(30), permutations=99)
    ones = {"synth": np.ones((1, 30))}
    expected = np.var(found.statistic.contrasts, ddof=1) / 30
    assert found.statistic.variance(ones)[0] == pytest.approx(expected, rel=1e-12)
    interval = intervals.studentized_interval(found.statistic, resamples=200, seed=0)
    assert interval.low < found.value < interval.high


def test_exact_copies_are_counted_apart_from_the_test():
    """One copy moves no mean of 86 by much, and needs no test."""
    synth, train, holdout = sets(86, 86, 86, 32, seed=4)
    synth[3] = train[5] * (1 + 1e-7)
    synth[7] = holdout[1]
    found = memorization(synth, train, holdout, permutations=99)
    assert (found.copies, found.holdout_copies) == (1, 1)
    assert found.copy_share == pytest.approx(1 / 86)
    assert found.p > 0.05
    assert found.near_p is not None
    assert found.near_p > 0.05
    assert found.detected
    assert found.verdict == "copies"
    assert found.neighbours[3].train == 5


CLEAN: dict[str, Any] = {"near_p": 0.5, "sides_p": 0.5, "p": 0.5, "detectable": 7 / 86}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "none"),
        ({"p": 0.05}, "nearer"),
        ({"p": 0.05, "sides_p": 0.05}, "sides_differ"),
        ({"sides_p": 0.05}, "sides_differ"),
        ({"near_p": 0.05, "sides_p": 0.05, "p": 0.05}, "copies"),
        ({"copies": 1, "sides_p": 0.05}, "copies"),
        ({"near_p": None, "p": 0.05}, "nearer"),
    ],
)
def test_the_gravest_finding_is_the_verdict(changes, verdict):
    """A copy is a copy whatever the sides; a gap between sides that differ says nothing."""
    changed: dict[str, Any] = {**CLEAN, **changes}
    found = dataclasses.replace(memorization(*sets(), permutations=99), **changed)
    assert found.verdict == verdict
    assert found.detected == (verdict == "copies")
    assert found.text.startswith(WORDS[verdict])


def test_words():
    clean = dataclasses.replace(memorization(*sets(), permutations=99), **CLEAN)
    assert clean.text == "no copies found (80% power at 8% copies)"
    leaked = dataclasses.replace(clean, holdout_copies=2)
    assert leaked.text == f"{clean.text}; 2 synthetic images equal hold-out images"


def test_repeated_scans_leave_the_test_as_it_is():
    """Two identical scans of each subject: the same distances from the same subjects."""
    synth, train, holdout = sets(n_train=9, n_holdout=7)
    once = memorization(synth, train, holdout, permutations=99)
    labels = {"train": np.repeat(np.arange(9), 2), "holdout": np.repeat(np.arange(7), 2)}
    twice = memorization(
        synth, *(np.repeat(x, 2, axis=0) for x in (train, holdout)), permutations=99,
        subjects=labels,
    )  # fmt: skip
    np.testing.assert_array_equal(twice.statistic.contrasts, once.statistic.contrasts)
    assert (twice.p, twice.n) == (once.p, once.n) == (once.p, 7)


def test_scans_of_a_subject_are_permuted_whole():
    """Two subjects per side, of 10 scans each: of 6 labellings, one is the observed one.

    Synthetic images near all training scans: their labelling alone gives the largest value, so
    the test's p is 1/6, where scans exchanged one by one would give far less.
    """
    rng = np.random.default_rng(0)
    centres = 10 * np.repeat(np.arange(4), 10)[:, None]
    real = np.hstack([centres, np.zeros((40, 1))]) + rng.normal(size=(40, 2))
    synth = real[:20] + 0.05 * rng.normal(size=(20, 2))
    labels = {role: np.repeat([0, 1], 10) for role in ("train", "holdout")}
    found = memorization(synth, real[:20], real[20:], permutations=4000, subjects=labels)
    assert found.p == pytest.approx(1 / 6, abs=4 * np.sqrt(5 / 36 / 4000))
    assert memorization(synth, real[:20], real[20:], permutations=4000).p < 0.001


def fitted(train, n, rng):
    """Samples of the Gaussian with the mean and the covariance of the training images."""
    return rng.multivariate_normal(train.mean(axis=0), np.cov(train.T), size=n, method="svd")


def share_of(verdict, kind, reps):
    """How often a verdict is given."""
    return np.mean(np.array(verdicts(kind, reps)) == verdict)


def verdicts(kind, reps):
    """The verdicts; `kind` returns synth, train, hold-out, and subjects or None."""
    found = []
    for seed in range(reps):
        synth, train, holdout, subjects = kind(np.random.default_rng(seed))
        assessment = memorization(
            synth, train, holdout, permutations=99, seed=seed, subjects=subjects
        )
        found.append(assessment.verdict)
    return found


def test_a_gaussian_fitted_to_the_training_images_is_nearer_and_no_copy(without_power):
    """86 images in 256 dimensions: all samples lie in the span of the training images."""

    def kind(rng):
        train, holdout = rng.normal(size=(2, 86, 256))
        return fitted(train, 86, rng), train, holdout, None

    assert share_of("nearer", kind, reps=5) == 1


def test_a_hold_out_of_another_site_is_no_copying(without_power):
    """A perfect generator of the training site; hold-out features are 0.4 sd off on each axis."""

    def kind(rng):
        synth, train, holdout = rng.normal(size=(3, 86, 16))
        return synth, train, holdout + 0.4, None

    assert share_of("sides_differ", kind, reps=8) == 1


def test_a_memorizer_is_found_although_the_hold_out_is_of_another_site(without_power):
    """Every image is a training image with noise at half of the distance to its neighbour."""

    def kind(rng):
        _, train, holdout = rng.normal(size=(3, 60, 16))
        return near_copies(rng, train, 60, 0.5), train, holdout + 1.0, None

    assert share_of("copies", kind, reps=5) == 1


def scans(rng, counts, icc, d=16):
    """Several scans of each subject; `icc` is the subjects' share of the variance."""
    of = np.repeat(np.arange(len(counts)), counts)
    between, within = rng.normal(size=(len(counts), d))[of], rng.normal(size=(len(of), d))
    return np.sqrt(icc) * between + np.sqrt(1 - icc) * within, of


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.0, 0.9])
@pytest.mark.parametrize(
    ("train", "holdout"), [([4] * 20, [1] * 20), ([1] * 20, [4] * 20), ([1, 5] * 10, [1, 1, 3] * 7)]
)
def test_numbers_of_scans_are_no_finding(without_power, train, holdout, icc):
    """A perfect generator: "nearer" and "copies" each in 5%, so at most 7 of 30 together.

    More have a probability of 0.006 or less for two tests at 5% each.
    """

    def kind(rng):
        (t, t_of), (h, h_of) = scans(rng, train, icc), scans(rng, holdout, icc)
        return rng.normal(size=(30, 16)), t, h, {"train": t_of, "holdout": h_of}

    assert sum(v in ("nearer", "copies") for v in verdicts(kind, reps=30)) <= 7


def test_copies_of_one_of_five_scans_are_found(without_power):
    """A fifth of the images, each a near copy of a single scan of another subject."""

    def kind(rng):
        (t, t_of), (h, h_of) = scans(rng, [5] * 40, 0.8), scans(rng, [1] * 40, 0.8)
        synth = rng.normal(size=(50, 16))
        synth[:10] = t[::20] + 0.1 * rng.normal(size=(10, 16))
        return synth, t, h, {"train": t_of, "holdout": h_of}

    assert share_of("copies", kind, reps=5) == 1


def test_an_exact_copy_of_one_of_five_scans_is_found(without_power):
    rng = np.random.default_rng(0)
    (t, t_of), (h, h_of) = scans(rng, [5] * 20, 0.0), scans(rng, [1] * 20, 0.0)
    for scan in range(5):
        synth = rng.normal(size=(30, 16))
        synth[3] = t[scan]
        labels = {"train": t_of, "holdout": h_of}
        found = memorization(synth, t, h, permutations=99, subjects=labels)
        assert (found.copies, found.verdict) == (1, "copies")


def test_a_known_site_is_no_difference_between_the_sides(without_power):
    """Sites far apart: nine tenths of training from one, nine tenths of the hold-out from the
    other.
    """
    rng = np.random.default_rng(0)
    of = {"train": np.array([0] * 36 + [1] * 4), "holdout": np.array([0] * 4 + [1] * 36)}
    real = {role: rng.normal(size=(40, 8)) + 3 * site[:, None] for role, site in of.items()}
    distances = feature_distances(rng.normal(size=(40, 8)), real["train"], real["holdout"])
    known = Memorization().assess(distances, permutations=199, seed=0, sites=of)
    unknown = Memorization().assess(distances, permutations=199, seed=0)
    assert unknown.sides_p <= 0.05 < known.sides_p
    assert unknown.p <= 0.05 < known.p
    assert known.gap.low < 0 < unknown.gap.low


def test_the_interval_of_the_gap_inverts_its_test():
    """One-sided p at most 0.025 where the 95% interval lies above zero."""
    for seed in range(12):
        synth, train, holdout = sets(30, 20, 20, 4, seed)
        found = memorization(synth, train, holdout, permutations=999, seed=seed)
        assert found.gap.low < found.value < found.gap.high
        if abs(found.p - 0.025) > 0.005:
            assert (found.gap.low > 0) == (found.p < 0.025)


def test_protocols_without_a_copy_size_keep_their_rule():
    """No test for near copies, all scans of a subject, and the power of the test of the gap."""
    synth, train, holdout = sets(20, 20, 20)
    synth[:] = train + 1e-2
    scans = np.concatenate([train, train[:7] + 0.1])
    labels = {"train": np.concatenate([np.arange(20), np.arange(7)])}
    old = Memorization().assess(
        feature_distances(synth, scans, holdout), permutations=99, seed=0, subjects=labels,
        copy_size=None,
    )  # fmt: skip
    assert (old.near_p, old.verdict, old.close) == (None, "nearer", 0)
    nearest = [cdist(synth, real).min(axis=1) for real in (holdout, scans)]
    np.testing.assert_allclose(old.statistic.contrasts, np.log(nearest[0] / nearest[1]), rtol=1e-6)
    few = memorization(*sets(40, 40, 40, 16), permutations=99)
    distances = feature_distances(*sets(40, 40, 40, 16))
    gap_only = Memorization().assess(distances, permutations=99, seed=0, copy_size=None)
    assert few.detectable is not None
    assert gap_only.detectable is not None
    assert gap_only.detectable >= few.detectable


def test_flipped_copies_are_found_under_flips_alone():
    """A flip is a change of sign of the first feature, which carries a side of its own."""
    synth, train, holdout = sets(40, 40, 40, 16, seed=6)
    flip = np.ones(16)
    flip[0] = -1
    for real in (train, holdout):
        real[:, 0] = 8 + real[:, 0]
    synth[:, 0] = 8 + synth[:, 0]
    copied = near_copies(np.random.default_rng(0), train, 12, 0.2) * flip
    synth = np.concatenate([copied, synth[12:]])
    distances = feature_distances(synth, train, holdout, flipped=synth * flip)
    found = Memorization().assess(distances, permutations=999, seed=0)
    assert not found.detected
    assert found.flipped is not None
    assert found.flipped.detected
    assert found.flipped.level == found.level == 0.025


def test_features_may_be_tensors():
    arrays = sets()
    tensors: list[Any] = [torch.tensor(x) for x in arrays]
    assert memorization(*tensors, permutations=99).p == memorization(*arrays, permutations=99).p


def test_exact_copies_of_volumes_are_found_flipped_or_not(brains):
    synth, train, holdout, mask = brains
    synth[1], synth[2] = train[0], np.flip(train[2], 0)
    found = Memorization().assess(
        voxel_distances(synth, train, holdout, mask), permutations=99, seed=0
    )
    assert found.flipped is not None
    assert (found.copies, found.flipped.copies) == (1, 2)
    assert found.flipped.neighbours[2].train == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s, t, h: memorization(s[:, :2], t, h), "synth 2, train 4, holdout 4"),
        (lambda s, t, h: memorization(s[:1], t, h), "synth needs at least 2 images; found 1"),
        (lambda s, t, h: memorization(s, t, h[:1]), "holdout needs at least 2 images; found 1"),
        (lambda s, t, h: memorization(np.where(s > 1, np.nan, s), t, h), "NaN or infinity"),
        (
            lambda s, t, h: memorization(s, t, np.vstack([h, t[2:4]])),
            "found 2 training images in the hold-out .*hold-out image 8 is training image 2",
        ),
        (
            lambda s, t, h: memorization(s, np.repeat(t, 2, axis=0), h),
            "identical twin",
        ),
        (
            lambda s, t, h: memorization(s, t, h, subjects={"train": np.zeros(8, dtype=int)}),
            "train needs images of at least 2 subjects",
        ),
        (
            lambda s, t, h: memorization(s, t, h, subjects={"real": np.arange(8)}),
            "no role 'real'",
        ),
        (lambda s, t, h: memorization(s, t, h, permutations=18), "at least 19 permutations"),
        (
            lambda s, t, h: Memorization().assess(
                feature_distances(s, t, h, s), permutations=38, seed=0
            ),
            "at least 39 permutations",
        ),
        (lambda s, t, h: feature_distances(s, t, h, s[:-1]), "flipped_train must have 9 rows"),
        (
            lambda s, t, h: dataclasses.replace(feature_distances(s, t, h), flipped_train=s),
            "found one side",
        ),
        (
            lambda s, t, h: dataclasses.replace(
                feature_distances(s, t, h), within_train=-cdist(t, t)
            ),
            "within_train must be finite and not negative",
        ),
    ],
    ids=[
        "dimensions", "one-synth", "one-holdout", "nan", "shared-images", "twins", "one-subject",
        "unknown-role", "permutations", "permutations-flipped", "flipped-rows", "one-flip",
        "negative",
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(MetricError, match=words):
        call(*sets())
