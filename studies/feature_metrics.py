"""Speed study: time and memory of the feature metrics.

Usage: python studies/feature_metrics.py all
       python studies/feature_metrics.py point | resamples | scaling
       python studies/feature_metrics.py large --n 10000

Prints the section "Feature metrics" of docs/speed.md, or one of its tables, as Markdown. Run it on
an otherwise idle machine: `all` takes about ten minutes on two cores and 4 GiB of memory. Features
are random numbers, because no time depends on their values.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import scipy
from jaxtyping import Float32, Float64

from synthbench import registry
from synthbench.metrics.fid import FID, fid
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import IntervalMethod, Metric, Statistic
from synthbench.metrics.mmd import KID, MMD2
from synthbench.metrics.msssim import MSSSIM

PAPER_N, PAPER_D = 86, 2048
"""86 volumes per side, as in published tables; 2,048 features, as of a ResNet-50."""

RESAMPLES = 1000

SIZES = (60, 120, 240, 480, 960)
SIZES_AT_D = 1024
WIDTHS = (128, 256, 512, 1024, 2048, 4096)
WIDTHS_AT_N = 100

FITTED = 3
"""The largest sizes, to which the exponent is fitted: fixed costs weigh least there."""

WORDS = {1: "one", 2: "two", 4: "four", 8: "eight", 16: "sixteen"}

Features = Float32[np.ndarray, "n d"]


# Material


def features(n: int, d: int, seed: int, shift: float = 0.0) -> Features:
    """Return normal features in float32, as an extractor gives them."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d), dtype=np.float32) + np.float32(shift)


def both_sets(n: int, d: int) -> tuple[Features, Features]:
    """Return a real and a synthetic set of equal size."""
    return features(n, d, seed=0), features(n, d, seed=1, shift=0.1)


def pair_matrix(n: int, seed: int) -> Float64[np.ndarray, "n n"]:
    """Return a symmetric matrix with values in [0, 1], in place of one of MS-SSIM."""
    values = np.random.default_rng(seed).uniform(size=(n, n))
    return (values + values.T) / 2


def sqrtm_route(x: Features, y: Features) -> float:
    """Return the Frechet distance in the usual way, by the root of a product of covariances."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    cov_x, cov_y = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(axis=0) - b.mean(axis=0)
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    return float(shift @ shift + np.trace(cov_x) + np.trace(cov_y) - 2 * np.trace(root))


# Measuring


def seconds(function: Callable[[], object], repeats: int = 1) -> float:
    """Return the shortest time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def quick_seconds(function: Callable[[], object]) -> float:
    """Return the shortest time of five runs after a first one; of one run where it is long."""
    first = seconds(function)
    return seconds(function, repeats=5) if first < 0.5 else first


def with_interval(statistic: Statistic, method: IntervalMethod, repeats: int) -> None:
    """Compute the value and its interval."""
    estimate(statistic)
    interval(statistic, method, resamples=repeats, seed=0)


def scored(make: Callable[[], Statistic], method: IntervalMethod) -> None:
    """Compute matrices, value and interval."""
    with_interval(make(), method, RESAMPLES)


def exponent(sizes: Sequence[int], times: Sequence[float]) -> float:
    """Return the slope of log time on log size over the largest sizes, by least squares."""
    return float(np.polyfit(np.log(sizes[-FITTED:]), np.log(times[-FITTED:]), 1)[0])


# The tables


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns after the first are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def duration_text(duration: float) -> str:
    """Return a duration as text: in ms below a second, else in s."""
    return f"{1000 * duration:.3g} ms" if duration < 0.9995 else f"{duration:.3g} s"


