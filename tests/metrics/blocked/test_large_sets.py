"""Large sets: each statistic in blocks equals the one that holds its matrices."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from synthbench import registry
from synthbench.errors import MetricError
from synthbench.metrics import kernels, mmd, mmd_permutation, prdc, seams, spectrum
from synthbench.metrics.blocked import near
from synthbench.metrics.fid import FID, GramFrechet, MomentFrechet
from synthbench.metrics.inference import contracts, floors, intervals, resampling, tiles
from synthbench.metrics.inference.subgroup import subgroup
from synthbench.metrics.metric import ones
from synthbench.metrics.mmd import KID, MMD2
from synthbench.metrics.prdc import Coverage, Density, Precision, Recall
from synthbench.metrics.spectrum import Spectrum

# The package exports a function of the module's name.
FID_MODULE = sys.modules[FID.__module__]
BALLS = [Precision, Recall, Density, Coverage]
SCANS = np.unique(np.random.default_rng(5).integers(0, 45, 70), return_inverse=True)[1]
GROUPINGS = [None, {"real": SCANS}, {"synth": SCANS[:60]}]


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch):
    """Blocks of a few rows, as in sets of many thousand images."""
    monkeypatch.setattr(tiles, "TILE_NUMBERS", 700)
    monkeypatch.setattr(kernels, "BLOCK_NUMBERS", 700)
    monkeypatch.setattr(near, "ROWS", 16)
    monkeypatch.setattr(near, "COLUMNS", 32)


def sets(n=70, m=60, d=3, seed=0):
    """Two sets; some synthetic images are copies of real ones, and two real ones are equal."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), 0.8 * rng.normal(size=(m, d)) + 0.3
    x[10] = x[11]
    y[:4] = x[:4]
    return x, y


def both(metric, subjects, monkeypatch, **settings):
    """The statistic as it is in a small and in a large set."""
    module = mmd if isinstance(metric, (MMD2, KID)) else prdc
    small = metric.prepare(*sets(), subjects=subjects, **settings)
    monkeypatch.setattr(module, "LARGE_SET", 10)
    large = metric.prepare(*sets(), subjects=subjects, **settings)
    assert isinstance(large, contracts.Blocked)
    assert not isinstance(small, contracts.Blocked)
    return small, large


def weights_of(statistic):
    """Resamples, halves, few images, and weights that leave no pair."""
    weights = resampling.bootstrap_weights(statistic.subjects, 12, np.random.default_rng(0))
    for role, w in weights.items():
        places = np.arange(w.shape[1])
        w[0] = 1.0
        w[1] = places % 2 == (role == "real")
        w[2] = places < 12
        w[3] = statistic.subjects[role] == 2
    return weights


@pytest.mark.parametrize("subjects", GROUPINGS, ids=["images", "real scans", "synth scans"])
@pytest.mark.parametrize("metric", [MMD2(), KID()], ids=lambda metric: metric.name)
def test_kernel_sums_are_those_of_the_matrices(metric, subjects, monkeypatch):
    small, large = both(metric, subjects, monkeypatch)
    weights = weights_of(small)
    for method in ("value", "variance", "magnitude"):
        expected = getattr(small, method)(weights)
        found = getattr(large, method)(weights)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
    for role, terms in small.contributions(weights).items():
        found = large.contributions(weights)[role]
        np.testing.assert_allclose(found, terms, rtol=1e-10, atol=1e-13)
    assert large.null_variance() == pytest.approx(small.null_variance(), rel=1e-11)
    if isinstance(metric, MMD2):
        assert large.saturation == pytest.approx(small.saturation, rel=1e-11)


@pytest.mark.parametrize("metric", [MMD2(), KID()], ids=lambda metric: metric.name)
@pytest.mark.parametrize("method", ["studentized", "asinh", "percentile", "jackknife"])
def test_intervals_are_those_of_the_matrices(metric, method, monkeypatch):
    small, large = both(metric, None, monkeypatch)
    expected, found = (
        intervals.interval(one, method, resamples=100, seed=3) for one in (small, large)
    )
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-9)


