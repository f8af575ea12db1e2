"""The multiverse of a leaderboard: the same images under every reasonable choice of metric.

An order that holds under one extractor, kernel or preset may not hold under the next. Here the
entries of a benchmark are scored again under choices that papers make: the Fréchet distance by
extractor, MMD² by extractor and kernel, MS-SSIM by preset. For each pair of entries the record
says how often the two change places. It describes this family of choices, in which each choice
has the same weight; it is not a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from synthbench import registry
from synthbench.errors import MetricError, ScorecardError
from synthbench.leaderboard.entries import Entry, Source, entry_hashes, in_order, open_entries
from synthbench.leaderboard.overall import order_of
from synthbench.leaderboard.ranking import Aggregates
from synthbench.metrics.fid import FID
from synthbench.metrics.inference import resampling
from synthbench.metrics.inference.comparison import loss, rank
from synthbench.metrics.linear_mmd import MMDLinear
from synthbench.metrics.metric import Direction, Statistic, check_features
from synthbench.metrics.mmd import KID, MMD2, KernelDiscrepancy
from synthbench.metrics.msssim import MSSSIM
from synthbench.records.base import Record
from synthbench.records.keys import JobKey
from synthbench.records.reasons import public_words
from synthbench.runtime.callbacks import Progress
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.sample_data import JobData, load_sample_data
from synthbench.scoring.statistics import jobs

FILE = "multiverse.json"
BANDWIDTHS = (0.5, 1.0, 2.0)
"""Bandwidths of the Gaussian kernel of MMD², as multiples of the median distance."""


class Universe(Record):
    """The values and ranks of the entries under one choice."""

    family: str
    words: str
    direction: Direction
    values: dict[str, float] = Field(description="by entry")
    ranks: dict[str, int] = Field(description="of the estimates; ties share the better")


class Swap(Record):
    """The share of choices that reverse a pair; `ahead` is better by the primary metric."""

    ahead: str
    behind: str
    universes: float = Field(description="share of universes whose estimates reverse the pair")
    probability: float = Field(
        description="mean over universes of the share of resamples that reverse the pair"
    )


class Multiverse(Aggregates):
    """All universes of a benchmark."""

    file: ClassVar[str] = FILE
    what: ClassVar[str] = "a multiverse"
    flag: ClassVar[str] = "--multiverse"

    universes: tuple[Universe, ...]
    swaps: tuple[Swap, ...]
    absent: tuple[str, ...] = Field(
        default=(), description="universes that could not be computed, and why"
    )


@dataclass(frozen=True)
class Choice:
    """A choice of metric that the entries are scored under.

    Attributes
    ----------
    family
        The metric in general, such as "MMD²".
    words
        The choice, as tables name it.
    direction
        Which way is better.
    statistic
        From an entry to its statistic under this choice.
    """

    family: str
    words: str
    direction: Direction
    statistic: Callable[[Entry], Statistic]


def multiverse(
    folder: Path | str, *, source: Source = load_sample_data, progress: Progress | None = None
) -> Multiverse:
    """Return the values and ranks of a benchmark's entries under every choice they allow.

    Resamples and seed are those of the protocol. Within a universe resamples are paired, with
    shared real weights, and recentred on the estimates, as in
    `synthbench.metrics.inference.comparison.rank`.

    Parameters
    ----------
    folder
        The benchmark's.
    source
        From an entry's scorecard to the sample data that this machine keeps of it, or None.
    progress
        Called with (what, done, total).

    Raises
    ------
    ScorecardError
        Fewer than two entries can be compared, the sample data of one are not here, or fewer
        than two choices can be computed.
    """
    folder = Path(folder)
    benchmark = Benchmark.load(folder)
    entries = open_entries(folder, benchmark, source)
    todo, absent = choices(benchmark)
    universes: list[Universe] = []
    shares: list[Mapping[tuple[str, str], float]] = []
    for i, choice in enumerate(todo):
        if progress is not None:
            progress(choice.words, i, len(todo))
        try:
            universe, ahead = _universe(choice, entries, benchmark)
        except MetricError as error:
            absent.append(f"{choice.words}: {public_words(error)}")
            continue
        universes.append(universe)
        shares.append(ahead)
    if len(universes) < 2:
        raise ScorecardError(
            f"{folder}: a multiverse needs at least 2 choices that can be computed; found "
            f"{len(universes)}. {'; '.join(absent) or 'Freeze a benchmark with more metrics.'}"
        )
    ordered = in_order({entry.name: entry.card for entry in entries}, benchmark.primary_key)
    return Multiverse(
        benchmark=benchmark.name,
        protocol_hash=benchmark.protocol.hash,
        resamples=benchmark.protocol.resamples,
        seed=benchmark.protocol.seed,
        entries=entry_hashes(folder, {entry.name: entry.card for entry in entries}),
        universes=tuple(universes),
        swaps=tuple(_swap(a, b, universes, shares) for a, b in combinations(ordered, 2)),
        absent=tuple(absent),
    )


def choices(benchmark: Benchmark) -> tuple[list[Choice], list[str]]:
    """Return the choices that a benchmark's metrics allow, and why others are absent."""
    frozen = benchmark.protocol.settings
    found: list[Choice] = []
    absent: list[str] = []
    for extractor in (e.name for e in benchmark.protocol.extractors):
        key = str(JobKey(FID.name, extractor=extractor))
        if key in frozen:
            by_key = partial(_by_key, job_key=key)
            found.append(Choice("Fréchet distance", f"FID, {extractor}", "lower", by_key))
        else:
            absent.append(f"FID, {extractor}: not among the benchmark's metrics")
        found += _kernels(extractor, benchmark, absent)
    presets = _presets_of_ms_ssim()
    for job in jobs([name for name in presets if name in frozen], []):
        by_key = partial(_by_key, job_key=job.key)
        words = f"{job.metric.label} ({job.metric.name})"
        found.append(Choice("MS-SSIM", words, job.metric.direction, by_key))
    absent += [
        f"{name}: not among the benchmark's metrics" for name in presets if name not in frozen
    ]
    return found, absent


