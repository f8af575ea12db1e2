"""The populations of the coverage study, and the record of a cell."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rank", [2, 32, 200, 512])
def test_spectrum_has_the_effective_rank(cells, rank):
    """That is (sum lambda)^2 / sum lambda^2; and the eigenvalues sum to the dimension."""
    values = cells.spectrum(rank, 512)
    assert values.sum() ** 2 / (values**2).sum() == pytest.approx(rank, rel=1e-6)
    assert values.sum() == pytest.approx(512)


@pytest.mark.parametrize("regime", ["mean shift", "spread change", "t3, mean shift"])
def test_population_mmd2_is_the_limit_of_direct_sums(cells, regime):
    """E k(x, x') + E k(y, y') - 2 E k(x, y), averaged over 400,000 independent pairs of each.

    The kernel lies in (0, 1], so each of the four averages has a standard error below
    0.5 / sqrt(400,000) = 0.0008, and their sum one below 0.0032.
    """
    eigenvalues = cells.spectrum(2, 6)
    chosen = cells.REGIMES[regime]
    rng = np.random.default_rng(1)
    x, y = cells.simulate(400_000, chosen, eigenvalues, rng)
    x2, y2 = cells.simulate(400_000, chosen, eigenvalues, rng)
    bandwidth = 2.5

    def mean_kernel(a, b):
        return np.exp(-((a - b) ** 2).sum(axis=1) / (2 * bandwidth**2)).mean()

    direct = mean_kernel(x, x2) + mean_kernel(y, y2) - mean_kernel(x, y2) - mean_kernel(x2, y)
    expected = cells.population_mmd2(chosen, eigenvalues)(bandwidth)
    assert expected == pytest.approx(direct, abs=0.003)
    assert expected > 0.015


@pytest.mark.parametrize("regime", ["null", "t3, null"])
def test_population_mmd2_is_zero_between_equal_distributions(cells, regime):
    mmd2_at = cells.population_mmd2(cells.REGIMES[regime], cells.spectrum(3, 8))
    assert mmd2_at(3.0) == pytest.approx(0, abs=1e-12)


def test_population_mmd2_of_nearly_gaussian_t(cells):
    """With many degrees of freedom t is Gaussian: the table must meet the closed form."""
    eigenvalues = cells.spectrum(4, 16)
    t = cells.population_mmd2(cells.Regime(shift=0.5, degrees=1e5), eigenvalues)
    gaussian = cells.population_mmd2(cells.Regime(shift=0.5), eigenvalues)
    for bandwidth in (2.0, 5.66, 20.0):
        assert t(bandwidth) == pytest.approx(gaussian(bandwidth), rel=1e-3)


def test_population_fid(cells):
    """One axis of variance 4: means 1 apart (0.5 sd), and sds 2 and 1.2: 1 + 0.8^2."""
    regime = cells.Regime(shift=0.5, spread=0.6)
    assert cells.population_fid(regime, np.array([4.0])) == pytest.approx(1 + 0.64)


def test_similarity_is_one_with_itself(cells):
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    pairs = cells.similarity(rows, 0.5)
    # (2 + 0.5) / (2 + 0.5) and (-2 + 0.5) / (2 + 0.5)
    np.testing.assert_allclose(pairs, [[1, 1, -0.6], [1, 1, -0.6], [-0.6, -0.6, 1]])


def test_tiny_cell_records_coverages(cells, tiny_cell):
    record = cells.run_cell(tiny_cell(), reps=20, seed=0)
    assert json.loads(json.dumps(record))["name"] == "n=12 r=32 mean shift"
    assert set(record["intervals"]) == {"mmd2", "ms_ssim", "fid", "fid population", "kid"}
    for metric, summary in record["intervals"].items():
        assert summary["reps"] == (10 if metric.startswith("fid") else 20)
        counts = summary["covered"] + summary["below"] + summary["above"]
        assert counts == summary["reps"]
        assert 0 <= summary["covered"] / summary["reps"] <= 1
        assert summary["width"] > 0


def test_cell_depends_on_the_seed_only(cells, tiny_cell):
    cell = tiny_cell(metrics=("mmd2",))
    first, again, other = (
        cells.run_cell(cell, reps=3, seed=seed)["intervals"] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