@pytest.mark.parametrize("subjects", GROUPINGS, ids=["images", "real scans", "synth scans"])
@pytest.mark.parametrize("metric", BALLS, ids=lambda metric: metric.name)
def test_balls_are_those_of_the_matrices_exactly(metric, subjects, monkeypatch):
    """Copies have equal distances: a difference of rounding would move the share."""
    monkeypatch.setattr(near, "CANDIDATES", 12)
    small, large = both(metric(), subjects, monkeypatch)
    weights = weights_of(small)
    np.testing.assert_allclose(large.value(weights), small.value(weights), rtol=1e-13)
    assert (large.bounds, large.independent) == (small.bounds, small.independent)
    expected, found = (intervals.interval(one, "score", seed=0) for one in (small, large))
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-12)


def test_balls_far_from_the_origin_are_exact_too(monkeypatch):
    """Inner products of such rows lose ten digits: the candidates must allow for it."""
    x, y = sets()
    small = Density().prepare(x + 1e5, y + 1e5)
    monkeypatch.setattr(prdc, "LARGE_SET", 10)
    large = Density().prepare(x + 1e5, y + 1e5)
    weights = weights_of(small)
    np.testing.assert_allclose(large.value(weights), small.value(weights), rtol=1e-13)


@pytest.mark.parametrize("size", [2.0**-90, 2.0**90])
@pytest.mark.parametrize("metric", BALLS, ids=lambda metric: metric.name)
def test_balls_of_large_and_small_features_are_exact_too(metric, size, monkeypatch):
    """Squares of such features are infinite or zero in float32, which chooses the candidates."""
    monkeypatch.setattr(near, "CANDIDATES", 12)
    x, y = sets()
    expected = metric().prepare(x, y)
    monkeypatch.setattr(prdc, "LARGE_SET", 10)
    large = metric().prepare(size * x, size * y)
    monkeypatch.setattr(type(large), "_every_neighbour", None)  # the lists are enough
    weights = ones(expected)
    np.testing.assert_allclose(large.value(weights), expected.value(weights), rtol=1e-13)


@pytest.mark.parametrize("subjects", GROUPINGS, ids=["images", "real scans", "synth scans"])
@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_the_permutation_test_is_that_of_the_matrix(subjects, shift, monkeypatch):
    x, y = sets()
    how = {"permutations": 99, "seed": 3, "subjects": subjects}
    expected = mmd_permutation.permutation_p(x, y - 0.3 + shift, 2.0, **how)
    monkeypatch.setattr(mmd_permutation, "LARGE_SET", 10)
    assert mmd_permutation.permutation_p(x, y - 0.3 + shift, 2.0, **how) == expected


@pytest.mark.parametrize("scans", [None, SCANS])
@pytest.mark.parametrize("n", [69, 70])
def test_the_median_bandwidth_is_exact(scans, n, monkeypatch):
    x, _ = sets()
    scans = None if scans is None else scans[:n]
    expected = kernels.median_bandwidth(x[:n], scans)
    monkeypatch.setattr(kernels, "LARGE_SET", 10)
    assert kernels.median_bandwidth(x[:n], scans) == expected
    # The first interval around the median misses it: a wider one is taken.
    monkeypatch.setattr(kernels, "SAMPLE_MARGIN", 1e-9)
    assert kernels.median_bandwidth(x[:n], scans) == expected


def test_memory_decides_the_rows_of_a_pass_and_no_number(monkeypatch):
    _, large = both(MMD2(), None, monkeypatch)
    assert resampling.rows_at_once(large) % resampling.GROUP_ROWS == 0
    found = []
    for size in ("1GiB", str(resampling.SHARE_OF_MEMORY * 8 * large.numbers_per_row * 70)):
        monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", size)
        found.append(intervals.interval(large, "studentized", resamples=200, seed=1))
    assert resampling.rows_at_once(large) == 64
    assert found[0] == found[1]


