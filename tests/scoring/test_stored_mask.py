"""The mask in a benchmark's file: packed bits, deflated, base64, of a bounded size."""

from __future__ import annotations

import base64
import tracemalloc
import zlib

import numpy as np
import pytest

from synthbench.scoring.benchmark import packed_mask, unpacked_mask

SHAPE = (7, 5, 3)
MASK = np.random.default_rng(0).random(SHAPE) > 0.5


def packed(content, level=9):
    return base64.b64encode(zlib.compress(content, level)).decode()


def test_a_mask_is_read_back():
    np.testing.assert_array_equal(unpacked_mask(packed_mask(MASK), SHAPE), MASK)


def test_a_mask_of_gigabytes_of_zeros_stops_after_what_its_grid_has():
    """100 MB of zeros in 97 kB, for a grid of 105 voxels: 14 bytes."""
    text = packed(bytes(10**8))
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 14 bytes for 105 voxels"):
        unpacked_mask(text, SHAPE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (packed(bytes(13)), SHAPE),
        (packed(bytes(14))[:8], SHAPE),
        (base64.b64encode(zlib.compress(bytes(14)) + b"x").decode(), SHAPE),
        (packed(bytes(14)), (10**6, 10**6, 10**6)),
        (packed(b""), (0, 5, 3)),
        (packed(bytes(14)), (-7, -5, 3)),
        ("no base64!", SHAPE),
        ("é", SHAPE),
    ],
)
def test_what_is_no_mask_of_the_grid_is_refused(text, shape):
    with pytest.raises((ValueError, zlib.error)):
        unpacked_mask(text, shape)
