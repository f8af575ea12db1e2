"""Distances to training and hold-out images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics.inference import resampling
from synthbench.metrics.memorization import memorization
from synthbench.metrics.nearest.distances import Distances, voxel_distances
from tests.metrics.nearest.copies import sets


def test_auth_pct_is_the_double_loop():
    synth, train, holdout = sets(30, 25, 25, 3)
    authentic = 0
    for image in synth:
        to_train = [np.linalg.norm(image - t) for t in train]
        i = int(np.argmin(to_train))
        to_other = min(np.linalg.norm(train[i] - t) for j, t in enumerate(train) if j != i)
        authentic += to_train[i] > to_other
    found = memorization(synth, train, holdout, permutations=99)
    assert 0 < authentic < 30
    assert found.auth_pct == pytest.approx(100 * authentic / 30)
    assert resampling.estimate(found.statistic.parts()["auth_pct"].statistic) == found.auth_pct


def test_voxel_distances_are_those_of_the_masked_voxels(brains):
    synth, train, holdout, mask = brains
    rows = {
        "synth": np.array([v[mask] for v in synth], dtype=float),
        "flipped": np.array([np.flip(v, 0)[mask] for v in synth], dtype=float),
        "train": np.array([v[mask] for v in train], dtype=float),
        "holdout": np.array([v[mask] for v in holdout], dtype=float),
    }
    reads = []
    found = voxel_distances(
        synth, train, holdout, mask, progress=lambda done, total: reads.append((done, total))
    )
    assert reads[-1][0] == reads[-1][1]
    expected = {
        "train": ("synth", "train"),
        "holdout": ("synth", "holdout"),
        "within_train": ("train", "train"),
        "within_holdout": ("holdout", "holdout"),
        "train_holdout": ("train", "holdout"),
        "flipped_train": ("flipped", "train"),
        "flipped_holdout": ("flipped", "holdout"),
    }
    for name, (a, b) in expected.items():
        np.testing.assert_allclose(
            getattr(found, name), cdist(rows[a], rows[b]), rtol=1e-9, atol=1e-6, err_msg=name
        )


def test_distances_name_their_shapes():
    with pytest.raises(MetricError, match=r"train_holdout must have 8 rows \(train\) and 7"):
        Distances(
            train=np.ones((4, 8)),
            holdout=np.ones((4, 7)),
            within_train=np.ones((8, 8)),
            within_holdout=np.ones((7, 7)),
            train_holdout=np.ones((7, 8)),
        )