def test_a_set_above_the_stated_size_is_large():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(resampling.LARGE_SET + 1, 2)), rng.normal(size=(30, 2))
    assert isinstance(KID().prepare(x, y), contracts.Blocked)
    assert isinstance(KID().prepare(y, x), contracts.Blocked)
    assert not isinstance(KID().prepare(x[1:], y), contracts.Blocked)


def test_a_large_set_leaves_out_groups_of_subjects():
    """All images of a subject are in one group, and groups differ by one subject at most."""
    subjects = 4321
    index = np.repeat(np.arange(subjects), 2)
    units = resampling.jackknife_units(index)
    assert (units[::2] == units[1::2]).all()
    sizes = np.bincount(units[::2])
    assert len(sizes) == resampling.JACKKNIFE_GROUPS
    assert set(sizes) == {subjects // 200, subjects // 200 + 1}
    few = np.arange(resampling.LARGE_SET)
    assert (resampling.jackknife_units(few) == few).all()


def test_the_jackknife_of_groups_gives_the_standard_error_of_a_mean(monkeypatch):
    """200 groups: within 4 standard deviations, 4 / sqrt(2 * 199) = 20%, of s / sqrt(n)."""
    z = np.random.default_rng(1).normal(size=6000)
    index = {"real": np.arange(len(z)), "synth": np.arange(2)}

    class Mean:
        subjects = index

        def value(self, weights):
            return (weights["real"] @ z) / weights["real"].sum(axis=1)

    expected = z.std(ddof=1) / np.sqrt(len(z))
    assert intervals.jackknife_se(Mean()) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("metric", BALLS, ids=lambda metric: metric.name)
def test_the_jackknife_of_groups_agrees_with_that_of_images(metric, monkeypatch):
    """Four standard deviations of both: about 0.2 for 200 groups, and the images' own."""
    rng = np.random.default_rng(2)
    statistic = metric().prepare(rng.normal(size=(300, 3)), rng.normal(size=(280, 3)))
    of_images = intervals.central_jackknife_variance(statistic)
    monkeypatch.setattr(resampling, "LARGE_SET", 100)
    monkeypatch.setattr(resampling, "JACKKNIFE_GROUPS", 60)
    of_groups = intervals.central_jackknife_variance(statistic)
    assert np.sqrt(of_groups / of_images) == pytest.approx(1, abs=0.45)


@pytest.mark.parametrize(("m", "d", "digits"), [(60, 3, 1e-10), (60, 20, 1e-10), (9, 20, 1e-6)])
def test_the_frechet_distance_of_moments_is_that_of_inner_products(m, d, digits, monkeypatch):
    """With fewer images than features a covariance is singular, and its root loses digits."""
    x, y = sets(m=m, d=d)
    origin = (x.sum(axis=0) + y.sum(axis=0)) / (len(x) + len(y))
    a, b = x - origin, y - origin
    index = {"real": np.arange(len(x)), "synth": np.arange(len(y))}
    small = GramFrechet(a @ a.T, b @ b.T, a @ b.T, index)
    monkeypatch.setattr(FID_MODULE, "LARGE_SET", 8)
    monkeypatch.setattr(kernels, "BLOCK_NUMBERS", 100)
    large = FID().prepare(x.astype(np.float64), y)
    assert isinstance(large, MomentFrechet)
    weights = resampling.bootstrap_weights(index, 5, np.random.default_rng(0))
    np.testing.assert_allclose(large.value(weights), small.value(weights), rtol=digits)
    np.testing.assert_allclose(large.magnitude(weights), small.magnitude(weights), rtol=1e-12)
    if d <= m:
        for role, g in small.influence().items():
            np.testing.assert_allclose(large.influence()[role], g, rtol=1e-7, atol=1e-9)


def test_features_that_were_given_stay_as_they_are(monkeypatch):
    """A large set's float64 copy is moved in place; the caller's own matrix is not."""
    monkeypatch.setattr(FID_MODULE, "LARGE_SET", 8)
    monkeypatch.setattr(mmd, "LARGE_SET", 8)
    for kind in (np.float32, np.float64):
        x, y = (rows.astype(kind) for rows in sets())
        before = x.copy(), y.copy()
        for metric in (FID(), MMD2(), KID()):
            different, same = metric.prepare(x, y), metric.prepare(x, x)
            assert same.real is same.synth
            assert different.real is not different.synth
        assert (x == before[0]).all()
        assert (y == before[1]).all()


@pytest.mark.parametrize("subjects", GROUPINGS, ids=["images", "real scans", "synth scans"])
def test_distances_between_mean_rows_are_those_of_the_matrices(subjects, monkeypatch):
    """One image per subject has no pairs to leave out; several have."""
    rng = np.random.default_rng(0)
    x, y = 50 + rng.normal(size=(70, 16)), 50.3 + rng.normal(size=(60, 16))
    small = Spectrum().prepare(x, y, subjects=subjects)
    monkeypatch.setattr(spectrum, "LARGE_SET", 8)
    monkeypatch.setattr(seams, "LARGE_SET", 8)
    large = Spectrum().prepare(x, y, subjects=subjects)
    weights = weights_of(small)
    pairs = [
        (large, small),
        *((large.parts()[k].statistic, p.statistic) for k, p in small.parts().items()),
    ]
    for found, expected in pairs:
        for method in ("value", "variance", "magnitude"):
            np.testing.assert_allclose(
                getattr(found, method)(weights), getattr(expected, method)(weights),
                rtol=1e-9, atol=1e-12,
            )  # fmt: skip
    assert large.null_variance() == pytest.approx(small.null_variance(), rel=1e-9)
    one, other = (intervals.interval(s, "studentized", resamples=50, seed=0) for s in pairs[0])
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [MMD2(), KID(), FID(), Coverage()], ids=lambda m: m.name)
def test_a_large_set_takes_less_than_one_matrix_over_its_pairs(metric, monkeypatch):
    """Value, interval, floor and test of 900 images take less than 8 n^2 bytes = 6.5 MB.

    The matrices of a small set would be three.
    """
    for module in (mmd, mmd_permutation, prdc, kernels, resampling, FID_MODULE):
        monkeypatch.setattr(module, "LARGE_SET", 800)
    monkeypatch.setattr(kernels, "BLOCK_NUMBERS", 2**15)
    monkeypatch.setattr(tiles, "TILE_NUMBERS", 2**14)
    for name, size in (("ROWS", 64), ("COLUMNS", 256), ("CANDIDATES", 16)):
        monkeypatch.setattr(near, name, size)
    monkeypatch.setattr(resampling, "JACKKNIFE_GROUPS", 20)
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "8MiB")
    n, rng = 900, np.random.default_rng(0)
    x, y = (rng.normal(size=(n, 4)).astype(np.float32) for _ in range(2))
    tracemalloc.start()
    try:
        settings = metric.freeze(x, None)
        statistic = metric.prepare(x, y, **settings)
        intervals.interval(statistic, metric.interval, resamples=80, seed=0)
        metric.p_value(x, y, permutations=20, seed=0, **settings)
        floors.floor(metric.prepare(x, x, **settings), splits=10, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * n**2


@pytest.mark.parametrize("metric", [MMD2(), KID(), Coverage()], ids=lambda m: m.name)
def test_wide_features_are_not_copied(metric, monkeypatch):
    """All steps of 600 images of 2,000 features a set take less than one more set."""
    for module in (mmd, mmd_permutation, prdc, kernels, resampling, FID_MODULE):
        monkeypatch.setattr(module, "LARGE_SET", 500)
    monkeypatch.setattr(kernels, "BLOCK_NUMBERS", 2**15)
    monkeypatch.setattr(tiles, "TILE_NUMBERS", 2**10)
    for name, size in (("ROWS", 64), ("COLUMNS", 64), ("CANDIDATES", 16), ("SAMPLED_ROWS", 32)):
        monkeypatch.setattr(near, name, size)
    monkeypatch.setattr(resampling, "JACKKNIFE_GROUPS", 20)
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(600, 2000)).astype(np.float32) for _ in range(2))
    tracemalloc.start()
    try:
        settings = metric.freeze(x, None)
        statistic = metric.prepare(x, y, **settings)
        intervals.interval(statistic, metric.large_interval or metric.interval, resamples=9, seed=0)
        metric.p_value(x, y, permutations=20, seed=0, **settings)
        FID_MODULE.effective_rank(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes


@pytest.mark.parametrize("metric", [KID(), Coverage()], ids=lambda metric: metric.name)
def test_a_subgroup_of_a_large_set_is_that_of_the_matrices(metric, monkeypatch):
    small, large = both(metric, None, monkeypatch)
    inside = {"real": np.arange(70) % 3 > 0}
    expected, found = (subgroup(statistic, inside) for statistic in (small, large))
    assert isinstance(found, contracts.Blocked)
    weights = weights_of(expected)
    np.testing.assert_allclose(found.value(weights), expected.value(weights), rtol=1e-9)
    if isinstance(metric, KID):
        one, other = (
            intervals.interval(part, "studentized", resamples=50, seed=0)
            for part in (expected, found)
        )
        assert (other.low, other.high) == pytest.approx((one.low, one.high), rel=1e-9)


@pytest.mark.parametrize("name", ["clipped_coverage", "rke", "fld", "fid"])
def test_matrices_that_do_not_fit_are_refused(name, monkeypatch):
    """Those of FID are over pairs of features, those of the others over pairs of images."""
    monkeypatch.setattr(FID_MODULE, "LARGE_SET", 100)
    metric = registry.load("metrics", name)()
    x = np.random.default_rng(0).normal(size=(200, 60 if name == "fid" else 3))
    settings = metric.freeze(x, None)
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "300KiB")
    with pytest.raises(MetricError, match="--max-memory") as refused:
        resampling.estimate(metric.prepare(x, x + 0.1, **settings))
    assert refused.value.code == "too much memory"


