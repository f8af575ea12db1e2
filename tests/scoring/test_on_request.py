"""Metrics that are scored on request have the rows, intervals and floors of the default ones."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from synthbench.report.text import scorecard_table
from synthbench.scoring import scoring
from synthbench.scoring.settings import DEFAULT_METRICS

pytestmark = pytest.mark.slow

METRICS = ("clipped_density", "clipped_coverage", "rke", "quality")


@pytest.fixture
def card(make_cohort):
    return scoring.score(
        make_cohort("real", n=14, seed=1, shape=(28, 28, 28)),
        make_cohort("synth", n=7, seed=2, shape=(28, 28, 28), width=0.9),
        extractors=("random-resnet10",),
        metrics=METRICS,
        resamples=100,
    )


def table_of(card):
    written = io.StringIO()
    Console(file=written, width=250).print(scorecard_table(card, wide=True))
    return written.getvalue()


def test_they_have_values_intervals_and_floors(card):
    assert not set(METRICS) & set(DEFAULT_METRICS)
    for name in METRICS:
        row = card.row(name)
        assert row.interval.low < row.interval.high, name
        assert row.floor.low <= row.floor.mean <= row.floor.high, name
        assert row.floor.n == 7
    gap, real, synth = (card.row(f"rke{part}") for part in ("", ".real", ".synth"))
    assert gap.value == pytest.approx(real.value - synth.value)
    for row in (real, synth):
        assert 1 <= row.interval.low <= row.value <= row.interval.high <= 14
    assert {row.metric for row in card.values if row.metric.startswith("quality.")} == {
        "quality.cjv", "quality.efc", "quality.wm2max",
    }  # fmt: skip
    shown = table_of(card)
    for row in card.values:
        assert row.label in shown
