from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from synthbench.cohorts.reading import read_cohort
from synthbench.report.album.neighbours import nearest_real, nearest_training
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


def test_nearest_real_volumes_of_some_synthetic_ones(make_cohort):
    """Only those that are asked for, as they are: a mirrored copy is not the nearest."""
    real = read_cohort(make_cohort("real", n=5)).volumes()

    class Stack(list[np.ndarray]):
        space = real.space

    volumes = Stack(real[i] for i in range(5))
    synth = Stack([volumes[3][::-1].copy(), np.float32(0.9) * volumes[2], volumes[4]])
    mask = np.ones(real.space.shape, bool)
    at_hand = SimpleNamespace(
        shows_real=True, mask=mask, progress=None,
        samples={"real": Sample("real", volumes, np.arange(5)),
                 "synth": Sample("synth", synth, np.arange(3))},
    )  # fmt: skip
    found = nearest_real(at_hand, [1, 2])  # type: ignore[arg-type]
    assert {which: near.index for which, near in found.items()} == {1: 2, 2: 4}
    apart = np.sqrt(np.mean((0.1 * volumes[2].astype(np.float64)) ** 2))
    assert f"{apart:.3g}" in found[1].words
    at_hand.shows_real = False
    assert nearest_real(at_hand, [1, 2]) == {}  # type: ignore[arg-type]
