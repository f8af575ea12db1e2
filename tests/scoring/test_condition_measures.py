"""Measures of conditions: by anatomy, by a model fitted on real volumes, by another program."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from synthbench.errors import MetricError, UsageError
from synthbench.metrics.extractors.anatomy import MEASURES, SPREAD_ML, TYPICAL_ML
from synthbench.scoring.condition_measures import Measures, read_tables
from synthbench.scoring.statistics import Sample
from tests.named_cohorts import named_cohort

N, M = 40, 30
RNG = np.random.default_rng(0)
AGE = RNG.uniform(20, 80, N + M)
MILLILITRES = np.array(TYPICAL_ML) + np.array(SPREAD_ML) * RNG.normal(size=(N + M, 6))
MILLILITRES[:, MEASURES.index("ventricle_volume")] = 15 + AGE / 5
VENTRICLES = MILLILITRES[:, MEASURES.index("ventricle_volume")]
VOXELS = np.column_stack([AGE / 20, RNG.normal(size=(N + M, 4))])
SLICES = {"real": slice(0, N), "synth": slice(N, None)}
NAMES = {"real": [f"r{i}.nii" for i in range(N)], "synth": [f"s{i}.nii" for i in range(M)]}


def measures(*files: Path) -> Measures:
    """Volumes of which the features are known, so that none is read."""
    features = {"anatomy": (MILLILITRES - TYPICAL_ML) / SPREAD_ML, "voxels": VOXELS}
    samples = {
        role: Sample(role, cast(Any, None), np.arange(len(names)),
                     features={k: v[SLICES[role]].astype(np.float32) for k, v in features.items()})
        for role, names in NAMES.items()
    }  # fmt: skip
    cohorts = {role: named_cohort(names) for role, names in NAMES.items()}
    return Measures(samples, cohorts, read_tables(files))


def table(folder: Path, columns: dict[str, list[Any]], roles=("synth", "real"), name="t.csv"):
    names = [name for role in roles for name in NAMES[role]]
    rows = [",".join(["file", *columns])]
    rows += [",".join([file, *(str(c[i]) for c in columns.values())])
             for i, file in enumerate(names)]  # fmt: skip
    (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1000.0, "anatomy, mL × 1000"), (1.0, "anatomy, mL")],
)
def test_a_volume_is_brought_to_the_tables_unit(factor, words):
    """The table is 1.2 times the measure: of the units, the one within a factor of two."""
    truth = (VENTRICLES * factor * 1.2).tolist()
    found = measures().read("ventricle_volume", truth[N:], truth[:N], ())
    assert found.words == words
    assert found.same_unit
    assert found.real is not None
    assert np.allclose(found.synth, VENTRICLES[N:] * factor, rtol=1e-5)
    assert np.allclose(found.real, VENTRICLES[:N] * factor, rtol=1e-5)


def test_a_share_of_the_head_has_no_unit_in_common():
    """A head of 1400 mL, and one that is wrong by its unit: neither is a volume in litres."""
    for head in (1400, 1e6):
        truth = (VENTRICLES / head).tolist()
        assert not measures().read("ventricle_volume", truth[N:], truth[:N], ()).same_unit


def test_cubic_millimetres_of_another_program_are_brought_to_millilitres(tmp_path):
    """Measured in mm³ with 20% too little, asked for in mL."""
    truth = VENTRICLES.tolist()
    cells = (800 * VENTRICLES).tolist()
    file = table(tmp_path, {"ventricle_volume": cells[N:] + cells[:N]})
    found = measures(file).read("ventricle_volume", truth[N:], truth[:N], ())
    assert found.words == "the table of measures / 1000"
    assert np.allclose(found.synth, 0.8 * VENTRICLES[N:])


def test_age_is_predicted_from_what_real_volumes_show():
    found = measures().read("age", AGE[N:].tolist(), AGE[:N].tolist(), ())
    assert found.words.startswith("ridge regression on ")
    assert found.real is not None
    assert np.corrcoef(found.real, AGE[:N])[0, 1] > 0.9
    assert np.corrcoef(found.synth, AGE[N:])[0, 1] > 0.9


@pytest.mark.slow
def test_levels_are_classified():
    old = np.where(AGE > 50, "old", "young").tolist()
    found = measures().read("life", old[N:], old[:N], ("old", "young"))
    assert np.mean([a == b for a, b in zip(found.synth_levels, old[N:], strict=True)]) > 0.8
    assert np.mean([a == b for a, b in zip(found.real_levels, old[:N], strict=True)]) > 0.8
    assert found.synth.min() >= 0
    assert found.synth.max() <= 1


def test_a_model_needs_real_covariates():
    with pytest.raises(MetricError, match=r"participants.tsv with a column 'age'"):
        measures().read("age", AGE[N:].tolist(), None, ())


def test_a_table_takes_the_place_of_a_measure(tmp_path):
    ages = [*AGE[N:], *AGE[:N]]
    found = measures(table(tmp_path, {"age": ages})).read(
        "age", AGE[N:].tolist(), AGE[:N].tolist(), ()
    )
    assert found.words == "the table of measures"
    assert found.real is not None
    assert np.array_equal(found.synth, AGE[N:])
    assert np.array_equal(found.real, AGE[:N])


def test_a_table_of_synthetic_volumes_alone_leaves_no_ceiling(tmp_path):
    found = measures(table(tmp_path, {"age": AGE[N:].tolist()}, roles=("synth",))).read(
        "age", AGE[N:].tolist(), AGE[:N].tolist(), ()
    )
    assert found.real is None


@pytest.mark.parametrize(
    ("cells", "levels", "scores"),
    [
        pytest.param(["F", "M"], ("F", "M"), [0, 1], id="words"),
        pytest.param([0.2, 0.9], ("F", "M"), [0.2, 0.9], id="probabilities"),
        pytest.param([1, 2], ("1", "2"), [0, 1], id="codes"),
    ],
)
def test_levels_of_a_table_are_words_probabilities_or_codes(tmp_path, cells, levels, scores):
    column = [cells[i % 2] for i in range(N + M)]
    requested = [levels[i % 2] for i in range(M)]
    found = measures(table(tmp_path, {"sex": column})).read("sex", requested, None, levels)
    assert list(found.synth[:2]) == scores
    assert list(found.synth_levels[:2]) == list(levels)


def test_a_level_that_was_never_asked_for_is_refused(tmp_path):
    held = measures(table(tmp_path, {"sex": ["F", "O"] * ((N + M) // 2)}))
    with pytest.raises(MetricError, match="holds 'O', but the requested levels are F, M"):
        held.read("sex", ["F", "M"] * (M // 2), None, ("F", "M"))


def test_absent_measures_are_refused(tmp_path):
    held = measures(table(tmp_path, {"age": ["n/a", *AGE[1:]]}))
    with pytest.raises(UsageError, match=r"age is absent for 1 of the 30 synth volumes"):
        held.read("age", AGE[N:].tolist(), None, ())


def test_a_table_of_other_volumes_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("file,age\nnobody,1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="names none of the volumes"):
        measures(tmp_path / "other.csv").read("age", AGE[N:].tolist(), None, ())


def test_regions_are_those_of_a_table_but_for_covariates(tmp_path):
    held = measures(table(tmp_path, {"age": AGE.tolist(), "pallidum": AGE.tolist(),
                                     "note": ["x"] * (N + M)}))  # fmt: skip
    assert list(held.regions(without={"age"})) == ["pallidum"]
    assert list(measures().regions()) == [m for m in MEASURES if m != "ventricle_asymmetry"]
