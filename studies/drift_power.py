"""False alarms and power of `synthbench drift`, for new samples and for new scorings.

Usage: python studies/drift_power.py --out drift-power
       python studies/drift_power.py --out drift-power --report

Simulated subjects of three scanners, which differ in contrast (`MODES`), are the real volumes, and
`pca-gaussian`, fitted to others of each scanner, is a generator with three modes. A large pool is
sampled and scored once, unchanged and blurred. Each repetition draws n volumes for the baseline
and n for the current sample from the pools, so volumes recur between repetitions, but not within
one. With `--pools K`, repetitions take turns between K pools, each of other simulated subjects, a
generator fitted to others, and other volumes of it. The intervals then contain the variation
between pools. Repetitions are appended to OUT/repetitions.jsonl. If it is started again, the study
goes on where it stopped. Prints the tables of docs/drift.md. Timings are for one core: set
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from scipy import ndimage, stats

from synthbench import registry
from synthbench.cohorts.reading import read_cohort
from synthbench.drift.drift import change
from synthbench.drift.two_samples import Requested, Terms, compare_samples
from synthbench.metrics.inference.resampling import estimate, magnitude
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import sidecar_file
from synthbench.runtime.files import write_atomic
from synthbench.sampling.sampling import sample
from synthbench.scoring.benchmark import FILE, Benchmark
from synthbench.scoring.freeze import freeze
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.sample_data import JobData, SampleData
from synthbench.scoring.scoring import score_cohorts
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.simulation.cohort import atlas_cohort
from synthbench.training.training import train
from synthbench.volumes.nifti import nifti_bytes

TRAINING_SEED, REAL_SEED = 1, 2
TRAINING_SUBJECTS = 64
METRICS = ("mmd2", "fid", "kid", "spectrum", "intensity")
"""MS-SSIM takes all pairs of every pool: `--metrics` can name it for pools of up to 300."""
BLURS = {"half": 1 / 2, "third": 1 / 3}
"""Sigma of a Gaussian blur, in voxels."""


@dataclass(frozen=True)
class Mode:
    """Volumes of one scanner.

    Attributes
    ----------
    share
        Share of all volumes.
    gamma
        The power to which the simulated intensities, in [0, 1], are raised.
    """

    share: float
    gamma: float


MODES: Mapping[str, Mode] = {
    "main": Mode(0.6, 1.0), "large": Mode(0.3, 1.5), "small": Mode(0.1, 0.7),
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A difference of the current sample from the baseline's generator.

    Attributes
    ----------
    label
        Its name in the table.
    pool
        The pool of the current sample.
    dropped
        A mode that the generator no longer draws.
    same_seeds
        True where both samples have the same seeds.
    """

    label: str
    pool: str = "plain"
    dropped: str | None = None
    same_seeds: bool = False


RESAMPLE: Mapping[str, Arm] = {
    "null": Arm("nothing (false alarms)"),
    "blur-half": Arm("blur, half a voxel", "half"),
    "mode-30": Arm("a mode of 30% dropped", dropped="large"),
    "blur-third": Arm("blur, a third of a voxel", "third"),
    "mode-10": Arm("a mode of 10% dropped", dropped="small"),
    "blur-third-same-seeds": Arm("blur, a third of a voxel, same seeds", "third", same_seeds=True),
}

RESCORE: Mapping[str, tuple[str, float, float]] = {
    "noise-1e-6": ("features: noise of 1e-6 (false alarms)", 1e-6, 0.0),
    "noise-1e-4": ("features: noise of 1e-4", 1e-4, 0.0),
    "scale-1e-5": ("features: 1e-5 larger", 0.0, 1e-5),
    "scale-1e-4": ("features: 1e-4 larger", 0.0, 1e-4),
    "scale-1e-3": ("features: 1e-3 larger", 0.0, 1e-3),
}
"""Label, the noise's standard deviation over the features' own, and a systematic rescaling."""


# ---------------------------------------------------------------- pools

Alter = Callable[[np.ndarray], np.ndarray]


def print_progress(message: str) -> None:
    """Print to standard error: only the tables go to standard output."""
    print(message, file=sys.stderr, flush=True)


