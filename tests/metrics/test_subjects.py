"""The index of subjects."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics import subjects as subjects_module


def test_subjects_are_numbered_by_first_appearance():
    labels = {"real": np.array(["s9", "s2", "s9"])}
    index = subjects_module.subject_index(labels, real=3, synth=2)
    assert index["real"].tolist() == [0, 1, 0]
    assert index["synth"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "found"),
    [({"reel": np.arange(3)}, "did you mean 'real'"), ({"real": np.arange(2)}, r"shape \(2,\)")],
)
def test_wrong_subject_labels_are_named(labels, found):
    with pytest.raises(MetricError, match=found):
        subjects_module.subject_index(labels, real=3, synth=3)
