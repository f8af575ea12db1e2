"""Calibration study: how often does `synthbench utility` find an effect where there is none?

Usage: python studies/utility_calibration.py [--reps 200] [--seed 0] [--trained 40] [--tested 60]
                                            [--kind NAME ...]

There are `DIMENSION` Gaussian features, one of which differs between the classes (or contains the
number, for a regression). Every repetition draws new training sets and new test subjects, and runs
the probe, its refits and the verdict's interval as the command does. "No effect" is a statement
about training sets of this kind, not about two particular ones, so both sides of a comparison are
drawn again each time:

same size    synthetic against real: the same distribution and the same number of volumes
replaced     real + synthetic against as many real volumes, half of them shared by both
balanced     real + synthetic against real alone, where a share of the synthetic labels is flipped;
             the share is chosen first, so that right and wrong labels cancel on average
copies       real + synthetic against real alone, where the synthetic volumes are the real ones
regression   as "same size", with a number and its mean absolute error

With several numbers of `--trained` and `--tested`, all combinations are run. The table (markdown)
goes to standard output; exit 1 where a rate is above 5% by more than the
binomial interval allows. Timings are for one core: set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy.stats import binomtest

from synthbench.metrics.inference.downstream import AUC, MAE, Estimate, Measure, difference, value
from synthbench.utility.probe import Part, Task, left_out, predict

DIMENSION = 20
EFFECT = 1.5
REFITS = 50
ALPHA = 0.05


class Sizes(NamedTuple):
    """Numbers of volumes per training set, and of test subjects."""

    trained: int
    tested: int


@dataclass(frozen=True)
class Draw:
    """Volumes of one source: features and labels."""

    x: Float64[np.ndarray, "n d"]
    y: Float64[np.ndarray, " n"]

    def part(self, source: str, judged: bool = True) -> Part:
        """Return the volumes as a part that an arm is trained on."""
        return Part(source, self.x, self.y, np.arange(len(self.y)), judged)


Repetition: TypeAlias = Callable[[np.random.Generator, int, Sizes], Estimate]


def classes(rng: np.random.Generator, n: int, flipped: float = 0.0) -> Draw:
    """Return random volumes of two classes; a share of the labels is wrong."""
    y = (np.arange(n) % 2).astype(np.float64)
    x = rng.standard_normal((n, DIMENSION))
    x[:, 0] += EFFECT * (y - 0.5)
    wrong = rng.permutation(n) < round(flipped * n)
    return Draw(x, np.where(wrong, 1 - y, y))


def numbers(rng: np.random.Generator, n: int) -> Draw:
    """Return random volumes with a number, which is in one feature, with noise."""
    y = rng.standard_normal(n)
    x = rng.standard_normal((n, DIMENSION))
    x[:, 0] += EFFECT * y
    return Draw(x, y)


def compared(
    arm: list[Part], against: list[Part], test: Draw, task: Task, seed: int, refits: int = REFITS
) -> Estimate:
    """Return the difference of two arms, computed as the command does."""
    measure: Measure = AUC if task == "classification" else MAE
    sources = list({part.source: part for part in [*against, *arm]}.values())
    kept = left_out(sources, task, refits, seed)
    found = [predict(parts, test.x, task, kept, seed) for parts in (arm, against)]
    return difference(measure, found[0], found[1], test.y)


def same_size(rng: np.random.Generator, seed: int, of: Sizes) -> Estimate:
    """Synthetic against real volumes of one distribution."""
    real, synth, test = classes(rng, of.trained), classes(rng, of.trained), classes(rng, of.tested)
    return compared([synth.part("synth")], [real.part("real")], test, "classification", seed)


def replaced(rng: np.random.Generator, seed: int, of: Sizes) -> Estimate:
    """Half of the real volumes exchanged for synthetic ones of their distribution."""
    real, other, synth = (classes(rng, of.trained // 2) for _ in range(3))
    return compared(
        [real.part("real"), synth.part("synth")], [real.part("real"), other.part("other")],
        classes(rng, of.tested), "classification", seed,
    )  # fmt: skip


def balanced(flipped: float) -> Repetition:
    """Real volumes with synthetic ones of which a share is mislabelled."""

    def repetition(rng: np.random.Generator, seed: int, of: Sizes) -> Estimate:
        real, synth = classes(rng, of.trained), classes(rng, of.trained, flipped)
        return compared(
            [real.part("real"), synth.part("synth", judged=False)], [real.part("real")],
            classes(rng, of.tested), "classification", seed,
        )  # fmt: skip

    return repetition


def copies(rng: np.random.Generator, seed: int, of: Sizes) -> Estimate:
    """Real volumes with copies of themselves."""
    real = classes(rng, of.trained)
    return compared(
        [real.part("real"), real.part("synth", judged=False)], [real.part("real")],
        classes(rng, of.tested), "classification", seed,
    )  # fmt: skip


def regression(rng: np.random.Generator, seed: int, of: Sizes) -> Estimate:
    """Synthetic against real volumes of one distribution, for a number."""
    real, synth, test = numbers(rng, of.trained), numbers(rng, of.trained), numbers(rng, of.tested)
    return compared([synth.part("synth")], [real.part("real")], test, "regression", seed)


NO_EFFECT: Mapping[str, Repetition] = {
    "same size": same_size, "replaced": replaced, "copies": copies, "regression": regression,
}  # fmt: skip
KINDS = ("same size", "replaced", "balanced", "copies", "regression")


def balancing_share(reps: int, seed: int, of: Sizes) -> float:
    """Return the share of wrong labels at which synthetic volumes change nothing on average.

    It is found by bisection of the mean gain over `reps` training sets, each tested on 2000
    subjects; all shares have the same random numbers.
    """

    def gain(flipped: float) -> float:
        total = 0.0
        for rep in range(reps):
            rng = np.random.default_rng([seed, 0xBA, rep])
            test, real = classes(rng, 2000), classes(rng, of.trained).part("real")
            synth = classes(rng, of.trained, flipped).part("synth", judged=False)
            found = [
                value(AUC, predict(parts, test.x, "classification", None, rep), test.y).value
                for parts in ([real, synth], [real])
            ]
            total += found[0] - found[1]
        return total / reps

    low, high = 0.0, 0.5
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (middle, high) if gain(middle) > 0 else (low, middle)
    return (low + high) / 2


def row(name: str, repetition: Repetition, reps: int, seed: int, of: Sizes) -> tuple[str, bool]:
    """Return the row of one kind of no effect, and True where its rate is allowed."""
    began = time.perf_counter()
    found = [repetition(np.random.default_rng([seed, rep]), rep, of) for rep in range(reps)]
    alarms = sum(one.low > 0 or one.high < 0 for one in found)
    interval = binomtest(alarms, reps).proportion_ci()
    values = np.array([one.value for one in found])
    ses = np.array([one.se for one in found])
    seconds = (time.perf_counter() - began) / reps
    text = (
        f"| {name} | {of.trained} | {of.tested} | {reps} | {alarms} | {alarms / reps:.1%} "
        f"| {interval.low:.1%} to {interval.high:.1%} | {values.mean():+.4f} "
        f"| {values.std(ddof=1):.4f} | {np.sqrt((ses**2).mean()):.4f} | {seconds:.2f} |"
    )
    return text, interval.low <= ALPHA


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trained", type=int, nargs="+", default=[40], help="volumes per set")
    parser.add_argument("--tested", type=int, nargs="+", default=[60], help="test subjects")
    parser.add_argument(
        "--kind", nargs="+", choices=KINDS, default=KINDS, help="kinds of no effect"
    )
    given = parser.parse_args()
    print("| no effect | trained | tested | n | false alarms | rate | 95% CI | mean difference "
          "| its sd | root mean square se | s each |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    allowed = []
    for of in (Sizes(*sizes) for sizes in product(given.trained, given.tested)):
        for kind in given.kind:
            name = kind
            if kind == "balanced":
                flipped = balancing_share(100, given.seed, of)
                name, repetition = f"balanced ({flipped:.0%} flipped)", balanced(flipped)
            else:
                repetition = NO_EFFECT[kind]
            text, fine = row(name, repetition, given.reps, given.seed, of)
            print(text, flush=True)
            allowed.append(fine)
    if not all(allowed):
        sys.exit(1)


if __name__ == "__main__":
    main()
