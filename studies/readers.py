"""Validity study: do the intervals of a reader study cover, and what power has a design?

Usage: python studies/readers.py --reps 20000
       python studies/readers.py --correlations --reps 5000
       python studies/readers.py --few --reps 20000

Readers and cases are drawn anew in each repetition. Prints markdown tables: how often the interval
of 95% holds the accuracy over all readers and cases, with its mean width; how often two one-sided
tests call readers at the margin equivalent; and how many trials a design needs. It takes about
two minutes on one core: set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
from math import isfinite

import numpy as np
from scipy.stats import norm

from synthbench.metrics.inference.rank_correlation import spearman
from synthbench.readers.mrmc import difference, mean
from synthbench.readers.power import agreement_spread, normal_trials, simulated, trials_needed

DESIGNS = ((3, 24), (3, 80), (5, 24), (5, 75), (8, 40), (12, 40))
"""Readers and cases."""

FEW = ((3, 4), (3, 6), (3, 10), (5, 4), (5, 6), (5, 10), (8, 4), (8, 6), (8, 10))
"""Readers and cases of a control."""

ANSWERS = (
    (0.5, 0.0, 0.0), (0.5, 0.05, 0.1), (0.5, 0.1, 0.2), (0.6, 0.05, 0.1), (0.7, 0.05, 0.1),
    (0.7, 0.1, 0.2), (0.9, 0.05, 0.1),
)  # fmt: skip
"""Accuracy, and its standard deviation between readers and between cases."""

UNLIKE = ((0.5, 0.05, 0.1), (0.5, 0.1, 0.35), (0.8, 0.05, 0.1), (0.8, 0.1, 0.2), (0.95, 0.02, 0.05))
"""As `ANSWERS`, for few cases."""

BATCH = 2000


def coverage(readers: int, cases: int, answers: tuple[float, ...], reps: int) -> tuple[float, ...]:
    """Return the coverage of the interval of 95% and its mean width."""
    held, width = [], []
    for batch in range(0, reps, BATCH):
        y = simulated(readers, cases, *answers, min(BATCH, reps - batch), seed=batch)
        low, high = mean(y, share=True).interval()
        held.append((low <= answers[0]) & (answers[0] <= high))
        width.append(high - low)
    return float(np.concatenate(held).mean()), float(np.concatenate(width).mean())


def level(readers: int, cases: int, reps: int) -> float:
    """Return how often an accuracy at the margin, 0.6, is called equivalent to 0.5 +- 0.1."""
    found = [
        mean(simulated(readers, cases, 0.6, 0.05, 0.1, min(BATCH, reps - batch), seed=batch),
             share=True).equivalence_p(0.4, 0.6)
        for batch in range(0, reps, BATCH)
    ]  # fmt: skip
    return float(np.mean(np.concatenate(found) < 0.05))


def rated(readers: int, cases: int, middle: float, reps: int) -> float:
    """Return the coverage of the mean level on four levels.

    Levels are a normal deviate cut at -1, 0 and 1: `middle`, plus deviates of the reader (sd 0.3),
    the case (0.7) and the rating (0.65).
    """
    rng = np.random.default_rng(0)
    edges = np.array([-1.0, 0.0, 1.0])
    truth = norm.sf((edges - middle) / np.sqrt(0.3**2 + 0.7**2 + 0.65**2)).sum() / 3
    latent = middle + 0.3 * rng.standard_normal((reps, readers, 1))
    latent = latent + 0.7 * rng.standard_normal((reps, 1, cases))
    latent = latent + 0.65 * rng.standard_normal((reps, readers, cases))
    low, high = mean(np.digitize(latent, edges) / 3, share=True).interval()
    return float(np.mean((low <= truth) & (truth <= high)))


def differing(readers: int, cases: int, reps: int) -> float:
    """Return the coverage of the difference of two generators, of accuracy 0.7 and 0.5.

    Accuracy differs by 10 points between readers, half of whose variance both generators share,
    and by 10 points between cases.
    """
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(reps):
        skill = 0.07 / norm.pdf(0) * rng.standard_normal((readers, 1))
        tables = []
        for accuracy in (0.7, 0.5):
            latent = skill + 0.07 / norm.pdf(0) * rng.standard_normal((readers, 1))
            latent = latent + 0.1 / norm.pdf(0) * rng.standard_normal((1, cases))
            latent = latent + rng.standard_normal((readers, cases))
            spread = np.sqrt(1 + (2 * 0.07**2 + 0.1**2) / norm.pdf(0) ** 2)
            tables.append((latent + spread * norm.ppf(accuracy) > 0).astype(float))
        low, high = difference(*tables).interval()
        held += bool(low <= 0.2 <= high)
    return held / reps


def correlated(generators: int, rho: float, noise: float, reps: int) -> tuple[float, ...]:
    """Return coverage, mean width, and the share above or below zero, of a rank correlation.

    A metric and an accuracy are normal over generators, with Pearson's correlation `rho`. The
    accuracy is measured with an error of `noise` of its standard deviation, which draws the
    correlation of what is measured, that of the coverage, to zero.
    """
    rng = np.random.default_rng(0)
    measured = rho / np.sqrt(1 + noise**2)
    truth = 6 / np.pi * np.arcsin(measured / 2)
    held, width, told = 0, 0.0, 0
    for _ in range(reps):
        metric, other, error = rng.standard_normal((3, generators))
        accuracy = rho * metric + np.sqrt(1 - rho**2) * other + noise * error
        _, low, high = spearman(metric, accuracy)
        held += low <= truth <= high
        width += high - low
        told += low > 0 or high < 0
    return held / reps, width / reps, told / reps


def print_correlations(reps: int) -> None:
    """Print the tables of the correlation of a metric with what readers saw."""
    rhos = (0.0, 0.3, 0.6, 0.8, 0.95)
    for noise in (0.0, 0.7):
        print(f"\nerror of the accuracy: {noise:g} of its standard deviation over generators\n")
        print("| generators | " + " | ".join(f"{rho:g}" for rho in rhos), "|")
        print("|---" * (len(rhos) + 1) + "|")
        for n in (5, 6, 8, 10, 15, 20):
            cells = [correlated(n, rho, noise, reps) for rho in rhos]
            words = [f"{100 * h:.1f}% ({w:.2f}), {100 * t:.0f}%" for h, w, t in cells]
            print(f"| {n} | {' | '.join(words)} |", flush=True)


def print_coverage(
    designs: tuple[tuple[int, int], ...], drawn: tuple[tuple[float, ...], ...], reps: int
) -> None:
    """Print the table of the coverage of accuracy."""
    print("| readers x cases | " + " | ".join(f"{a:g}; {r:g}, {c:g}" for a, r, c in drawn), "|")
    print("|---" * (len(drawn) + 1) + "|")
    for readers, cases in designs:
        cells = [coverage(readers, cases, answers, reps) for answers in drawn]
        words = " | ".join(f"{100 * held:.1f}% ({100 * width:.0f})" for held, width in cells)
        print(f"| {readers} x {cases} | {words} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reps", type=int, default=20_000)
    parser.add_argument("--correlations", action="store_true", help="only those of metrics")
    parser.add_argument("--few", action="store_true", help="only few pairs, as controls have")
    options = parser.parse_args()
    reps = options.reps
    if options.correlations:
        print_correlations(reps)
        return
    print_coverage(FEW if options.few else DESIGNS, UNLIKE if options.few else ANSWERS, reps)
    if options.few:
        return
    print("\n| readers x cases | equivalent at the margin |\n|---|---|")
    for readers, cases in DESIGNS:
        print(f"| {readers} x {cases} | {100 * level(readers, cases, reps):.1f}% |", flush=True)
    middles = (0.0, 1.0, 2.0)
    print(
        "\n| readers x cases | " + " | ".join(f"middle {m:g}" for m in middles),
        "|\n|---|---|---|---|",
    )
    for readers, cases in DESIGNS:
        cells = " | ".join(f"{100 * rated(readers, cases, m, reps):.1f}%" for m in middles)
        print(f"| {readers} x {cases} | {cells} |", flush=True)
    print("\n| readers x cases | difference of two generators |\n|---|---|")
    for readers, cases in DESIGNS:
        held = differing(readers, cases, min(reps, 5000))
        print(f"| {readers} x {cases} | {100 * held:.1f}% |", flush=True)
    print("\n| readers | trials each, variance known | trials each, this analysis |\n|---|---|---|")
    for readers in (2, 3, 4, 5, 6, 8, 10, 12):
        known, needed = normal_trials(readers), trials_needed(readers)
        shown = [f"{n:.0f}" if isfinite(n) else "never" for n in (known, needed)]
        print(f"| {readers} | {shown[0]} | {shown[1]} |", flush=True)
    print("\n| readers x cases | alpha | 95% of estimates |\n|---|---|---|")
    for readers, cases in ((3, 40), (3, 86), (5, 40)):
        found = agreement_spread(readers, cases, simulations=1000)
        print(
            f"| {readers} x {cases} | {found.expected:.2f} | {found.low:.2f} to {found.high:.2f} |"
        )


if __name__ == "__main__":
    main()
