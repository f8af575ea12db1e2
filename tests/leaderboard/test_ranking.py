from __future__ import annotations

import json

import numpy as np
import pytest

from synthbench.errors import ScorecardError
from synthbench.leaderboard.page import render_details
from synthbench.leaderboard.ranking import Comparisons, MetricRanking, compare
from synthbench.metrics.inference.comparison import rank
from synthbench.metrics.inference.resampling import bootstrap_weights
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing
from tests.boards import N, features, make_board

SHIFTS = {"near": 0.0, "twin": 0.05, "far": 3.0}


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return make_board(tmp_path_factory.mktemp("boards") / "b", SHIFTS)


@pytest.fixture(scope="module")
def found(board):
    folder, source = board
    return compare(folder, source=source)


def kernel(x, y, width):
    return np.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / (2 * width**2))


def mean_off_diagonal(k, w, v):
    """Sum over pairs of distinct originals, over the same sum of weights alone."""
    off = 1 - np.eye(len(k))
    return (w @ (k * off) @ v) / (w @ off @ v)


def direct(x, y, width, w, v):
    """MMD² and the first-order terms of its images, by sums written out."""
    xx, yy, xy = kernel(x, x, width), kernel(y, y, width), kernel(x, y, width)
    value = mean_off_diagonal(xx, w, w) + mean_off_diagonal(yy, v, v) - 2 * (
        w @ xy @ v
    ) / (w.sum() * v.sum())  # fmt: skip
    np.fill_diagonal(xx, 0)
    np.fill_diagonal(yy, 0)
    n, m = w.sum(), v.sum()
    g = 2 * ((xx @ w) / (n - w) - (xy @ v) / m)
    h = 2 * ((yy @ v) / (m - v) - (xy.T @ w) / n)
    return value, g, h


def variance_of_mean(values, weights):
    """The variance of a weighted mean of n values: sum w (v - mean)^2 / n / (n - 1)."""
    n = weights.sum()
    mean = (weights * values).sum() / n
    return (weights * (values - mean) ** 2).sum() / (n - 1) / n


def test_pairs_are_those_of_a_bootstrap_written_out(board, found):
    """MMD² of three entries: differences, max-t, adjusted p and rank intervals, by direct sums.

    t = d / sqrt(V) with V = var of (g_B - g_A) on the shared real images, plus var h of each
    synthetic set (STATISTICS of a paired difference). t* = (d* - d)/sqrt(V*); the adjusted p of a
    pair is (1 + #{max over pairs |t*| >= |t|})/(B + 1), and the simultaneous interval is
    d -+ c sqrt(V), with c the 0.95 (B + 1)-th smallest maximum.
    """
    folder, source = board
    protocol = Scorecard.load(folder / "entries" / "near.json").protocol
    width = protocol.settings["mmd2 | first"]["bandwidth"]
    x = features(0)["first"]
    sets = {name: features(10 + i, s)["first"] for i, (name, s) in enumerate(SHIFTS.items())}
    index = {"real": np.arange(N), **{f"synth of {name}": np.arange(N) for name in sets}}
    weights = bootstrap_weights(index, protocol.resamples, np.random.default_rng(protocol.seed))
    rows = {role: np.vstack([np.ones(N), w]) for role, w in weights.items()}
    terms = {
        name: [direct(x, y, width, rows["real"][b], rows[f"synth of {name}"][b])
               for b in range(protocol.resamples + 1)]
        for name, y in sets.items()
    }  # fmt: skip
    ranking = found.ranking("mmd2", "first")
    differences, sds = {}, {}
    for pair in ranking.pairs:
        a, b = terms[pair.first], terms[pair.second]
        differences[pair] = np.array([q[0] - p[0] for p, q in zip(a, b, strict=True)])
        sds[pair] = np.sqrt(
            [
                variance_of_mean(q[1] - p[1], rows["real"][i])
                + variance_of_mean(p[2], rows[f"synth of {pair.first}"][i])
                + variance_of_mean(q[2], rows[f"synth of {pair.second}"][i])
                for i, (p, q) in enumerate(zip(a, b, strict=True))
            ]
        )
    resampled = np.stack(
        [(differences[p][1:] - differences[p][0]) / sds[p][1:] for p in ranking.pairs]
    )
    sample_data = {
        name: source(Scorecard.load(folder / "entries" / f"{name}.json")) for name in sets
    }
    alone = rank(
        {name: kept.statistic("mmd2 | first") for name, kept in sample_data.items()},
        direction="lower", resamples=protocol.resamples, seed=protocol.seed,
    )  # fmt: skip
    np.testing.assert_allclose(alone.resampled_t, resampled.T, rtol=1e-6)
    largest = np.sort(np.abs(resampled).max(axis=0))
    critical = largest[int(np.ceil((protocol.resamples + 1) * 0.95)) - 1]
    better = dict.fromkeys(sets, 0)
    worse = dict.fromkeys(sets, 0)
    for pair in ranking.pairs:
        d, se = differences[pair][0], sds[pair][0]
        assert pair.difference == pytest.approx(d, rel=1e-9)
        assert pair.se == pytest.approx(se, rel=1e-9)
        assert (pair.low, pair.high) == pytest.approx((d - critical * se, d + critical * se))
        p = (1 + (largest >= abs(d / se)).sum()) / (protocol.resamples + 1)
        assert pair.p == pytest.approx(p)
        if abs(d / se) > critical:
            better[pair.second] += 1
            worse[pair.first] += 1
    for place in ranking.places:
        assert place.rank_low == 1 + better[place.entry]
        assert place.rank_high == len(sets) - worse[place.entry]


