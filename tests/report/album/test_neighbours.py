from __future__ import annotations

import numpy as np

from synthbench.cohorts.reading import read_cohort
from synthbench.report.album.neighbours import nearest_training
from synthbench.scoring.statistics import Sample


def test_nearest_training_volumes_are_found_mirrored_too(make_cohort):
    """Against distances summed by hand over the mask; a mirrored copy lies at distance 0."""
    train = read_cohort(make_cohort("train", n=6)).volumes()
    volumes = [train[i] for i in range(len(train))]

    class Stack(list[np.ndarray]):
        space = train.space

    requested = Stack([volumes[4][::-1].copy(), np.float32(0.9) * volumes[2]])
    mask = np.ones(train.space.shape, bool)
    found = nearest_training(
        Sample("synth", requested, np.arange(2)),
        Sample("train", Stack(volumes), np.arange(6)),
        mask,
    )
    np.testing.assert_array_equal(found.index, [4, 2])
    np.testing.assert_array_equal(found.mirrored, [True, False])
    by_hand = np.sqrt(np.mean((0.1 * volumes[2].astype(np.float64)) ** 2))
    np.testing.assert_allclose(found.distance, [0, by_hand], atol=1e-6)
    apart = [
        min(
            np.sqrt(np.mean((a.astype(np.float64) - b) ** 2))
            for j, b in enumerate(volumes)
            if i != j
        )
        for i, a in enumerate(volumes)
    ]
    np.testing.assert_allclose(found.usual, np.median(apart), rtol=1e-6)
