"""Speed study: time and memory of the feature metrics of large sets, a row per family.

Usage: python studies/large_sets.py --n 1000 10000 --d 512
       python studies/large_sets.py --n 20000 --d 64 --family mmd2 kid --max-memory 2GiB
       python studies/large_sets.py --n 100 1000 10000 --family memorization

Each family is scored in a process of its own, as `synthbench score` scores it: settings frozen on
the real features, value, interval, real-vs-real floor and the value at the floor's n, and the
p-value. The family "memorization" has n training, n hold-out and n synthetic images, mirrored too,
and all its tests. Prints a table of seconds of processor time (OMP_NUM_THREADS=1: of one core), the
largest resident memory, and the exponent of time between the last two sizes. Features are random
numbers.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from synthbench import registry
from synthbench.metrics.inference import floors, intervals, resampling
from synthbench.metrics.memorization import Memorization
from synthbench.metrics.nearest.lists import copy_distances
from synthbench.runtime.memory import VARIABLE
from synthbench.scoring.protocol import (
    FLOOR_SPLITS,
    LARGE_FLOOR_SPLITS,
    LARGE_PERMUTATIONS,
    PERMUTATIONS,
)

FAMILIES = ("mmd2", "kid", "fid", "precision", "recall", "density", "coverage")
RESAMPLES = 1000


@dataclass(frozen=True)
class Cost:
    """What one family took.

    Attributes
    ----------
    seconds
        Processor time of the whole family.
    steps
        Seconds of each step.
    before, peak
        Resident memory in GiB: with the features, and the largest.
    """

    seconds: float
    steps: dict[str, float]
    before: float
    peak: float


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Return correlated normal features in float32, as an extractor gives them."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d), dtype=np.float32)
    rows *= np.linspace(1, 0.05, d, dtype=np.float32)
    return rows + np.float32(shift)


def peak_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cost(family: str, n: int, d: int, resamples: int, steps_left_out: Sequence[str]) -> Cost:
    """Score one family as `synthbench score` does, without some of the steps "p" and "floor"."""
    real, synth = features(n, d, 0), features(n, d, 1, shift=0.02)
    before, steps = peak_gib(), {}
    started = last = time.process_time()

    def done(step: str) -> None:
        nonlocal last
        now = time.process_time()
        steps[step], last = now - last, now

    metric = registry.load("metrics", family)()
    large = n > resampling.LARGE_SET
    if isinstance(metric, Memorization):
        train, mirrored = features(n, d, 2), features(n, d, 3, shift=0.02)
        before = peak_gib()
        distances = copy_distances(synth, train, real, mirrored)
        done("distances")
        permutations = LARGE_PERMUTATIONS if large else PERMUTATIONS
        metric.assess(distances, permutations=permutations, seed=0)
        done("tests")
        return Cost(time.process_time() - started, steps, before, peak_gib())
    splits = LARGE_FLOOR_SPLITS if large else FLOOR_SPLITS
    permutations = LARGE_PERMUTATIONS if large else PERMUTATIONS
    settings = metric.freeze(real, None)
    done("settings")
    statistic = metric.prepare(real, synth, **settings)
    resampling.estimate(statistic)
    resampling.magnitude(statistic)
    done("value")
    intervals.interval(statistic, metric.interval, resamples=resamples, seed=0)
    done("interval")
    if "p" not in steps_left_out:
        metric.p_value(real, synth, permutations=permutations, seed=0, **settings)
        done("p")
    if "floor" not in steps_left_out:
        against_itself = metric.prepare(real, real, **settings)
        floors.floor(against_itself, n=n // 2, splits=splits, seed=0)
        floors.matched(statistic, n // 2, repeats=splits, seed=0)
        done("floor")
    return Cost(time.process_time() - started, steps, before, peak_gib())


def measured(family: str, n: int, d: int, resamples: int, left_out: Sequence[str]) -> Cost:
    """Return `cost` of a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(cost, family, n, d, resamples, left_out).result()


def exponent(sizes: Sequence[int], values: Sequence[float]) -> str:
    """Return the slope of the logarithm between the last two sizes."""
    if len(sizes) < 2:
        return ""
    slope = np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2])
    return f"{slope:.1f}"


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 10_000], help="images per side")
    parser.add_argument("--d", type=int, default=512, help="features")
    parser.add_argument("--family", nargs="+", default=list(FAMILIES))
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--without", nargs="+", choices=("p", "floor"), default=[])
    parser.add_argument("--max-memory", help="as of synthbench score")
    chosen = parser.parse_args(arguments)
    if chosen.max_memory:
        os.environ[VARIABLE] = chosen.max_memory
    sizes = sorted(chosen.n)
    head = [f"n = {n:,}: {what}" for n in sizes for what in ("s", "GiB")]
    print(f"d = {chosen.d:,}\n\n| | {' | '.join(head)} | exponent of time |")
    print("| --- |" + " ---: |" * (len(head) + 1), flush=True)
    for family in chosen.family:
        costs = [measured(family, n, chosen.d, chosen.resamples, chosen.without) for n in sizes]
        cells = [cell for c in costs for cell in (f"{c.seconds:.3g}", f"{c.peak:.2f}")]
        slope = exponent(sizes, [c.seconds for c in costs])
        label = registry.load("metrics", family).label
        print(f"| {label} | {' | '.join(cells)} | {slope} |", flush=True)
        for n, c in zip(sizes, costs, strict=True):
            steps = ", ".join(f"{step} {taken:.3g}" for step, taken in c.steps.items())
            print(f"{family}, n = {n}: {steps}; before {c.before:.2f} GiB", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
