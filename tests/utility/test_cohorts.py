"""Labels of a study's cohorts, and the rule that they share no subject."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, UsageError
from synthbench.utility.study import utility
from tests.utility.spheres import COMMON, write

pytestmark = pytest.mark.slow


def test_a_generator_that_was_trained_on_the_test_cohort_is_refused(folders, tmp_path):
    synth = write(tmp_path / "synth", 8, 5)
    fingerprint = read_cohort(folders["test"]).fingerprint
    for file in synth.glob("*.nii.gz"):
        sidecar = {"synthetic": True, "training_cohort": fingerprint}
        file.with_name(file.name.replace(".nii.gz", ".json")).write_text(
            json.dumps(sidecar), encoding="utf-8"
        )
    with pytest.raises(CohortError, match="trained on the test cohort itself"):
        utility(folders["real"], synth, folders["test"], "sex", ratios=(), **COMMON)


def test_labels_may_come_from_a_table_or_from_sidecars(folders, tmp_path):
    synth = write(tmp_path / "synth", 8, 5)
    (synth / "participants.tsv").rename(tmp_path / "labels.tsv")
    real, test = folders["real"], folders["test"]
    with pytest.raises(UsageError, match="--synth-labels FILE"):
        utility(real, synth, test, "sex", ratios=(), **COMMON)
    by_table = utility(
        real, synth, test, "sex", ratios=(), synth_labels_file=tmp_path / "labels.tsv", **COMMON
    )
    for i, file in enumerate(sorted(synth.glob("*.nii.gz"))):
        sidecar = {"synthetic": True, "conditions": {"sex": "FM"[i % 2]}}
        file.with_name(file.name.replace(".nii.gz", ".json")).write_text(
            json.dumps(sidecar), encoding="utf-8"
        )
    by_sidecar = utility(real, synth, test, "sex", ratios=(), **COMMON)
    assert by_sidecar.summary.arms == by_table.summary.arms


@pytest.mark.parametrize("role", ["real", "synth", "test"])
def test_a_side_of_one_class_is_named(folders, tmp_path, role):
    changed = write(tmp_path / role, 8, 7)
    table = pd.read_csv(changed / "participants.tsv", sep="\t")
    table["sex"] = ["F"] + ["M"] * 7
    table.to_csv(changed / "participants.tsv", sep="\t", index=False)
    sides = {**folders, role: changed}
    with pytest.raises(CohortError, match=f"{role}: .*'sex' are needed; found 1 of F and 7 of M"):
        utility(sides["real"], sides["synth"], sides["test"], "sex", ratios=(), **COMMON)


def test_a_word_among_numbers_is_a_missing_value(folders, tmp_path):
    real = write(tmp_path / "real", 8, 7)
    table = pd.read_csv(real / "participants.tsv", sep="\t", dtype=str)
    table.loc[3, "age"] = "unknown"
    table.to_csv(real / "participants.tsv", sep="\t", index=False)
    found = utility(real, folders["synth"], folders["test"], "age", ratios=(), **COMMON)
    assert any("1 volumes without a value of 'age' are left out" in note for note in found.notes)
