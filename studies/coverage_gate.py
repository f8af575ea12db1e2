"""The gate of the coverage study: the coverages that a nominal 95% interval may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scipy.stats import binomtest

BAND = (0.93, 0.97)
DEGENERATE_BAND = (0.93, 0.99)
NEAR_NULL = 2.0
GATED = ("mmd2", "ms_ssim")


def band(metric: str, summary: Mapping[str, float]) -> tuple[float, float]:
    """Return the allowed range of coverages; it is wider where MMD^2 is degenerate.

    MMD^2 is degenerate at the null, and nearly so where the effect is within `NEAR_NULL` standard
    deviations of the estimate.
    """
    near_null = abs(summary["target"]) <= NEAR_NULL * summary["sd"]
    return DEGENERATE_BAND if metric == "mmd2" and near_null else BAND


def monte_carlo_interval(count: int, reps: int) -> tuple[float, float]:
    """Return the 95% Clopper-Pearson interval of a simulated probability."""
    ends = binomtest(count, reps).proportion_ci(0.95, method="exact")
    return float(ends.low), float(ends.high)


def verdict(covered: int, reps: int, allowed: tuple[float, float]) -> str:
    """Return "inside", "outside", or "edge": outside by no more than the Monte Carlo error."""
    if allowed[0] <= covered / reps <= allowed[1]:
        return "inside"
    low, high = monte_carlo_interval(covered, reps)
    return "outside" if high < allowed[0] or low > allowed[1] else "edge"


def failures(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line per gated interval whose coverage is outside its band."""
    lines = []
    for record in records:
        for metric in GATED:
            summary = record["intervals"].get(metric)
            if summary is None:
                continue
            allowed = band(metric, summary)
            if verdict(summary["covered"], summary["reps"], allowed) == "outside":
                lines.append(
                    f"{record['name']}: {metric} covers "
                    f"{summary['covered'] / summary['reps']:.1%}; "
                    f"{allowed[0]:.0%} to {allowed[1]:.0%} are allowed"
                )
    return lines
