"""The study of a label: arms, curve, splits, and refused settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthbench.errors import SynthbenchError
from synthbench.utility.record import BOTH, REAL, SYNTHETIC, TRTS
from synthbench.utility.study import utility
from synthbench.utility.transfer import Transfer
from tests.utility.spheres import ACCEPT, COMMON

pytestmark = pytest.mark.slow


def test_every_arm_is_there_with_its_volumes(record):
    counts = {arm.name: (arm.real, arm.synth, arm.augmented, arm.tested) for arm in record.arms}
    assert counts == {
        REAL: (12, 0, 0, 16),
        SYNTHETIC: (0, 14, 0, 16),
        TRTS: (12, 0, 0, 14),
        BOTH: (12, 14, 0, 16),
        "real + augmentation": (12, 0, 14, 16),
    }
    assert all(set(arm.values) == {"auc", "balanced_accuracy"} for arm in record.arms)


def test_the_curve_stops_where_volumes_do_and_says_so(record):
    assert [(point.ratio, point.synth) for point in record.curve] == [(0.5, 6), (1.0, 12)]
    assert any("too few synthetic volumes: 5x" in note for note in record.notes)


def test_what_was_accepted_is_noted(folders):
    """The real volumes once more as synthetic ones: an error unless it is accepted."""
    options = {**COMMON, "accept": (*ACCEPT, "identical-across")}
    real = folders["real"]
    noted = utility(real, real, folders["test"], "sex", ratios=(), **options).notes
    assert any(note.startswith("preflight, accepted: synth: identical-across (") for note in noted)


def test_numbers_are_a_regression(folders):
    found = utility(folders["real"], folders["synth"], folders["test"], "age", ratios=(), **COMMON)
    assert found.measures == ("mae", "r2")
    assert found.settings.task == "regression"
    assert "lower is better" in found.summary.sentence


def test_repeated_splits_have_nadeau_and_bengios_degrees_of_freedom(folders):
    found = utility(
        folders["real"], folders["synth"], folders["test"], "sex", ratios=(), splits=3, **COMMON
    )
    assert found.differences[0].values["auc"].df == pytest.approx(2)
    assert (found.summary.n_real, found.summary.n_test) == (12, 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "sexx"}, "did you mean 'sex'?"),
        ({"test": "real"}, "subjects in the training cohort"),
        ({"synth": "test", "accept": (*ACCEPT, "identical-across")}, "exactly test volumes"),
        ({"label": "sex", "task": "regression"}, "a regression needs numbers"),
        ({"transfer": Transfer("sex", Path("x"))}, "Add --model cnn"),
        ({"ratios": (0.0,)}, "multiples above 0"),
        ({"ratios": (float("inf"),)}, "finite multiples above 0"),
        ({"label": "height"}, "--label height: synth: .*conditions.tsv: no column 'height'"),
    ],
)
def test_what_would_mislead_is_refused(folders, change, words):
    given = {"label": "sex", "ratios": (), **COMMON, **change}
    sides = [folders[given.pop(role, role)] for role in ("real", "synth", "test")]
    with pytest.raises(SynthbenchError, match=words):
        utility(sides[0], sides[1], sides[2], given.pop("label"), **given)
