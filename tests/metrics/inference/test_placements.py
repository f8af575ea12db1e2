"""Placement values, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from synthbench.metrics.inference.placements import placements
from tests.metrics.inference.predictions import scores_and_truth


def test_placement_values_average_to_scikit_learns_auc():
    scores, truth = scores_and_truth()
    found = placements(scores, truth > 0.5)
    expected = [roc_auc_score(truth, row) for row in scores]
    np.testing.assert_allclose(found.positives.mean(axis=1), expected)
    np.testing.assert_allclose(found.negatives.mean(axis=1), expected)


def test_placements_by_hand():
    """Positives 1 and 3, negatives 2 and 1: 1 ties with one of two, 3 is above both."""
    found = placements(np.array([[1.0, 3.0, 2.0, 1.0]]), np.array([True, True, False, False]))
    np.testing.assert_array_equal(found.positives, [[0.25, 1.0]])
    np.testing.assert_array_equal(found.negatives, [[0.5, 0.75]])