def test_near_entries_tie_and_a_far_one_is_last(found):
    """A shift of 3 sd in one of three features is told from none; one of 0.05 is not."""
    ranking = found.ranking("mmd2")
    assert set(ranking.ties("near", found.level)) == {"twin"}
    assert set(ranking.ties("twin", found.level)) == {"near"}
    assert ranking.ties("far", found.level) == ()
    far = ranking.places[-1]
    assert (far.entry, far.rank_low, far.rank_high) == ("far", 3, 3)
    assert sum(place.best for place in ranking.places) == pytest.approx(1)


def test_the_primary_metric_comes_first_and_every_metric_is_there(found):
    keys = [(r.metric, r.extractor) for r in found.metrics]
    assert keys[:2] == [("mmd2", "first"), ("mmd2", "second")]
    assert len(keys) == 6
    assert {r.method for r in found.metrics if r.metric == "fid"} == {"jackknife"}
    assert {r.method for r in found.metrics if r.metric == "kid"} == {"studentized"}


def test_p_over_all_metrics_takes_the_largest_t_over_metrics_and_pairs(board, found):
    """p_all = (1 + #{max over metrics and pairs |t*| >= |t|})/(B + 1), the resamples shared.

    t* is that of each metric ranked by itself, which is written out in the first test. It cannot
    be below the p over one metric's pairs.
    """
    folder, source = board
    cards = {name: Scorecard.load(folder / "entries" / f"{name}.json") for name in SHIFTS}
    columns = []
    for ranking in found.metrics:
        key = f"{ranking.metric} | {ranking.extractor}"
        alone = rank(
            {name: source(card).statistic(key) for name, card in cards.items()},
            direction="lower", resamples=200, seed=3,
        )  # fmt: skip
        columns.append(alone.resampled_t)
    largest = np.abs(np.hstack(columns)).max(axis=1)
    for ranking in found.metrics:
        for pair in ranking.pairs:
            beyond = (largest >= abs(pair.difference / pair.se)).sum()
            assert pair.p_all == pytest.approx((1 + beyond) / 201)
            assert pair.p_all >= pair.p


def test_comparisons_survive_their_file_and_name_what_is_stale(board, found):
    folder, _ = board
    cards = {name: Scorecard.load(folder / "entries" / f"{name}.json") for name in SHIFTS}
    found.save(folder)
    assert Comparisons.find(folder) == found
    assert found.stale(folder, cards, found.protocol_hash) == []
    assert found.stale(folder, cards, "another")[0].startswith("the protocol is another")
    file = folder / "entries" / "far.json"
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace('"far"', '"afar"'), encoding="utf-8")
    (folder / "entries" / "new.json").write_text(before, encoding="utf-8")
    now = {**cards, "new": cards["far"]}
    del now["near"]
    # An entry that came later changes nothing of what was compared.
    assert found.stale(folder, now, found.protocol_hash) == ["near is gone", "far changed"]
    file.write_text(before, encoding="utf-8")
    (folder / "entries" / "new.json").unlink()
    (folder / "comparisons.json").write_text(
        '{"schema_version": 1, "benchmark": 3}', encoding="utf-8"
    )
    with pytest.raises(ScorecardError, match=r"not comparisons of schema 1: benchmark"):
        Comparisons.find(folder)
    (folder / "comparisons.json").unlink()
    assert Comparisons.find(folder) is None