def test_float32_features_give_the_numbers_of_their_float64_copies(monkeypatch):
    """They are widened block by block, so that no copy of all of them is needed."""
    x, y = (rows.astype(np.float32) for rows in sets())
    wide = x.astype(np.float64), y.astype(np.float64)
    for module in (mmd, prdc, kernels, mmd_permutation, FID_MODULE):
        monkeypatch.setattr(module, "LARGE_SET", 10)
    for metric in (MMD2(), KID(), FID(), *(one() for one in BALLS)):
        settings = metric.freeze(x, None)
        assert settings == metric.freeze(wide[0], None)
        narrow, whole = metric.prepare(x, y, **settings), metric.prepare(*wide, **settings)
        weights = weights_of(whole)
        np.testing.assert_array_equal(narrow.value(weights), whole.value(weights))
        how = {"permutations": 20, "seed": 0, **settings}
        assert metric.p_value(x, y, **how) == metric.p_value(*wide, **how)
    assert FID_MODULE.effective_rank(x) == FID_MODULE.effective_rank(wide[0])


@pytest.mark.parametrize("subjects", [np.arange(5), np.array([3, 0, 3, 1, 2])])
def test_pooled_images_are_those_of_the_joined_sets(subjects):
    x, y = np.arange(12.0).reshape(6, 2), np.arange(12.0, 20.0).reshape(4, 2)
    chosen, origin = np.array([8, 0, 5, 3, 9]), np.array([0.5, -1])
    joined = tiles.Images(np.concatenate([x, y])[chosen], subjects, origin)
    pooled = tiles.PooledImages(x, y, chosen, subjects, origin)
    assert len(pooled) == len(joined) == 5
    for rows in (slice(1, 4), slice(3, 5), slice(0, 5)):
        np.testing.assert_array_equal(pooled.block(rows), joined.block(rows))