def pools(given: argparse.Namespace) -> dict[str, SampleData]:
    """Return the sample data of the pools, which are sampled and scored where they are missing.

    Only the blurred pools that an arm needs are made.
    """
    needed = {RESAMPLE[arm].pool for arm in given.arm or RESAMPLE if arm in RESAMPLE} | {"plain"}
    real = scanned(given, "real", given.n, REAL_SEED)
    plain = sampled(given)
    frozen = protocol(given, real)
    found = {}
    for name, sigma in {"plain": 0.0, **BLURS}.items():
        if name not in needed:
            continue
        file = given.out / f"{name}.npz"
        if not file.is_file():
            folder = plain
            if name != "plain":
                folder = given.out / name
                rewrite(plain, folder, blur(sigma))
            print_progress(f"scoring the pool '{name}'")
            scored = score_cohorts(
                CohortSet.read(real, folder), frozen, Context(cache=None, log=print_progress),
                accept=given.accept, name=name,
            )  # fmt: skip
            scored.sample_data.save(file)
            scored.card.save(given.out / f"{name}.json")
        found[name] = SampleData.load(file)
    return found


def blur(sigma: float) -> Alter:
    """Return a function that blurs a volume; sigma in voxels."""
    return lambda volume: ndimage.gaussian_filter(volume, sigma, truncate=6)


def contrast(gamma: float) -> Alter:
    """Return a function that gives a volume a scanner's contrast."""
    return lambda volume: volume**gamma


def shares(total: int) -> dict[str, range]:
    """Return the range of volumes, or of seeds, of each mode."""
    ends = np.cumsum([round(total * mode.share) for mode in MODES.values()]).tolist()
    ends[-1] = total
    return {
        name: range(begin, end)
        for name, begin, end in zip(MODES, [0, *ends[:-1]], ends, strict=True)
    }


def scanned(given: argparse.Namespace, name: str, n: int, seed: int) -> Path:
    """Return a folder with simulated subjects, one subfolder per scanner."""
    folder = cast(Path, given.out / name)
    for mode, members in shares(n).items():
        if (folder / mode).is_dir():
            continue
        # One seed per mode and pool: subjects of the same seed are the same people.
        apart = seed + 10 * list(MODES).index(mode) + 1000 * given.number
        simulated = given.out / f"simulated-{name}-{mode}"
        subjects = atlas_cohort(len(members), simulated, seed=apart, shape=given.shape)
        rewrite(subjects, folder / mode, contrast(MODES[mode].gamma))
    return folder


def sampled(given: argparse.Namespace) -> Path:
    """Return the folder of the pool, sampled from a generator per scanner."""
    pool = cast(Path, given.out / "plain")
    for mode, seeds in shares(given.pool).items():
        training = scanned(given, "training", 3 * TRAINING_SUBJECTS, TRAINING_SEED) / mode
        run = given.out / f"run-{mode}"
        if not (run / "config.yaml").is_file():
            train("pca-gaussian", out=run, real=training, accept=given.accept, log=print_progress,
                  overrides=[f"space.shape={list(given.shape)}"])  # fmt: skip
        sample(Run.open(run), len(seeds), pool / mode, seed=seeds.start, log=print_progress)
    return pool