def test_no_row_of_an_image_is_in_the_file(found):
    """The longest list of numbers is that of the pairs: nothing is as long as a set."""
    text = json.loads(found.model_dump_json())

    def longest(value):
        if isinstance(value, dict):
            return max((longest(v) for v in value.values()), default=0)
        if isinstance(value, list):
            return max([len(value), *(longest(v) for v in value)])
        return 0

    assert longest(text) < N


def test_images_that_were_not_scored_here_are_named(board):
    folder, source = board
    with pytest.raises(ScorecardError, match=r"far\.json were not scored on this machine"):
        compare(folder, source=lambda card: None if card.name == "far" else source(card))


def test_one_entry_is_no_ranking(tmp_path):
    folder, source = make_board(tmp_path / "b", {"alone": 0.0})
    with pytest.raises(ScorecardError, match="at least 2 comparable entries"):
        compare(folder, source=source)


def test_other_images_than_those_of_the_entry_are_refused(board):
    folder, source = board
    cards = {"far": Scorecard.load(folder / "entries" / "near.json")}
    with pytest.raises(ScorecardError, match="the entry states MMD"):
        compare(folder, source=lambda card: source(cards.get(card.name, card)))


def test_other_real_rows_are_refused(board, tmp_path):
    """An entry whose real features moved by a hundredth shares no resample with the others."""
    from tests.boards import make_card, make_materials

    folder, source = make_board(tmp_path / "b", SHIFTS)
    near = source(Scorecard.load(folder / "entries" / "near.json"))
    moved = {name: 1.01 * rows for name, rows in features(0).items()}
    other = make_materials(near.protocol, moved, features(11), "m" * 64)
    make_card("twin", other).save(folder / "entries" / "twin.json")
    with pytest.raises(ScorecardError, match="computed from different rows"):
        compare(folder, source=lambda card: other if card.name == "twin" else source(card))


def test_an_entry_without_a_value_is_left_out_of_that_metric(tmp_path):
    folder, source = make_board(tmp_path / "b", SHIFTS)
    file = folder / "entries" / "far.json"
    card = Scorecard.load(file)
    values = tuple(
        v.model_copy(update={"value": None, "missing": Missing(reason="weights", text="x")})
        if v.metric == "fid"
        else v
        for v in card.values
    )
    card.model_copy(update={"values": values}).save(file)
    found = compare(folder, source=source)
    ranking = found.ranking("fid")
    assert ranking is not None
    assert found.overall is not None
    assert ranking.left_out == ("far",)
    assert {place.entry for place in ranking.places} == {"near", "twin"}
    # The others keep the metric in their mean rank; the entry without it has no place there.
    keys = tuple(key for key in found.overall.metrics if "fid" in key)
    assert len(keys) == 2  # by two extractors
    assert found.overall.incomplete == {"far": keys}
    assert {place.entry for place in found.overall.places} == {"near", "twin"}
    found.save(folder)
    (said,) = (line for line in render_details(folder).splitlines() if "has no place here" in line)
    assert "far has no place here, because it has no value of FID" in said


def test_a_metric_that_one_entry_alone_has_is_not_ranked_and_says_so(tmp_path):
    folder, source = make_board(tmp_path / "b", {"near": 0.0, "far": 3.0})
    file = folder / "entries" / "far.json"
    card = Scorecard.load(file)
    values = tuple(v for v in card.values if (v.metric, v.extractor) != ("kid", "second"))
    card.model_copy(update={"values": values}).save(file)
    found = compare(folder, source=source)
    assert [(u.metric, u.extractor, u.why) for u in found.unranked] == [
        ("kid", "second", "1 of 2 entries have a value of it")
    ]


def test_ties_follow_the_adjusted_p():
    pair = {"first": "a", "second": "b", "difference": 1.0, "se": 1.0, "low": 0.0, "high": 2.0}
    places = [{"entry": e, "value": 0.0, "rank_low": 1, "rank_high": 2, "best": 0.5} for e in "ab"]
    for p, ties in ((0.05, ()), (0.051, ("b",))):
        ranking = MetricRanking.model_validate(
            {"metric": "fid", "extractor": None, "label": "FID", "direction": "lower",
             "method": "jackknife", "excluded": 0, "places": places,
             "pairs": [{**pair, "p": p, "p_all": None}]}
        )  # fmt: skip
        assert ranking.ties("a", 0.95) == ties