def test_the_rank_of_a_large_set_is_that_of_the_whole_matrix(monkeypatch):
    x, _ = sets()
    expected = FID_MODULE.effective_rank(x)
    monkeypatch.setattr(FID_MODULE, "LARGE_SET", 10)
    for numbers in (2**22, 3 * x.shape[1], 1):  # one part, two, and one for each feature
        monkeypatch.setattr(kernels, "BLOCK_NUMBERS", numbers)
        assert FID_MODULE.effective_rank(x) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("subjects", [None, SCANS], ids=["images", "scans"])
@pytest.mark.parametrize("metric", [MMD2, KID, FID, *BALLS], ids=lambda metric: metric.name)
def test_the_floor_of_one_set_is_that_of_the_matrices(metric, subjects, monkeypatch):
    """One triangle of kernels, and one set of lists, serve both roles."""
    x, _ = sets()
    metric, both = metric(), None if subjects is None else {"real": subjects, "synth": subjects}
    settings = metric.freeze(x, subjects)
    small = metric.prepare(x, x, subjects=both, **settings)
    expected = floors.floor(small, splits=15, seed=2)
    for module in (mmd, prdc, FID_MODULE):
        monkeypatch.setattr(module, "LARGE_SET", 10)
    large = metric.prepare(x, x, subjects=both, **settings)
    found = floors.floor(large, splits=15, seed=2)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (expected.mean, expected.low, expected.high), rel=1e-8, abs=1e-12
    )
    if isinstance(metric, (MMD2, KID)):
        assert large.null_variance() == pytest.approx(small.null_variance(), rel=1e-10)


