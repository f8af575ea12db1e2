"""Speed study: time and memory of the feature metrics of large sets, a row per family.

Usage: python studies/large_sets.py --n 1000 10000 --d 512
       python studies/large_sets.py --n 20000 --d 64 --family mmd2 kid --max-memory 2GiB
       python studies/large_sets.py --n 100 1000 10000 --family memorization
       python studies/large_sets.py --n 100000 --d 2048 --together --pairs sums --out values.json

Each family is scored as `synthbench score` scores it: settings frozen on the real features, value,
interval, real-vs-real floor and the value at the floor's n, and the p-value. Prints a table of
seconds of processor time (OMP_NUM_THREADS=1: of one core), the largest resident memory, and the
exponent of time between the last two sizes. Features are random numbers. Each family has a process
of its own, unless --together scores all in one, as `synthbench score` does: then precision, recall,
density and coverage share their neighbours. With --pairs a run that was stopped goes on. The family
"memorization" has n training, n hold-out and n synthetic images, mirrored too, and all its tests.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from synthbench import registry
from synthbench.metrics.inference import contracts, floors, intervals, resampling, sections
from synthbench.metrics.memorization import Memorization
from synthbench.metrics.nearest.lists import copy_distances
from synthbench.runtime.memory import VARIABLE
from synthbench.scoring.cache.pairs import PairSums
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
    seconds, wall
        Processor time of the whole family, and the time that passed.
    steps
        Processor time of each step.
    before, peak
        Resident memory in GiB: with the features, and the largest.
    found
        The numbers.
    """

    seconds: float
    wall: float
    steps: dict[str, float]
    before: float
    peak: float
    found: dict[str, float]


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Return correlated normal features in float32, as an extractor gives them."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d), dtype=np.float32)
    rows *= np.linspace(1, 0.05, d, dtype=np.float32)
    return rows + np.float32(shift)


def peak_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cost(family: str, sets: tuple[np.ndarray, np.ndarray], chosen: argparse.Namespace) -> Cost:
    """Score one family as `synthbench score` does, without some of the steps "p" and "floor"."""
    (real, synth), n = sets, len(sets[0])
    before, steps = peak_gib(), {}
    clock, started = [time.process_time()], (time.process_time(), time.perf_counter())

    def done(step: str) -> None:
        clock.append(time.process_time())
        steps[step] = clock[-1] - clock[-2]

    metric = registry.load("metrics", family)()
    large = n > resampling.LARGE_SET
    splits = LARGE_FLOOR_SPLITS if large else FLOOR_SPLITS
    permutations = LARGE_PERMUTATIONS if large else PERMUTATIONS
    if isinstance(metric, Memorization):
        train, mirrored = features(n, chosen.d, 2), features(n, chosen.d, 3, shift=0.02)
        distances = copy_distances(synth, train, real, mirrored)
        done("distances")
        assessed = metric.assess(distances, permutations=permutations, seed=0)
        done("tests")
        now = time.process_time(), time.perf_counter()
        found = {"authentic": assessed.auth_pct}
        return Cost(now[0] - started[0], now[1] - started[1], steps, before, peak_gib(), found)
    settings = metric.freeze(real, None)
    done("settings")
    statistic = metric.prepare(real, synth, **settings)
    if isinstance(statistic, contracts.Foresighted) and "floor" not in chosen.without:
        statistic.ahead(floors.matched_weights(statistic, n // 2, splits, 0))
    found = {"value": resampling.estimate(statistic)}
    resampling.magnitude(statistic)
    done("value")
    method = (large and getattr(metric, "large_interval", None)) or metric.interval
    interval = intervals.interval(statistic, method, resamples=chosen.resamples, seed=0)
    found |= {"low": interval.low, "high": interval.high}
    done("interval")
    if "p" not in chosen.without:
        p = metric.p_value(real, synth, permutations=permutations, seed=0, **settings)
        found |= {} if p is None else {"p": p}
        done("p")
    if "floor" not in chosen.without:
        floor = floors.floor(
            metric.prepare(real, real, **settings), n=n // 2, splits=splits, seed=0
        )
        matched = floors.matched(statistic, n // 2, repeats=splits, seed=0)
        found |= {"floor low": floor.low, "floor high": floor.high, "at floor's n": matched.mean}
        done("floor")
    now = time.process_time(), time.perf_counter()
    return Cost(now[0] - started[0], now[1] - started[1], steps, before, peak_gib(), found)


def costs_of(families: Sequence[str], n: int, chosen: argparse.Namespace) -> list[Cost]:
    """Score some families in this process, one after the other."""
    sets = features(n, chosen.d, 0), features(n, chosen.d, 1, shift=0.02)
    pairs = None if chosen.pairs is None else PairSums.opened(chosen.pairs)
    with sections.kept_by(pairs):
        found = []
        for family in families:
            found.append(cost(family, sets, chosen))
            print(f"{family}: {found[-1].seconds:.0f} s", file=sys.stderr, flush=True)
        return found


def measured(families: Sequence[str], n: int, chosen: argparse.Namespace) -> list[Cost]:
    """Return `costs_of` a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(costs_of, families, n, chosen).result()


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
    parser.add_argument("--together", action="store_true", help="all families in one process")
    parser.add_argument("--pairs", type=Path, help="as of synthbench score")
    parser.add_argument("--out", type=Path, help="the numbers, to the last bit (JSON)")
    chosen = parser.parse_args(arguments)
    if chosen.max_memory:
        os.environ[VARIABLE] = chosen.max_memory
    sizes = sorted(chosen.n)
    groups = [chosen.family] if chosen.together else [[family] for family in chosen.family]
    head = [f"n = {n:,}: {what}" for n in sizes for what in ("s", "wall s", "GiB")]
    print(f"d = {chosen.d:,}\n\n| | {' | '.join(head)} | exponent of time |")
    print("| --- |" + " ---: |" * (len(head) + 1), flush=True)
    numbers: dict[str, dict[str, str]] = {}
    for families in groups:
        by_size = [measured(families, n, chosen) for n in sizes]
        for place, family in enumerate(families):
            costs = [found[place] for found in by_size]
            cells = [c for one in costs for c in (*map(short, (one.seconds, one.wall)), gib(one))]
            slope = exponent(sizes, [c.seconds for c in costs])
            label = registry.load("metrics", family).label
            print(f"| {label} | {' | '.join(cells)} | {slope} |", flush=True)
            for n, c in zip(sizes, costs, strict=True):
                steps = ", ".join(f"{step} {taken:.3g}" for step, taken in c.steps.items())
                print(f"{family}, n = {n}: {steps}; before {c.before:.2f} GiB", file=sys.stderr)
                numbers[f"{family}, n = {n}"] = {k: float(v).hex() for k, v in c.found.items()}
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(numbers, indent=1) + "\n")


def short(seconds: float) -> str:
    """Return seconds with three digits."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"


def gib(one: Cost) -> str:
    """Return the largest resident memory with two digits."""
    return f"{one.peak:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
