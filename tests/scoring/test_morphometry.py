"""Regional morphometry in a scorecard: records of extractors and of other programs' tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from synthbench.errors import UsageError
from synthbench.metrics.measures.morphometry import regional_distance
from synthbench.records.morphometry import MorphometryRecord
from synthbench.report.html import render_report
from synthbench.report.morphometry import differing, regions_lines
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.morphometry import assess, of_tables
from synthbench.scoring.scoring import score_cohorts
from synthbench.scoring.settings import Context, ScoringSettings
from tests.scoring.test_condition_measures import AGE, RNG, SLICES, M, N, measures, table

HEAD = RNG.normal(1500, 100, size=N + M)
CAUDATE = HEAD * RNG.normal(0.005, 0.0005, size=N + M)
CAUDATE[N:] *= 1.5
PUTAMEN = HEAD * RNG.normal(0.008, 0.0005, size=N + M)


def given_to(folder, of_both, name="t.csv"):
    return table(folder, of_both, ("real", "synth"), name)


def columns(head="total intracranial"):
    return {head: HEAD.tolist(), "left caudate": CAUDATE.tolist(), "putamen": PUTAMEN.tolist()}


@pytest.mark.parametrize(
    "head", ["total intracranial", "EstimatedTotalIntraCranialVol", "eTIV", "icv"]
)
def test_a_table_is_stated_over_the_intracranial_volume_of_its_program(tmp_path, head):
    """SynthSeg, FreeSurfer's aseg and aparc tables (FastSurfer's are the same), participants."""
    extra = {"lhSurfaceHoles": [3.0] * N + [4.0] * M, "age": AGE.tolist()}
    found = of_tables(measures(given_to(tmp_path, {**columns(head), **extra})))
    assert list(found.names) == ["left caudate", "putamen"]
    assert found.unit == "volumes over the intracranial volume"
    for role, rows in (("real", found.real), ("synth", found.synth)):
        expected = np.column_stack([CAUDATE / HEAD, PUTAMEN / HEAD])[SLICES[role]]
        np.testing.assert_allclose(rows, expected)


def test_without_that_column_volumes_are_compared_as_they_are(tmp_path):
    given = columns()
    del given["total intracranial"]
    found = of_tables(measures(given_to(tmp_path, {**given, "5th-Ventricle": [0.0] * (N + M)})))
    assert list(found.names) == ["left caudate", "putamen"]
    assert found.unit == "volumes as in the table"
    np.testing.assert_allclose(found.synth[:, 0], CAUDATE[N:])


def test_a_table_of_one_set_or_without_volumes_is_refused(tmp_path):
    one = table(tmp_path, columns(), roles=("synth",))
    with pytest.raises(UsageError, match=r"0 columns hold .* Measure both sets"):
        of_tables(measures(one))
    empty = given_to(tmp_path, {**columns("icv"), "icv": [0.0] * (N + M)}, name="zero.csv")
    with pytest.raises(UsageError, match="must be above zero"):
        of_tables(measures(empty))


def loaded(**extractors) -> Any:
    return SimpleNamespace(loaded=extractors)


def protocol_with(*metrics) -> Any:
    return SimpleNamespace(
        intervals=dict.fromkeys(metrics, "jackknife"), resamples=300, seed=0, level=0.95,
        floor_splits=50,
    )  # fmt: skip


@pytest.fixture
def record(tmp_path) -> MorphometryRecord:
    held = measures(given_to(tmp_path, columns()))
    (found,) = assess(held.samples, loaded(), held, protocol_with("morphometry"), Context())
    return found


def test_a_record_names_the_region_that_differs(record):
    assert (record.source, record.n_real, record.n_synth) == ("table", N, M)
    assert [one.name for one in differing(record)] == ["left caudate"]
    worst = record.worst[0]
    real, synth = (CAUDATE / HEAD)[:N], (CAUDATE / HEAD)[N:]
    assert worst.d == pytest.approx((synth.mean() - real.mean()) / real.std())
    assert 0 < worst.low < worst.d < worst.high
    assert record.floor_n == 20
    assert record.distance > record.distance_high
    assert (record.rejects_real, record.rejects_synth) == (
        0,
        int((np.abs(synth - real.mean()) > 5 * real.std()).sum()),
    )


def test_an_extractor_whose_features_have_names_has_a_record(tmp_path):
    held = measures()
    named = SimpleNamespace(measures=tuple("abcdef"), unit="mL")
    extractors = loaded(anatomy=named, voxels=SimpleNamespace())
    (found,) = assess(held.samples, extractors, held, protocol_with("morphometry"), Context())
    assert (found.source, found.unit) == ("anatomy", "mL")
    assert [one.name for one in found.regions] == list("abcdef")
    x, y = (held.samples[role].features["anatomy"] for role in ("real", "synth"))
    assert found.distance == pytest.approx(regional_distance(x, y), rel=0.5)
    assert assess(held.samples, extractors, held, protocol_with("fid"), Context()) == ()


@pytest.mark.slow
def test_a_scorecard_of_a_table_has_its_regions_on_its_pages(make_cohort):
    """No conditions were requested: the table is used for its regions alone."""
    real = make_cohort("real", n=12, seed=1)
    synth = make_cohort("synth", n=8, seed=2, subject="s")
    names = [path.name for folder in (real, synth) for path in sorted(folder.iterdir())]
    rng = np.random.default_rng(0)
    rows = ["file,hippocampus,amygdala"]
    rows += [
        f"{name},{rng.normal(4 + 3 * (i >= 12), 0.5):.4f},{rng.normal():.4f}"
        for i, name in enumerate(names)
    ]
    file = real.parent / "regions.csv"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    cohorts = CohortSet.read(real, synth, measures=[file])
    settings = ScoringSettings(
        metrics=("intensity", "morphometry"), extractors=("random-resnet10",), resamples=200
    )
    card = score_cohorts(cohorts, settings).card
    (record,) = card.morphometry
    assert [one.name for one in differing(record)] == ["hippocampus"]
    (line,) = regions_lines(card)
    assert "hippocampus d=+" in line
    page = render_report([card])
    assert '<h2 id="regions">' in page
    assert "hippocampus" in page
    with pytest.raises(UsageError, match="--measures: nothing uses the measures"):
        score_cohorts(cohorts, ScoringSettings(metrics=("intensity",)))