def point() -> str:
    """Return the section on the Frechet distance without an interval, by two methods."""
    x, y = both_sets(PAPER_N, PAPER_D)
    fid(x, y)
    fast = seconds(lambda: fid(x, y), repeats=10)
    start = time.perf_counter()
    reference = sqrtm_route(x, y)
    slow = time.perf_counter() - start
    rows = [
        ("singular values of an n x m matrix (`fid`)", duration_text(fast), f"{fid(x, y):.6f}"),
        ("`scipy.linalg.sqrtm` of a d x d matrix", duration_text(slow), f"{reference:.6f}"),
    ]
    return "\n".join(
        [
            f"### One Frechet distance, n = {PAPER_N}, d = {PAPER_D:,}",
            "",
            table(("route", "time", "value"), rows),
            "",
            f"That is {slow / fast:,.0f} times faster, for the same number.",
        ]
    )


def resamples() -> str:
    """Return the section on values with intervals at the size of published tables."""
    x, y = both_sets(PAPER_N, PAPER_D)
    pairs = pair_matrix(PAPER_N, seed=0), pair_matrix(PAPER_N, seed=1)
    cases: dict[str, tuple[Callable[[], Statistic], IntervalMethod]] = {
        "MMD², studentized": (lambda: MMD2().prepare(x, y), MMD2.interval),
        "KID, studentized": (lambda: KID().prepare(x, y), KID.interval),
        "FID, percentile": (lambda: FID().prepare(x, y), "percentile"),
        "MS-SSIM gap from pair matrices, studentized": (
            lambda: MSSSIM().prepare(*pairs),
            MSSSIM.interval,
        ),
    }
    times = {}
    for name, (make, method) in cases.items():
        times[name] = quick_seconds(partial(scored, make, method))
    jackknife = quick_seconds(partial(scored, cases["FID, percentile"][0], FID.interval))
    rows = [
        *((name, duration_text(taken)) for name, taken in times.items()),
        ("**together**", f"**{duration_text(sum(times.values()))}**"),
        (f"FID, its default: delete-one jackknife, {2 * PAPER_N} values", duration_text(jackknife)),
    ]
    return "\n".join(
        [
            f"### {RESAMPLES:,} resamples, n = {PAPER_N}, d = {PAPER_D:,}",
            "",
            "Kernel or Gram matrices, value and interval:",
            "",
            table(("metric and interval", "time"), rows),
        ]
    )


@dataclass(frozen=True)
class Cost:
    """Seconds of one metric at large n."""

    prepare: float
    interval: float


def large_costs(n: int, d: int, repeats: int) -> tuple[dict[str, Cost], float]:
    """Return each metric's cost, and the peak memory of the process in GiB."""
    x, y = both_sets(n, d)
    costs = {}
    for metric in (FID(), KID(), MMD2()):
        start = time.perf_counter()
        statistic = metric.prepare(x, y, **metric.freeze(x, None))
        prepared = time.perf_counter()
        with_interval(statistic, metric.interval, repeats)
        costs[metric.label] = Cost(prepared - start, time.perf_counter() - prepared)
        # Before the next metric computes matrices of its own.
        del statistic
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return costs, peak_kib / 2**20


def large(n: int = 10_000, d: int = PAPER_D, repeats: int = RESAMPLES) -> str:
    """Return the section on large sets; their own process makes the peak memory theirs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        costs, peak = process.submit(large_costs, n, d, repeats).result()
    rows = [
        (
            label,
            duration_text(c.prepare),
            duration_text(c.interval),
            duration_text(c.prepare + c.interval),
        )
        for label, c in costs.items()
    ]
    total = sum(c.prepare + c.interval for c in costs.values())
    rows.append(("**together**", "", "", f"**{duration_text(total)}**"))
    return "\n".join(
        [
            f"### Large sets, n = {n:,} against {n:,}, d = {d:,}",
            "",
            "Default intervals: the infinitesimal jackknife for FID, "
            f"{repeats:,} studentized resamples for the others.",
            "",
            table(("metric", "matrices", "value and interval", "sum"), rows),
            "",
            f"Peak memory of the process: {peak:.2f} GiB.",
        ]
    )


def registered() -> dict[str, Metric]:
    """Return every registered metric of features, by its label."""
    metrics = [registry.load("metrics", name)() for name in registry.names("metrics")]
    return {metric.label: metric for metric in metrics if metric.needs == "features"}


def prepared(metric: Metric, n: int, d: int) -> Statistic:
    """Return the metric's statistic, with its settings from the real set."""
    x, y = both_sets(n, d)
    return metric.prepare(x, y, **metric.freeze(x.astype(np.float64), np.arange(n)))


