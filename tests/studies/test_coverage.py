"""The validity study in studies/coverage.py: its populations, its bookkeeping and its gate."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "studies" / "coverage.py"


@pytest.fixture(scope="module")
def study() -> Iterator[ModuleType]:
    """The script as a module; it is no part of the package."""
    spec = importlib.util.spec_from_file_location("coverage_study", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def tiny_cell(study: ModuleType, **changes: Any) -> Any:
    settings = {
        "n": 12,
        "rank": 32,
        "regime": "mean shift",
        "metrics": ("mmd2", "ms_ssim", "fid", "kid"),
        "resamples": 50,
        "fid_every": 2,
    }
    return study.Cell(**{**settings, **changes})


@pytest.mark.parametrize("rank", [2, 32, 200, 512])
def test_spectrum_has_the_effective_rank(study, rank):
    """That is (sum lambda)^2 / sum lambda^2; and the eigenvalues sum to the dimension."""
    values = study.spectrum(rank, 512)
    assert values.sum() ** 2 / (values**2).sum() == pytest.approx(rank, rel=1e-6)
    assert values.sum() == pytest.approx(512)


@pytest.mark.parametrize("regime", ["mean shift", "spread change", "t3, mean shift"])
def test_population_mmd2_is_the_limit_of_direct_sums(study, regime):
    """E k(x, x') + E k(y, y') - 2 E k(x, y), averaged over 400,000 independent pairs of each.

    The kernel lies in (0, 1], so each of the four averages has a standard error below
    0.5 / sqrt(400,000) = 0.0008, and their sum one below 0.0032.
    """
    eigenvalues = study.spectrum(2, 6)
    chosen = study.REGIMES[regime]
    rng = np.random.default_rng(1)
    x, y = study.simulate(400_000, chosen, eigenvalues, rng)
    x2, y2 = study.simulate(400_000, chosen, eigenvalues, rng)
    bandwidth = 2.5

    def mean_kernel(a, b):
        return np.exp(-((a - b) ** 2).sum(axis=1) / (2 * bandwidth**2)).mean()

    direct = mean_kernel(x, x2) + mean_kernel(y, y2) - mean_kernel(x, y2) - mean_kernel(x2, y)
    expected = study.population_mmd2(chosen, eigenvalues)(bandwidth)
    assert expected == pytest.approx(direct, abs=0.003)
    assert expected > 0.015


@pytest.mark.parametrize("regime", ["null", "t3, null"])
def test_population_mmd2_is_zero_between_equal_distributions(study, regime):
    mmd2_at = study.population_mmd2(study.REGIMES[regime], study.spectrum(3, 8))
    assert mmd2_at(3.0) == pytest.approx(0, abs=1e-12)


def test_population_mmd2_of_nearly_gaussian_t(study):
    """With many degrees of freedom t is Gaussian: the table must meet the closed form."""
    eigenvalues = study.spectrum(4, 16)
    t = study.population_mmd2(study.Regime(shift=0.5, degrees=1e5), eigenvalues)
    gaussian = study.population_mmd2(study.Regime(shift=0.5), eigenvalues)
    for bandwidth in (2.0, 5.66, 20.0):
        assert t(bandwidth) == pytest.approx(gaussian(bandwidth), rel=1e-3)


def test_population_fid(study):
    """One axis of variance 4: means 1 apart (0.5 sd), and sds 2 and 1.2: 1 + 0.8^2."""
    regime = study.Regime(shift=0.5, spread=0.6)
    assert study.population_fid(regime, np.array([4.0])) == pytest.approx(1 + 0.64)


def test_similarity_is_one_with_itself(study):
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    pairs = study.similarity(rows, 0.5)
    # (2 + 0.5) / (2 + 0.5) and (-2 + 0.5) / (2 + 0.5)
    np.testing.assert_allclose(pairs, [[1, 1, -0.6], [1, 1, -0.6], [-0.6, -0.6, 1]])


def test_tiny_cell_records_coverages(study):
    record = study.run_cell(tiny_cell(study), reps=20, seed=0)
    assert json.loads(json.dumps(record))["name"] == "n=12 r=32 mean shift"
    assert set(record["intervals"]) == {"mmd2", "ms_ssim", "fid", "fid population", "kid"}
    for metric, summary in record["intervals"].items():
        assert summary["reps"] == (10 if metric.startswith("fid") else 20)
        counts = summary["covered"] + summary["below"] + summary["above"]
        assert counts == summary["reps"]
        assert 0 <= summary["covered"] / summary["reps"] <= 1
        assert summary["width"] > 0


def test_cell_depends_on_the_seed_only(study):
    cell = tiny_cell(study, metrics=("mmd2",))
    first, again, other = (
        study.run_cell(cell, reps=3, seed=seed)["intervals"] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_run_skips_cells_that_are_done(study, tmp_path, capsys):
    path = tmp_path / "coverage.jsonl"
    null = tiny_cell(study, regime="null", metrics=("ms_ssim",), permutations=19)
    shifted = tiny_cell(study, metrics=("ms_ssim",))
    study.run([null], path, reps=3, seed=0)
    before = path.read_text()
    study.run([null, shifted], path, reps=3, seed=0)
    assert path.read_text().startswith(before)
    assert len(study.read_records(path)) == len(path.read_text().splitlines()) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(SystemExit, match="other settings"):
        study.run([null], path, reps=4, seed=0)


@pytest.mark.parametrize(
    ("metric", "regime", "covered", "fails"),
    [
        ("mmd2", "mean shift", 1900, False),
        ("mmd2", "mean shift", 1840, False),  # 92%: binomial sd 0.6 points, 93% is within two
        ("mmd2", "mean shift", 1800, True),  # 90%
        ("mmd2", "mean shift", 1970, True),  # 98.5%
        ("mmd2", "null", 1970, False),
        ("mmd2", "null", 1998, True),
        ("mmd2", "small spread change", 1970, False),  # nearly degenerate too
        ("ms_ssim", "null", 1970, True),  # the similarity gap is not degenerate
        ("fid", "mean shift", 1000, False),  # printed only
    ],
)
def test_gate(study, metric, regime, covered, fails):
    target = {"null": 0.0, "small spread change": 0.002, "mean shift": 0.05}[regime]
    summary = {"covered": covered, "reps": 2000, "target": target, "sd": 0.01}
    record = {"name": "cell", "regime": regime, "intervals": {metric: summary}}
    assert bool(study.failures([record])) is fails


def test_command_exits_1_where_an_interval_undercovers(study, tmp_path, capsys):
    """A record with 90% of 2,000 covered fails; the page that is rendered says so."""
    cell = next(study.cells([30]))
    record = study.run_cell(tiny_cell(study, n=30, rank=2, regime="null"), 4, 0)
    good = {**record["intervals"]["mmd2"], "covered": 1900, "reps": 2000}
    path, page = tmp_path / "coverage.jsonl", tmp_path / "coverage.md"
    arguments = ["--n", "30", "--out", str(path), "--report", str(page)]
    for covered, status in ((1900, 0), (1800, 1)):
        intervals = {"mmd2": {**good, "covered": covered}}
        path.write_text(json.dumps({**record, "name": cell.name, "intervals": intervals}) + "\n")
        assert study.main(arguments) == status
    assert "n=30 r=2 null: mmd2 covers 90.0%" in capsys.readouterr().out
    assert "**The gate fails:**" in page.read_text()
    assert "| 30 | 2 | null | 2000 |" in page.read_text()