def rewrite(source: Path, out: Path, alter: Alter) -> None:
    """Write a folder's volumes, changed, into another, with their sidecars.

    The new folder's name is added to the subjects' names: subjects of two scanners are different
    people.
    """
    cohort = read_cohort(source)
    volumes = cohort.volumes(intensity="unit")
    for entry, volume in zip(cohort.entries, volumes, strict=True):
        name = str(entry.path.relative_to(source))
        file = out / name.replace("sub-", f"sub-{out.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, nifti_bytes(alter(volume), cohort.grid, "synthetic: altered"))
        sidecar = sidecar_file(entry.path)
        if sidecar.is_file():
            write_atomic(file.with_name(sidecar.name), sidecar.read_bytes())


def protocol(given: argparse.Namespace, real: Path) -> Benchmark:
    """Return the settings frozen on the real volumes; they are frozen once."""
    folder = given.out / "benchmark"
    if (folder / FILE).is_file():
        return Benchmark.load(folder)
    settings = ScoringSettings(
        extractors=(given.extractor,), metrics=tuple(given.metrics), resamples=200
    )
    context = Context(cache=None, log=print_progress)
    frozen = freeze(real, "drift-power", settings, context, n_synth=given.pool)
    frozen.save(folder)
    return frozen


def kept(given: argparse.Namespace, seeds: Sequence[int], dropped: str | None) -> list[int]:
    """Return the places of the volumes that are left when a mode is dropped."""
    gone = shares(given.pool)[dropped] if dropped else range(0)
    return [place for place, seed in enumerate(seeds) if seed not in gone]


# ---------------------------------------------------------------- one repetition


def requested(card: Scorecard) -> list[Requested]:
    """Return every metric of a card, without margins: equivalence is not an alarm."""
    return [
        Requested(row.metric, row.extractor, row.label, row.direction, row.role)
        for row in card.values
        if row.key.part is None and row.value is not None
    ]


def resampled(
    arm: Arm,
    found: Mapping[str, SampleData],
    left: Sequence[int],
    questions: Sequence[Requested],
    given: argparse.Namespace,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Draw two samples, compare them, and return the metrics that changed."""
    baseline, current = found["plain"], found[arm.pool]
    assert baseline.seeds is not None
    assert current.seeds is not None
    place = {seed: i for i, seed in enumerate(current.seeds)}
    earlier = rng.choice(given.pool, given.n, replace=False)
    later = earlier
    if not arm.same_seeds:
        later = rng.choice(np.setdiff1d(left, earlier), given.n, replace=False)
    tests, rows = compare_samples(
        baseline.with_synth(earlier),
        current.with_synth([place[baseline.seeds[i]] for i in later]),
        questions,
        Terms(alpha=given.alpha, seed=int(rng.integers(2**31))),
    )
    failed = [row.metric for row in rows if row.status == "fail"]
    return {
        "failed": [*(["generator"] if any(t.status == "fail" for t in tests) else []), *failed],
        "p": {row.metric: row.p for row in rows} | {"generator": min(t.p for t in tests)},
    }


def rescored(
    noise: float,
    scale: float,
    pool: SampleData,
    questions: Sequence[Requested],
    given: argparse.Namespace,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Score a sample twice, with changed features the second time; return the changes."""
    before = pool.with_synth(rng.choice(given.pool, given.n, replace=False))
    moved: dict[str, JobData] = {}
    for key, material in before.jobs.items():
        if " | " in key:
            moved[key] = replace(
                material, real=shaken(material.real, noise, scale, rng),
                synth=shaken(material.synth, noise, scale, rng),
            )  # fmt: skip
    rows = []
    for question in questions:
        if question.key in moved:
            pair = [value_of(question, m) for m in (before, replace(before, jobs=moved))]
            rows.append(change(*pair))
    return {
        "failed": [row.metric for row in rows if row.status == "fail"],
        "warned": [row.metric for row in rows if row.status == "warn"],
        "moved": {row.metric: row.relative for row in rows},
    }


def shaken(rows: np.ndarray, noise: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return features with noise relative to their spread, rescaled."""
    sd = float(np.sqrt(rows.astype(np.float64).var(axis=0).mean()))
    return (1 + scale) * rows + noise * sd * rng.standard_normal(rows.shape)


def value_of(question: Requested, sample_data: SampleData) -> Value:
    """Return the row that a scorecard would have."""
    statistic = sample_data.statistic(question.key)
    return Value(
        metric=question.metric, label=question.label, extractor=question.extractor,
        direction=question.direction, value=estimate(statistic), magnitude=magnitude(statistic),
    )  # fmt: skip


# ---------------------------------------------------------------- the study and its tables


def repetitions(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the finished repetitions."""
    file = given.out / "repetitions.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def study(given: argparse.Namespace) -> None:
    """Do the repetitions that are missing."""
    every = []
    for number in range(given.pools):
        folder = given.out if number == 0 else given.out / f"pool-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        of_pool = argparse.Namespace(**{**vars(given), "out": folder, "number": number})
        every.append((pools(of_pool), requested(Scorecard.load(folder / "plain.json"))))
    done = {(r["arm"], r["repetition"]) for r in repetitions(given)}
    names = [*RESAMPLE, *RESCORE]
    with (given.out / "repetitions.jsonl").open("a", encoding="utf-8") as file:
        for repetition in range(given.repetitions):
            pool = repetition % given.pools
            found, questions = every[pool]
            plain = found["plain"]
            assert plain.seeds is not None
            for name in given.arm or names:
                if (name, repetition) in done:
                    continue
                # Random numbers depend on the repetition and the arm only, not on earlier ones.
                rng = np.random.default_rng([given.seed, repetition, names.index(name)])
                began = time.perf_counter()
                if name in RESAMPLE:
                    arm = RESAMPLE[name]
                    left = kept(given, plain.seeds, arm.dropped)
                    record = resampled(arm, found, left, questions, given, rng)
                else:
                    _, noise, scale = RESCORE[name]
                    record = rescored(noise, scale, plain, questions, given, rng)
                seconds = round(time.perf_counter() - began, 2)
                record |= {"arm": name, "repetition": repetition, "pool": pool, "seconds": seconds}
                file.write(json.dumps(record) + "\n")
                file.flush()


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    centre = (hits + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the share of repetitions that failed, with its 95% interval, as text.

    With several pools, they are the units: the interval is that of t for the mean over pools, and
    at least that of Wilson for all repetitions. A single pool has the interval of Wilson, which is
    for that pool only.
    """
    n, hits = len(records), sum(bool(record["failed"]) for record in records)
    by_pool: dict[int, list[bool]] = defaultdict(list)
    for record in records:
        by_pool[record.get("pool", 0)].append(bool(record["failed"]))
    k, p = len(by_pool), hits / n
    low, high = wilson(hits, n)
    if k > 1:
        shares = [np.mean(failed) for failed in by_pool.values()]
        half = float(stats.t.ppf(0.975, k - 1) * np.std(shares, ddof=1)) / math.sqrt(k)
        low, high = max(0.0, min(low, p - half)), min(1.0, max(high, p + half))
    return f"{p:.0%} [{low:.0%}, {high:.0%}]"


def tables(given: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of both tables."""
    by_arm: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in repetitions(given):
        by_arm[record["arm"]].append(record)
    done = [arm for arm in RESAMPLE if arm in by_arm]
    if done:
        requested_for = list(
            dict.fromkeys(key for arm in done for r in by_arm[arm] for key in r["p"])
        )
        requested_for = ["generator", *(name for name in requested_for if name != "generator")]
        yield f"| the current sample | repetitions | drift | {' | '.join(requested_for)} |"
        yield "|---|" + "---:|" * (2 + len(requested_for))
        for arm in done:
            records = by_arm[arm]
            counts = Counter(name for r in records for name in r["failed"])
            each = " | ".join(f"{counts[name] / len(records):.0%}" for name in requested_for)
            yield (f"| {RESAMPLE[arm].label} | {len(records)} | {share(records)} | "
                   f"{each} |")  # fmt: skip
        yield ""
    done = [arm for arm in RESCORE if arm in by_arm]
    if done:
        yield "| the same images, whose | repetitions | fails | warns | largest change / terms |"
        yield "|---|---:|---:|---:|---|"
        for arm in done:
            records = by_arm[arm]
            failed = sum(bool(r["failed"]) for r in records)
            warned = sum(bool(r["warned"]) and not r["failed"] for r in records)
            largest = {name: max(r["moved"][name] for r in records) for name in records[0]["moved"]}
            largest_text = ", ".join(f"{name} {value:.1g}" for name, value in largest.items())
            yield (f"| {RESCORE[arm][0]} | {len(records)} | {failed / len(records):.0%} | "
                   f"{warned / len(records):.0%} | {largest_text} |")  # fmt: skip
        yield ""
    for kind in (RESAMPLE, RESCORE):
        seconds = [r["seconds"] for arm in kind for r in by_arm.get(arm, ())]
        if seconds:
            yield f"{np.mean(seconds):.2f} s per repetition of an arm"


def main() -> None:
    """Do the missing repetitions, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=86, help="volumes per side")
    parser.add_argument("--pool", type=int, default=600, help="volumes that are sampled once")
    parser.add_argument("--pools", type=int, default=1, help="pools, by turns")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--shape", type=int, nargs=3, default=(48, 56, 48))
    parser.add_argument("--extractor", default="random-resnet10")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--arm", action="append", choices=[*RESAMPLE, *RESCORE])
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--accept", action="append", default=[], help="a preflight rule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="only print the tables")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.pool < 3 * given.n:
        parser.error(f"--pool {given.pool}: at least 3 n = {3 * given.n} volumes are needed")
    for name in given.metrics:
        registry.load("metrics", name)
    if not given.report:
        study(given)
    print("\n".join(tables(given)))


if __name__ == "__main__":
    main()
