"""What readers saw, in words; and metrics beside it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from synthbench.records.readers import Estimated
from synthbench.report.html import render_report
from synthbench.report.readers import (
    correlation_note,
    correlation_table,
    correlations,
    result_sentences,
    verdict_cell,
)
from tests.boards import features, make_card, make_materials, make_protocol, make_readers
from tests.report.pages import text_of

PROTOCOL = make_protocol(features(0))
KEPT = make_materials(PROTOCOL, features(0), features(1), "1" * 64)
CARD = make_card("mine", KEPT)


def card(value, accuracy=None, level=2.0, **origin):
    """A scorecard whose every value is `value`, as readers saw its volumes."""
    values = []
    for one in CARD.values:
        assert one.floor is not None
        floor = one.floor.model_copy(update={"synth_mean": value})
        values.append(one.model_copy(update={"value": value, "floor": floor}))
    seen = None if accuracy is None else make_readers(accuracy, level)
    return CARD.model_copy(update={
        "values": tuple(values), "readers": seen, "origin": CARD.origin.model_copy(update=origin),
    })  # fmt: skip


def test_a_metric_that_orders_generators_as_readers_do_has_a_correlation_of_one():
    values, accuracies = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2], [0.5, 0.55, 0.6, 0.7, 0.9, 0.8]
    cards = [card(v, a, 4 - a) for v, a in zip(values, accuracies, strict=True)]
    found = correlations([*cards, card(9.0)])  # the last was not seen by readers
    assert {one.generators for one in found} == {6}
    assert {(one.metric, one.extractor, one.seen) for one in found} == {
        (row.metric, row.extractor, seen) for row in CARD.values for seen in ("accuracy", "slices")
    }
    expected = spearmanr(values, accuracies).statistic
    for one in found:
        assert one.rho is not None
        assert one.rho.value == pytest.approx(expected)  # a low rating is as bad as being told
    heads, rows = correlation_table(found)
    assert heads == ["metric", "with accuracy", "slices"]
    assert len(rows) == len(CARD.values)
    assert rows[0][1].startswith("+0.94 [")
    assert correlation_note(found).startswith("6 generators. Spearman")


def test_a_metric_where_more_is_better_counts_with_its_sign():
    rows = [card(v, a) for v, a in zip(range(5), np.linspace(0.5, 0.9, 5), strict=True)]
    upward = [
        one.model_copy(update={
            "values": tuple(v.model_copy(update={"direction": "higher"}) for v in one.values)})
        for one in rows
    ]  # fmt: skip
    for cards, expected in ((rows, 1), (upward, -1)):
        found = [one.rho for one in correlations(cards) if one.seen == "accuracy"]
        assert len(found) == len(CARD.values)
        assert all(one is not None and one.value == pytest.approx(expected) for one in found)


def test_from_few_generators_it_cannot_be_told():
    two = correlations([card(0.1, 0.5), card(0.9, 0.9)])
    assert all(one.rho is None for one in two)
    assert "cannot be told from 2 generators: at least 5" in correlation_note(two)
    assert correlation_table(two) == ([], [])
    alike = correlations([card(v, 0.5) for v in range(6)])
    assert "alike" in correlation_note(alike)
    assert correlations([card(0.1, 0.5), card(0.3)]) == []
    assert correlation_note([]) == ""


def test_trainings_of_one_method_count_once():
    """By their mean: 3 and 5 of one method are one value of 4."""
    others = [card(v, a) for v, a in ((1, 0.5), (2, 0.6), (6, 0.7), (8, 0.9))]
    twice = [card(3, 0.6, method="m"), card(5, 0.7, method="m")]
    found = correlations([*others, *twice])
    assert {one.generators for one in found} == {5}
    assert found[0].rho is not None
    expected = spearmanr([1, 2, 6, 8, 4], [0.5, 0.6, 0.7, 0.9, 0.65]).statistic
    assert found[0].rho.value == pytest.approx(expected)


def test_ratings_on_other_levels_are_not_joined():
    other = make_readers()
    rating = other.ratings[0].model_copy(update={"levels": ("bad", "good")})
    changed = [
        card(v, 0.5).model_copy(update={"readers": make_readers(ratings=(rating,))})
        for v in range(5)
    ]
    found = correlations([*changed, *(card(v, 0.9 - v / 100) for v in range(5))])
    assert [one.generators for one in found[:3]] == [10, 5, 5]


def test_the_words_name_the_volumes_the_controls_and_the_ratings():
    words = " ".join(result_sentences(make_readers()))
    assert "5 readers found the real one in 71 [61, 81]% of the pairs" in words
    assert "(20 pairs)" in words
    assert "slices 2.1 of 4 (real 3.4)" in words
    assert "control" not in words
    missed = {"blurred": Estimated(value=0.5, low=0.4, high=0.6)}
    assert "did not find the blurred control" in " ".join(
        result_sentences(make_readers(controls=missed))
    )
    few = {"blurred": Estimated(value=1.0, low=0.43, high=1.0)}
    assert "100 [43, 100]% of the blurred controls, which are too few" in " ".join(
        result_sentences(make_readers(controls=few))
    )
    assert verdict_cell(make_readers()) == "told from real: 71 [61, 81]% (5 readers)"
    assert verdict_cell(make_readers(comparison=None)) == "rated only (5 readers)"


def test_the_report_has_a_section_where_a_scorecard_has_a_result():
    assert 'id="readers"' not in render_report([card(0.1)])
    poisoned = make_readers(
        generator="<i>ours", controls={"<b>odd": Estimated(value=0.5, low=None, high=None)}
    )
    seen = card(0.1, 0.7).model_copy(update={"readers": poisoned})
    page = render_report([seen, *(card(v, 0.5 + v / 10) for v in range(1, 5))])
    assert 'id="readers"' in page
    assert "<i>ours" not in page
    assert "<b>odd" not in page
    words = text_of(page)
    assert "<b>odd" in words
    assert "Do slices fit? (slices, 1 to 4)" in words
    assert "Do the metrics agree with readers?" in words
    assert "5 generators. Spearman" in words
