"""Sets of volumes with a clean background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Cleaned, Drawn, Flipped

SPACE = Space.of((4, 3, 2), np.eye(4))


@dataclass(frozen=True)
class Known(Drawn):
    """Volumes in memory whose origin is known."""

    def name(self, index: int) -> str:
        return f"file {index}"

    def identity(self, index: int) -> str:
        return f"content {index}"


def example() -> tuple[Known, np.ndarray]:
    rng = np.random.default_rng(0)
    volumes = [rng.random(SPACE.shape).astype(np.float32) for _ in range(3)]
    return Known(SPACE, volumes), rng.choice([0.0, 0.5, np.inf], SPACE.shape).astype(np.float32)


def test_voxels_up_to_the_threshold_are_zero_and_the_others_keep_every_bit():
    volumes, threshold = example()
    cleaned = Cleaned(volumes, threshold)
    assert len(cleaned) == 3
    assert cleaned.space == SPACE
    for index, found in enumerate(cleaned):
        before = volumes[index]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, cleaned[index])
        np.testing.assert_array_equal(found[threshold == 0], before[threshold == 0])
        assert not found[np.isinf(threshold)].any()
        near = threshold == 0.5
        np.testing.assert_array_equal(found[near], before[near] * (before[near] > 0.5))


def test_the_identity_depends_on_the_threshold_and_on_the_volume():
    volumes, threshold = example()
    cleaned = Cleaned(volumes, threshold)
    assert cleaned.name(1) == "file 1"
    identities = {
        cleaned.identity(0),
        cleaned.identity(1),
        Cleaned(volumes, threshold[::-1]).identity(0),
        Flipped(cleaned).identity(0),
        volumes.identity(0),
    }
    assert len(identities) == 5
    assert Cleaned(volumes, threshold.copy()).identity(0) == cleaned.identity(0)
    assert Cleaned(Drawn(SPACE, volumes.volumes), threshold).identity(0) is None
