"""Sets of volumes that are zero outside a region."""

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
    return Known(SPACE, volumes), rng.random(SPACE.shape) > 0.5


def test_voxels_outside_are_zero_and_the_others_keep_every_bit():
    volumes, region = example()
    cleaned = Cleaned(volumes, region)
    assert len(cleaned) == 3
    assert cleaned.space == SPACE
    for index, found in enumerate(cleaned):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, cleaned[index])
        np.testing.assert_array_equal(found[region], volumes[index][region])
        assert not found[~region].any()


def test_the_identity_depends_on_the_region_and_on_the_volume():
    volumes, region = example()
    assert Cleaned(volumes, region).name(1) == "file 1"
    identities = {
        Cleaned(volumes, region).identity(0),
        Cleaned(volumes, region).identity(1),
        Cleaned(volumes, ~region).identity(0),
        Flipped(Cleaned(volumes, region)).identity(0),
        volumes.identity(0),
    }
    assert len(identities) == 5
    assert Cleaned(volumes, region.copy()).identity(0) == Cleaned(volumes, region).identity(0)
    assert Cleaned(Drawn(SPACE, volumes.volumes), region).identity(0) is None
