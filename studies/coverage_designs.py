"""Validity study: intervals with few images, unequal sets, several scans per subject, and ties.

Usage: python studies/coverage_designs.py --reps 300 --out designs.jsonl
       python studies/coverage_designs.py --out designs.jsonl --report docs/coverage.md

The first command simulates one cell after the other and appends a JSON line for each; cells that
are in the file are skipped, and `--only TEXT` chooses those whose name holds the text. The second
command replaces the last section of the page with the tables of that file. One core:
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from coverage_cells import SSIM_CONSTANT, similarity, spectrum
from coverage_gate import monte_carlo_interval
from jaxtyping import Float64

from synthbench.errors import MetricError
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.pairs import pair_design
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import IntervalMethod
from synthbench.metrics.mmd import KID
from synthbench.metrics.msssim import MSSSIM
from synthbench.metrics.prdc import Coverage, Density, Precision, Recall

DIMENSION = 128
RESAMPLES = 400
HEADING = "## Few images, unequal sets, several scans, ties"
"""The section of docs/coverage.md that this study writes; it is the last one."""

SHARES = ("precision", "recall", "density", "coverage")
METRICS = {metric.name: metric for metric in (KID, Precision, Recall, Density, Coverage, MSSSIM)}
REGIMES: Mapping[str, tuple[float, float]] = {
    "null": (0.0, 1.0),
    "shift .5": (0.5, 1.0),
    "spread .8": (0.0, 0.8),
    "spread .6": (0.0, 0.6),
}
"""Shift of the synthetic means and factor of the standard deviations, in real deviations."""

Features: TypeAlias = Float64[np.ndarray, "n d"]
Draw: TypeAlias = Callable[
    [np.random.Generator], tuple[Features, Features, dict[str, np.ndarray] | None]
]


@dataclass(frozen=True)
class Design:
    """One cell: its name, the metrics, how to draw both sets, and KID of the populations."""

    name: str
    metrics: tuple[str, ...]
    draw: Draw
    kid: float | None = None


def designs() -> Iterator[Design]:
    """Yield the cells: KID by rank and n, the shares by n, clusters, ties, designs of pairs."""
    for rank in (2, 6, 32, 128):
        for n in (8, 10, 12, 15, 30, 86):
            for regime in REGIMES:
                yield Design(
                    f"kid r={rank} n=m={n} {regime}", ("kid",), independent(rank, n, n, regime),
                    population_kid(rank, regime),
                )  # fmt: skip
    for rank in (2, 10):
        for n, m in ((15, 15), (30, 30), (86, 86), (300, 300), (40, 120), (200, 20), (20, 200)):
            for regime in REGIMES:
                metrics = SHARES if rank == 2 or n == m else (*SHARES, "kid")
                yield Design(
                    f"shares r={rank} n={n} m={m} {regime}", metrics,
                    independent(rank, n, m, regime), population_kid(rank, regime),
                )  # fmt: skip
    for regime in REGIMES:
        for both in (False, True):
            other = "24 subjects x 2-5" if both else "86"
            yield Design(
                f"clusters r=10 24 subjects x 2-5 against {other} {regime}", (*SHARES, "kid"),
                clustered(10, regime, both), population_kid(10, regime),
            )  # fmt: skip
    for distinct in (10, 3):
        yield Design(f"ties r=10 60 against 60 of {distinct} images", SHARES, repeated(distinct))
    for regime in ("null", "shift .5"):
        yield Design(f"ties r=10 n=m=60 rounded features {regime}", SHARES, rounded(regime))
    for n, partners in ((120, 8), (120, 40), (40, 8)):
        for regime in REGIMES:
            yield Design(
                f"pairs r=10 n=m={n} of {partners} partners {regime}", ("ms_ssim",),
                designed(n, partners, regime),
            )  # fmt: skip


# ---------------------------------------------------------------- populations


def independent(rank: int, n: int, m: int, regime: str) -> Draw:
    """Return a draw of independent Gaussian rows."""
    scale, (shift, spread) = np.sqrt(spectrum(rank, DIMENSION)), REGIMES[regime]

    def draw(rng: np.random.Generator) -> tuple[Features, Features, None]:
        x = scale * (1 + rng.standard_normal((n, DIMENSION)))
        y = scale * (1 + shift + spread * rng.standard_normal((m, DIMENSION)))
        return x, y, None

    return draw


def clustered(rank: int, regime: str, both: bool) -> Draw:
    """Return a draw of 24 subjects with 2 to 5 scans each, intraclass correlation 0.8."""
    scale, (shift, spread) = np.sqrt(spectrum(rank, DIMENSION)), REGIMES[regime]

    def scans(rng: np.random.Generator) -> tuple[Features, np.ndarray]:
        ids = np.repeat(np.arange(24), rng.integers(2, 6, size=24))
        own = rng.standard_normal((24, DIMENSION))[ids]
        return np.sqrt(0.8) * own + np.sqrt(0.2) * rng.standard_normal((len(ids), DIMENSION)), ids

    def draw(rng: np.random.Generator) -> tuple[Features, Features, dict[str, np.ndarray]]:
        x, of_real = scans(rng)
        if both:
            y, of_synth = scans(rng)
        else:
            y, of_synth = rng.standard_normal((86, DIMENSION)), np.arange(86)
        subjects = {"real": of_real, "synth": of_synth}
        return scale * (1 + x), scale * (1 + shift + spread * y), subjects

    return draw


def repeated(distinct: int) -> Draw:
    """Return a draw of 60 images of a generator that knows only a few, always the same ones."""
    scale = np.sqrt(spectrum(10, DIMENSION))
    known = np.random.default_rng(99).standard_normal((10, DIMENSION))[:distinct]

    def draw(rng: np.random.Generator) -> tuple[Features, Features, None]:
        x = scale * (1 + rng.standard_normal((60, DIMENSION)))
        return x, scale * (1 + known[rng.integers(distinct, size=60)]), None

    return draw


def rounded(regime: str) -> Draw:
    """Return a draw of features that are rounded to two standard deviations of an axis."""
    scale, (shift, spread) = np.sqrt(spectrum(10, DIMENSION))[:16], REGIMES[regime]

    def draw(rng: np.random.Generator) -> tuple[Features, Features, None]:
        x = np.round(scale * (1 + rng.standard_normal((60, 16))) / 2)
        y = np.round(scale * (1 + shift + spread * rng.standard_normal((60, 16))) / 2)
        return x, y, None

    return draw


def designed(n: int, partners: int, regime: str) -> Draw:
    """Return a draw of two pair matrices, NaN outside a random design of pairs, always the same."""
    features = independent(10, n, n, regime)
    computed = pair_design(np.arange(n), partners, seed=0) | np.eye(n, dtype=np.bool_)

    def draw(rng: np.random.Generator) -> tuple[Features, Features, None]:
        pairs = [similarity(rows, SSIM_CONSTANT * DIMENSION) for rows in features(rng)[:2]]
        real, synth = (np.where(computed, matrix, np.nan) for matrix in pairs)
        return real, synth, None

    return draw


def population_kid(rank: int, regime: str) -> float:
    """Return KID of the populations of `independent`, exactly.

    (s + 1)^3 = 1 + 3 s + 3 s^2 + s^3 with s = x.y / d, a sum over independent axes: its moments
    come from the sums of the axes' first three cumulants.
    """
    variance, (shift, spread) = spectrum(rank, DIMENSION), REGIMES[regime]
    sides = ((np.sqrt(variance), variance),
             (np.sqrt(variance) * (1 + shift), variance * spread**2))  # fmt: skip

    def expected(one: int, other: int) -> float:
        (a, p), (b, q) = sides[one], sides[other]
        first = a * b / DIMENSION
        second = (a**2 + p) * (b**2 + q) / DIMENSION**2
        third = (a**3 + 3 * a * p) * (b**3 + 3 * b * q) / DIMENSION**3
        k1, k2, k3 = (
            float(k.sum())
            for k in (first, second - first**2, third - 3 * second * first + 2 * first**3)
        )
        return 1 + 3 * k1 + 3 * (k2 + k1**2) + k3 + 3 * k2 * k1 + k1**3

    return expected(0, 0) + expected(1, 1) - 2 * expected(0, 1)


# ---------------------------------------------------------------- cells


def run(design: Design, reps: int, methods: Mapping[str, IntervalMethod]) -> dict[str, Any]:
    """Return the record of a cell: for each metric, how many intervals were printed and cover.

    The target is the expected value at this n (the mean of the estimates); for KID the
    populations' value, which its estimate has as expectation.
    """
    start = time.perf_counter()
    estimates: dict[str, list[float]] = {metric: [] for metric in design.metrics}
    ends: dict[str, list[tuple[float, float]]] = {metric: [] for metric in design.metrics}
    for repetition in range(reps):
        rng = np.random.default_rng([0, repetition, *design.name.encode()])
        x, y, subjects = design.draw(rng)
        for metric in design.metrics:
            found = METRICS[metric]()
            statistic = found.prepare(x, y, subjects=subjects)
            estimates[metric].append(estimate(statistic))
            method = methods.get(metric, found.interval)
            try:
                computed = interval(statistic, method, resamples=RESAMPLES, seed=repetition)
            except MetricError:
                continue
            if computed.low < computed.high:
                low, high = found.bounds
                ends[metric].append((max(computed.low, low), min(computed.high, high)))
    record: dict[str, Any] = {"name": design.name, "reps": reps, "metrics": {}}
    for metric in design.metrics:
        target = float(np.mean(estimates[metric]))
        if metric == "kid" and design.kid is not None:
            target = design.kid
        low, high = np.array(ends[metric] or [(np.nan, np.nan)]).T
        record["metrics"][metric] = {
            "method": methods.get(metric, METRICS[metric].interval), "target": target,
            "printed": len(ends[metric]), "below": int((high < target).sum()),
            "above": int((low > target).sum()),
            "covered": int(((low <= target) & (target <= high)).sum()),
            "width": float(np.mean(high - low)), "sd": float(np.std(estimates[metric])),
        }  # fmt: skip
    record["seconds"] = round(time.perf_counter() - start, 1)
    return record


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the cells in a file, by name."""
    if not path.exists():
        return {}
    records = [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    return {record["name"]: record for record in records}


def designs_of_page(page: Path) -> str:
    """Return the section of this study, with an empty line before it; "" where there is none."""
    _, heading, rest = (page.read_text(encoding="utf-8") if page.exists() else "").partition(
        HEADING
    )
    return f"\n{heading}{rest}" if heading else ""


def section(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the section of the page: tables for KID, for the shares and for designs of pairs."""
    texts = [HEADING, INTRODUCTION, "\n".join(_outcomes(records))]
    tables = {
        "KID": ("kid",),
        "Precision, recall, density, coverage": SHARES,
        "MS-SSIM from a design of pairs": ("ms_ssim",),
    }
    for title, metrics in tables.items():
        rows = [
            _row(record, metric)
            for record in records
            for metric in metrics
            if metric in record["metrics"]
        ]
        header = ["design", "metric", "reps", "target", "printed", "covers", "95% Monte Carlo",
                  "below", "above", "width/sd"]  # fmt: skip
        lines = [header, ["---"] * len(header), *rows]
        if rows:
            table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
            texts.append(f"### {title}\n\n{table}")
    return "\n\n".join(texts) + "\n"


def _outcomes(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one line per metric: the range of its coverages, and where it is below 93%."""
    for metric in METRICS:
        found = {r["name"]: r["metrics"][metric] for r in records if metric in r["metrics"]}
        covers = {name: f["covered"] / f["printed"] for name, f in found.items() if f["printed"]}
        if not covers:
            continue
        least = min(f["printed"] / r["reps"] for r in records
                    if (f := r["metrics"].get(metric)))  # fmt: skip
        low = [name for name, share in covers.items() if share < 0.93]
        where = f"; below 93% in {', '.join(low)}" if low else ""
        yield (
            f"- {metric}: printed in {least:.0%} of the samples or more; covers "
            f"{min(covers.values()):.1%} to {max(covers.values()):.1%} in {len(covers)} cells, "
            f"in the mean {np.mean(list(covers.values())):.1%}{where}"
        )


def _row(record: Mapping[str, Any], metric: str) -> list[str]:
    found = record["metrics"][metric]
    name = record["name"].removeprefix("kid ").removeprefix("shares ").removeprefix("pairs ")
    row = [name, metric, str(record["reps"]), f"{found['target']:.4g}"]
    printed = found["printed"]
    row.append(f"{printed / record['reps']:.0%}")
    if not printed:
        return [*row, "–", "–", "–", "–", "–"]
    low, high = monte_carlo_interval(found["covered"], printed)
    width = f"{found['width'] / found['sd']:.2f}" if found["sd"] > 0 else "–"
    shares = [f"{found[key] / printed:.1%}" for key in ("covered", "below", "above")]
    return [*row, shares[0], f"{low:.0%} to {high:.0%}", *shares[1:], width]


INTRODUCTION = f"""\
The gate has n = m, one image per subject and no boundary. This study has the rest: the default
intervals of KID (`asinh`) and of precision, recall, density and coverage (`score`) at n = 8 to 300,
r = 2 to {DIMENSION}, unequal sets, several scans per subject, repeated images and rounded features.

```
OMP_NUM_THREADS=1 python studies/coverage_designs.py --reps 200 --only "kid r" --out designs.jsonl
OMP_NUM_THREADS=1 python studies/coverage_designs.py --reps 300 --only partners --out designs.jsonl
OMP_NUM_THREADS=1 python studies/coverage_designs.py --reps 100 --out designs.jsonl
python studies/coverage_designs.py --out designs.jsonl --report docs/coverage.md
```

Features have d = {DIMENSION}; clusters have 2 to 5 scans per subject with an intraclass
correlation of 0.8. The target of the shares is the mean of the estimates, their expected value at
these n and m. The target of KID is the populations' value, in closed form. Large sets compute
MS-SSIM of a random design of pairs; "of 8 partners" means 8 pairs of each image.
*printed* is the share of samples with an interval, and *covers* is among these. Cells that the
tables lack were not run. `--method kid=studentized` gives the interval of earlier
versions. No test holds these cells."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate the cells that are missing, or write the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=300, help="repetitions per cell")
    parser.add_argument("--only", default="", help="text in the names of the cells to simulate")
    parser.add_argument("--method", action="append", default=[], metavar="METRIC=METHOD")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per cell")
    parser.add_argument("--report", type=Path, help="write the section; simulate nothing")
    options = parser.parse_args(arguments)
    if options.report is None:
        methods = dict(choice.split("=") for choice in options.method)
        done = read(options.out)
        for design in designs():
            if options.only in design.name and design.name not in done:
                record = run(design, options.reps, methods)
                with options.out.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(record) + "\n")
                print(_progress(record), flush=True)
        return 0
    page = options.report.read_text(encoding="utf-8").split(HEADING)[0].rstrip()
    found = read(options.out)
    records = [found[design.name] for design in designs() if design.name in found]
    options.report.write_text(f"{page}\n\n{section(records)}", encoding="utf-8")
    return 0


def _progress(record: Mapping[str, Any]) -> str:
    parts = [
        f"{metric} {found['covered']}/{found['printed']} (-{found['below']} +{found['above']})"
        for metric, found in record["metrics"].items()
    ]
    return f"{record['name']}: {', '.join(parts)} of {record['reps']} ({record['seconds']:.0f} s)"


if __name__ == "__main__":
    sys.exit(main())