def _presets_of_ms_ssim() -> list[str]:
    """Return the names of the registered metrics that are MS-SSIM under some preset."""
    metrics = {name: registry.load("metrics", name)() for name in registry.names("metrics")}
    return [name for name, metric in metrics.items() if isinstance(metric, MSSSIM)]


def _kernels(extractor: str, benchmark: Benchmark, absent: list[str]) -> list[Choice]:
    """Return MMD² by kernel: Gaussian at multiples of the frozen median, cubic, and linear."""
    frozen = benchmark.protocol.settings
    # Sample data hold the features under any metric that takes them, whatever its kernel.
    keys = [key for key in frozen if JobKey.parse(key).extractor == extractor]
    if not keys:
        absent.append(f"MMD², {extractor}: no metric of the benchmark takes its features")
        return []
    found = []
    gaussian = str(JobKey(MMD2.name, extractor=extractor))
    if gaussian in frozen:
        bandwidth = float(frozen[gaussian]["bandwidth"])
        for factor in BANDWIDTHS:
            prepare = partial(MMD2().prepare, bandwidth=factor * bandwidth)
            words = f"MMD², Gaussian {factor:g} × median, {extractor}"
            found.append(_of_features(words, keys[0], prepare))
    else:
        absent.append(f"MMD², Gaussian, {extractor}: the benchmark froze no bandwidth")
    return [
        *found,
        _of_features(f"MMD², cubic (KID), {extractor}", keys[0], KID().prepare),
        _of_features(f"MMD², linear, {extractor}", keys[0], linear_discrepancy),
    ]


def _of_features(words: str, key: str, prepare: Callable[..., Statistic]) -> Choice:
    def statistic(entry: Entry) -> Statistic:
        material = _material(entry, key)
        return prepare(material.real, material.synth, subjects=entry.sample_data.subjects)

    return Choice("MMD²", words, "lower", statistic)


def _by_key(entry: Entry, job_key: str) -> Statistic:
    _material(entry, job_key)
    return entry.sample_data.statistic(job_key)


def _material(entry: Entry, key: str) -> JobData:
    if key not in entry.sample_data.jobs:
        raise MetricError(f"{entry.name} has no value of it", "no value")
    return entry.sample_data.jobs[key]


def linear_discrepancy(
    real: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    *,
    subjects: Mapping[str, np.ndarray] | None = None,
) -> KernelDiscrepancy:
    """Return the statistic of MMD² of features under the linear kernel.

    It is |mean real - mean synth|^2 without its bias, so it sees differences of means only.

    Parameters
    ----------
    real, synth
        Feature matrices, one row per image.
    subjects
        For each role, the subject of each image; None: one image per subject.

    Raises
    ------
    MetricError
        The features are unusable.
    """
    sets = check_features("linear MMD²", real=real, synth=synth)
    x, y = sets["real"], sets["synth"]
    return MMDLinear().prepare(x @ x.T, y @ y.T, cross=x @ y.T, subjects=subjects)


def _universe(
    choice: Choice, entries: Sequence[Entry], benchmark: Benchmark
) -> tuple[Universe, dict[tuple[str, str], float]]:
    """Return a universe, and for each pair the share of resamples with the first ahead."""
    statistics = {entry.name: choice.statistic(entry) for entry in entries}
    protocol = benchmark.protocol
    values = {name: resampling.estimate(statistic) for name, statistic in statistics.items()}
    ranking = rank(
        statistics, direction=choice.direction, resamples=protocol.resamples,
        level=protocol.level, seed=protocol.seed,
    )  # fmt: skip
    column = {standing.name: i for i, standing in enumerate(ranking.standings)}
    usable = np.isfinite(ranking.resampled).all(axis=1)
    losses = loss(ranking.resampled[usable], choice.direction)
    ahead = {
        (a, b): _share_ahead(losses[:, column[a]], losses[:, column[b]])
        for a in values
        for b in values
        if a != b
    }
    row = loss(np.array([list(values.values())]), choice.direction)
    places = order_of(row)[0].astype(int).tolist()
    universe = Universe(
        family=choice.family, words=choice.words, direction=choice.direction, values=values,
        ranks=dict(zip(values, places, strict=True)),
    )  # fmt: skip
    return universe, ahead


def _share_ahead(first: Float64[np.ndarray, " b"], second: Float64[np.ndarray, " b"]) -> float:
    """Return the share of resamples in which the first is better; a tie counts half."""
    return float((first < second).mean() + (first == second).mean() / 2)


def _swap(
    ahead: str,
    behind: str,
    universes: Sequence[Universe],
    shares: Sequence[Mapping[tuple[str, str], float]],
) -> Swap:
    estimates = [float(u.ranks[behind] < u.ranks[ahead]) for u in universes]
    return Swap(
        ahead=ahead,
        behind=behind,
        universes=float(np.mean(estimates)),
        probability=float(np.mean([share[behind, ahead] for share in shares])),
    )