def test_one_pass_serves_the_value_the_interval_and_the_subsamples(monkeypatch):
    small, large = both(KID(), {"real": SCANS}, monkeypatch)
    passes = []
    compute = type(large)._whole_pass

    def counted(self, *arguments, **options):
        passes.append(1)
        return compute(self, *arguments, **options)

    monkeypatch.setattr(type(large), "_whole_pass", counted)
    n = int(SCANS.max()) // 2
    large.ahead(floors.matched_weights(large, n, 12, 3))
    for one in (small, large):
        one_floor = floors.matched(one, n, repeats=12, seed=3)
        interval = intervals.interval(one, "asinh", seed=0)
        values = [
            one_floor.mean, one_floor.low, interval.low, interval.high, resampling.estimate(one),
            resampling.magnitude(one),
        ]  # fmt: skip
        if one is small:
            expected = values
    assert values == pytest.approx(expected, rel=1e-9)
    assert len(passes) == 1


@pytest.mark.parametrize("metric", BALLS, ids=lambda metric: metric.name)
def test_balls_that_hold_too_many_images_for_lists_are_exact(metric, monkeypatch):
    """A shrunken set lies in all balls: its pairs would not fit into memory."""
    monkeypatch.setattr(near, "CANDIDATES", 12)
    for reaches in ((), (6,)):
        monkeypatch.setattr(near, "REACHES", reaches)
        near.forget()
        small, large = both(metric(), {"real": SCANS}, monkeypatch)
        assert (large._pairs is None) == (not reaches)
        weights = weights_of(small)
        np.testing.assert_allclose(large.value(weights), small.value(weights), rtol=1e-13)
        monkeypatch.undo()


@pytest.mark.parametrize("metric", BALLS, ids=lambda metric: metric.name)
def test_more_copies_than_a_list_holds_are_exact(metric, monkeypatch):
    x, y = sets()
    x[20:50] = x[20]
    y[5:25] = x[20]
    small = metric().prepare(x, y)
    monkeypatch.setattr(near, "CANDIDATES", 8)
    monkeypatch.setattr(prdc, "LARGE_SET", 10)
    large = metric().prepare(x, y)
    weights = weights_of(small)
    np.testing.assert_allclose(large.value(weights), small.value(weights), rtol=1e-13)
    assert large.independent == small.independent


def test_lists_of_an_earlier_metric_are_used_again(monkeypatch):
    monkeypatch.setattr(prdc, "LARGE_SET", 10)
    near.forget()
    x, y = sets()
    resampling.estimate(Precision().prepare(x, y))
    monkeypatch.setattr(near, "_near_lists", None)  # nothing is computed
    monkeypatch.setattr(near, "_pairs_in_reach", None)
    for metric in (Coverage, Density, Recall):
        resampling.estimate(metric().prepare(x, y))
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "1KiB")
    near._kept(("one",), lambda: None)
    assert len(near._recent) == 1  # they are forgotten where memory is short