def value_seconds(metric: Metric, n: int, d: int) -> float:
    """Return the seconds from features to the value."""
    return quick_seconds(lambda: estimate(prepared(metric, n, d)))


def interval_seconds(metric: Metric, n: int, d: int) -> float:
    """Return the seconds of the default interval, without those of the matrices."""
    statistic = prepared(metric, n, d)
    return quick_seconds(lambda: interval(statistic, metric.interval, resamples=RESAMPLES, seed=0))


def growth_row(label: str, sizes: Sequence[int], times: Sequence[float]) -> tuple[str, ...]:
    """Return a row of times and their exponent."""
    return (label, *map(duration_text, times), f"{exponent(sizes, times):.1f}")


def scaling() -> str:
    """Return the section on how time grows with n and with d."""
    by_n, by_d = [], []
    for label, metric in registered().items():
        values = [value_seconds(metric, n, SIZES_AT_D) for n in SIZES]
        by_n.append(growth_row(f"{label}, value", SIZES, values))
        intervals = [interval_seconds(metric, n, SIZES_AT_D) for n in SIZES]
        by_n.append(growth_row(f"{label}, interval", SIZES, intervals))
        values = [value_seconds(metric, WIDTHS_AT_N, d) for d in WIDTHS]
        by_d.append(growth_row(f"{label}, value", WIDTHS, values))
    return "\n".join(
        [
            "### Growth with n and d",
            "",
            "A value is timed from the features. A default interval is timed without the matrices "
            "that the value took. The exponent is the slope of log time on log size over the last "
            f"{FITTED} columns. FID's interval leaves out one image after the other up to n = 200 "
            "and differentiates beyond that.",
            "",
            f"Against n, at d = {SIZES_AT_D:,}:",
            "",
            table(("", *(f"{n:,}" for n in SIZES), "exponent"), by_n),
            "",
            f"Against d, at n = {WIDTHS_AT_N}; intervals do not depend on d:",
            "",
            table(("", *(f"{d:,}" for d in WIDTHS), "exponent"), by_d),
        ]
    )


def setting(command: str) -> str:
    """Return the command and the machine, for the line above the tables."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    noun = "core" if cores == 1 else "cores"
    machine = platform.machine().replace("x86_64", "x86-64")
    return (
        f"`python studies/feature_metrics.py {command}` on {WORDS.get(cores, str(cores))} "
        f"{machine} {noun}, no GPU, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"SciPy {scipy.__version__}; float64 throughout."
    )


def main(arguments: Sequence[str]) -> None:
    """Print the tables that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("all", "point", "resamples", "scaling"):
        verbs.add_parser(verb)
    at_large = verbs.add_parser("large")
    at_large.add_argument("--n", type=int, default=10_000, help="images per side")
    at_large.add_argument("--d", type=int, default=PAPER_D, help="features")
    at_large.add_argument("--resamples", type=int, default=RESAMPLES)
    chosen = parser.parse_args(arguments)
    sections: dict[str, Callable[[], str]] = {
        "point": point,
        "resamples": resamples,
        "large": large,
        "scaling": scaling,
    }
    if chosen.verb == "large":
        sections["large"] = lambda: large(chosen.n, chosen.d, chosen.resamples)
    names = list(sections) if chosen.verb == "all" else [chosen.verb]
    print("## Feature metrics\n\n" + setting(" ".join(arguments)))
    for name in names:
        print("\n" + sections[name](), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
