"""The Haar transform against its matrix, and what makes it exact."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch

from synthbench.generators.networks.haar import haar, inverse_haar

RNG = np.random.default_rng(0)


def matrix(n):
    """Rows of sums, then rows of differences, of the neighbours of a line of n."""
    pairs = np.arange(0, n, 2)
    rows = np.zeros((2, n // 2, n))
    for row, place in enumerate(pairs):
        rows[0, row, place : place + 2] = [1, 1]
        rows[1, row, place : place + 2] = [1, -1]
    return rows / np.sqrt(2)


def test_each_band_is_the_product_of_one_matrix_per_axis():
    volume = RNG.normal(size=(4, 6, 8))
    found = haar(torch.from_numpy(volume)[None, None]).numpy()[0]
    by_axis = [matrix(n) for n in volume.shape]
    for band in range(8):
        bits = [band >> 2 & 1, band >> 1 & 1, band & 1]
        expected = np.einsum(
            "ai,bj,ck,ijk->abc", *(m[b] for m, b in zip(by_axis, bits, strict=True)), volume
        )
        assert np.allclose(found[band], expected)


def test_the_inverse_is_exact_and_energy_and_inner_products_are_kept():
    one, other = (torch.from_numpy(RNG.normal(size=(2, 3, 4, 6, 2))) for _ in range(2))
    assert torch.allclose(inverse_haar(haar(one)), one, atol=1e-12)
    bands = torch.from_numpy(RNG.normal(size=(2, 24, 2, 3, 1)))
    assert torch.allclose(haar(inverse_haar(bands)), bands, atol=1e-12)
    assert np.isclose((haar(one) * haar(other)).sum(), (one * other).sum())
    sizes = haar(one).shape
    assert reduce(lambda a, b: a * b, sizes) == one.numel()
