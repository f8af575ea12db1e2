from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics import voxel_gram as voxel_gram_module
from synthbench.metrics.voxel_gram import voxel_gram, voxel_squares

SHAPE = (4, 3, 5)


def volumes(n, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, *SHAPE)).astype(np.float32)


def expected_gram(x, y, mask=None, flip=False):
    """Sums of products over the masked voxels, as float64 dot products of the flat volumes."""
    chosen = np.ones(SHAPE, dtype=bool) if mask is None else mask
    first = x[:, ::-1] if flip else x
    return first[:, chosen].astype(float) @ y[:, chosen].astype(float).T


class Counted:
    """A source that counts how often each volume is read."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.reads = np.zeros(len(arrays), dtype=int)

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.arrays[index]


@pytest.fixture(params=[None, 1, 2, 3], ids=lambda n: f"blocks of {n or 'all'}")
def block(request, monkeypatch):
    """Blocks of so many volumes, and chunks of a few voxels."""
    if request.param is not None:
        monkeypatch.setattr(
            voxel_gram_module, "BLOCK_BYTES", 4 * np.prod(SHAPE).item() * request.param
        )
        monkeypatch.setattr(voxel_gram_module, "CHUNK_BYTES", 7 * 8 * 4)
    return request.param


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_products_are_sums_over_the_masked_voxels(block, masked, flip):
    x, y = volumes(5), volumes(7, seed=1)
    mask = np.random.default_rng(2).uniform(size=SHAPE) < 0.4 if masked else None
    np.testing.assert_allclose(
        voxel_gram(x, y, mask=mask, flip=flip), expected_gram(x, y, mask, flip), rtol=1e-13
    )
    np.testing.assert_allclose(
        voxel_gram(x, mask=mask, flip=flip), expected_gram(x, x, mask, flip), rtol=1e-13
    )


def test_a_set_with_itself_is_symmetric(block):
    x = volumes(5)
    found = voxel_gram(x)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(np.diag(found), voxel_squares(x), rtol=1e-13)


def test_squares_are_those_of_the_flipped_volume_within_the_mask():
    x = volumes(3)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0] = True
    expected = (x[:, -1].astype(float) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(voxel_squares(x, mask=mask, flip=True), expected, rtol=1e-13)


def test_small_differences_between_bright_volumes_keep_their_digits():
    """Volumes at 0.9 +- 1e-4: |x - y|^2 is about 1e-8 of |x|^2, and has its first six digits."""
    rng = np.random.default_rng(0)
    x, y = (0.9 + 1e-4 * rng.uniform(size=(2, 1, *SHAPE))).astype(np.float32)
    found = voxel_squares(x) + voxel_squares(y) - 2 * voxel_gram(x, y)[0]
    expected = ((x.astype(float) - y.astype(float)) ** 2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_volumes_that_fit_are_read_once():
    """Twice for the first, whose shape is the grid's."""
    x, y = Counted(volumes(5)), Counted(volumes(6))
    voxel_gram(x, y)
    assert x.reads.tolist() == [2, 1, 1, 1, 1]
    assert y.reads.tolist() == [1] * 6
    alone = Counted(volumes(5))
    voxel_gram(alone, mask=np.ones(SHAPE, dtype=bool))
    assert alone.reads.tolist() == [1] * 5


def test_progress_counts_the_reads_to_the_end(block):
    calls = []
    voxel_gram(volumes(5), progress=lambda done, total: calls.append((done, total)))
    voxel_gram(volumes(5), volumes(4), progress=lambda done, total: calls.append((done, total)))
    first_end = next(i for i, (done, total) in enumerate(calls) if done == total) + 1
    for part in (calls[:first_end], calls[first_end:]):
        assert [done for done, _ in part] == list(range(1, part[0][1] + 1))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"others": np.zeros((2, 4, 3, 6), dtype=np.float32)}, r"others\[0\] of shape 4x3x6"),
        ({"mask": np.ones((4, 3, 6), dtype=bool)}, r"volumes\[0\] of shape 4x3x5.*grid is 4x3x6"),
        ({"mask": np.zeros(SHAPE, dtype=bool)}, "at least 1 voxel"),
        ({"volumes": np.zeros((0, *SHAPE), dtype=np.float32)}, "volumes must hold at least 1"),
        ({"others": np.zeros((0, *SHAPE), dtype=np.float32)}, "others must hold at least 1"),
    ],
)
def test_what_cannot_be_multiplied_is_named(change, found):
    arguments = {"volumes": volumes(3), "others": volumes(2), **change}
    with pytest.raises(MetricError, match=found):
        voxel_gram(arguments.pop("volumes"), **arguments)


def test_a_volume_with_nan_is_named():
    x = volumes(3)
    x[2, 1, 1, 1] = np.nan
    with pytest.raises(MetricError, match=r"volumes\[2\] holds NaN"):
        voxel_gram(x)
    with pytest.raises(MetricError, match=r"others\[2\] holds NaN"):
        voxel_gram(volumes(2), x)
