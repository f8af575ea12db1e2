"""Scoring on a frozen benchmark: what it keeps, and what it refuses."""

from __future__ import annotations

import pytest

from synthbench.errors import CohortError, ScorecardError, UsageError
from synthbench.scoring import freeze, scoring
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.settings import ScoringSettings
from tests.scoring.test_scoring import EXTRACTORS, METRICS, score

pytestmark = pytest.mark.slow


@pytest.fixture
def small(make_cohort):
    return make_cohort("real", n=6, seed=1), make_cohort("synth", n=5, seed=2, width=0.9)


@pytest.fixture
def frozen(small):
    settings = ScoringSettings(extractors=EXTRACTORS, metrics=METRICS, resamples=200, scales=2)
    return freeze.freeze(small[0], "b", settings, n_synth=4)


def test_a_benchmark_keeps_the_bandwidth_and_subsamples_to_m(small, frozen):
    card = score(*small, benchmark=frozen)
    assert card.protocol == frozen.protocol
    assert card.benchmark == "b"
    assert (card.synth.n, card.synth.available) == (4, 5)
    assert score(*small, benchmark=frozen).values == card.values


def test_a_benchmark_survives_its_file(frozen, tmp_path):
    frozen.save(tmp_path / "b")
    assert Benchmark.load(tmp_path / "b") == frozen
    with pytest.raises(ScorecardError, match="already there"):
        frozen.save(tmp_path / "b")
    (tmp_path / "b" / "benchmark.yaml").write_text("name: b\n", encoding="utf-8")
    with pytest.raises(ScorecardError, match="not a benchmark"):
        Benchmark.load(tmp_path / "b")


def test_a_benchmark_refuses_other_data_by_name(small, frozen, make_cohort):
    real, synth = small
    with pytest.raises(ScorecardError, match="frozen on another real cohort"):
        score(make_cohort("other", n=6, seed=5), synth, benchmark=frozen)
    more = frozen.protocol.model_copy(update={"n_synth": 6})
    with pytest.raises(CohortError, match=r"scores 6 volumes; found 5\. Sample 1 more"):
        score(real, synth, benchmark=frozen.model_copy(update={"protocol": more}))


def test_a_benchmark_refuses_other_weights_and_masks(small, frozen):
    def changed(**update):
        return frozen.model_copy(update={"protocol": frozen.protocol.model_copy(update=update)})

    record = frozen.protocol.extractors[0].model_copy(update={"weights_sha256": "0" * 64})
    with pytest.raises(ScorecardError, match="weights_sha256"):
        score(*small, benchmark=changed(extractors=(record,)))
    mask = frozen.protocol.mask.model_copy(update={"voxels": 1})
    with pytest.raises(ScorecardError, match="the mask differs"):
        score(*small, benchmark=changed(mask=mask))
    settings = {k: {**v, "formula": "another"} for k, v in frozen.protocol.settings.items()}
    with pytest.raises(ScorecardError, match="formula 'another'"):
        score(*small, benchmark=changed(settings=settings))


def test_freezing_needs_two_synthetic_volumes(small):
    with pytest.raises(UsageError, match="--m"):
        freeze.freeze(small[0], "b", ScoringSettings(extractors=EXTRACTORS), n_synth=1)


def test_settings_beside_a_benchmark_are_refused(small, frozen):
    with pytest.raises(UsageError, match="the benchmark has frozen this: leave out seed"):
        scoring.score(*small, benchmark=frozen, seed=1)
