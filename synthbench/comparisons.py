"""Comparisons: which entries of a benchmark differ, from their images, as a record of aggregates.

A scorecard alone says nothing of a difference: entries that are scored on one real set share
its sampling error. So comparisons are computed where the images were scored (see
`synthbench.materials`), written to `comparisons.json`, and read anywhere.

Each metric is ranked by itself: all pairs by the paired bootstrap with shared real weights, held
together by the largest |t| over the pairs (`synthbench.metrics.comparison.rank`). Where several
metrics are claimed at once the largest |t| is taken over metrics x pairs, which is `p_all`. An
order over all metrics is a summary without a test, so it carries how stable it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from synthbench.benchmark import Benchmark
from synthbench.errors import MetricError, ScorecardError
from synthbench.evaluation import Job, jobs
from synthbench.materials import Materials, load_materials
from synthbench.metrics import inference
from synthbench.metrics.comparison import ComparisonMethod, Ranking, loss, max_t, rank
from synthbench.metrics.metric import Direction, Statistic
from synthbench.records.base import Record, RecordFile
from synthbench.scorecard import Scorecard, scored_bytes

FILE = "comparisons.json"

TOLERANCE = 1e-6
"""Largest difference between an entry's value and that of its materials, relative to the terms
that the value is made of."""

SAME_ROWS = 1e-3
"""Largest difference, relative to the largest number, between rows of one real volume."""

Progress = Callable[[str, int, int], None]


Source = Callable[[Scorecard], Materials | None]


class Pair(Record):
    """The difference between two entries under one metric: second less first."""

    first: str
    second: str
    difference: float
    se: float
    low: float = Field(description="of an interval that covers with those of all other pairs")
    high: float
    p: float = Field(description="adjusted for all pairs under this metric")
    p_all: float | None = Field(description="adjusted for all pairs under all metrics")


class Place(Record):
    """An entry's place under one metric."""

    entry: str
    value: float
    rank_low: int
    rank_high: int
    best: float = Field(description="share of resamples in which it is the best")


class MetricRanking(Record):
    """The entries under one metric, best estimate first, and all their pairs."""

    metric: str
    extractor: str | None
    label: str
    direction: Direction
    method: ComparisonMethod
    excluded: int = Field(description="degenerate resamples that were left out")
    left_out: tuple[str, ...] = Field(default=(), description="entries without a value")
    places: tuple[Place, ...]
    pairs: tuple[Pair, ...]

    def pair(self, one: str, other: str) -> Pair | None:
        """The pair of two entries, in whichever order it stands."""
        return next((p for p in self.pairs if {p.first, p.second} == {one, other}), None)

    def ties(self, entry: str, level: float) -> tuple[str, ...]:
        """The entries that cannot be told from one at this level, best first."""
        told = {
            name
            for pair in self.pairs
            if pair.p <= 1 - level + 1e-12
            for name in (pair.first, pair.second)
            if entry in (pair.first, pair.second)
        }
        return tuple(p.entry for p in self.places if p.entry not in told | {entry})


class Unranked(Record):
    """A metric that could not be compared, and why."""

    metric: str
    extractor: str | None
    label: str
    why: str


class OverallPlace(Record):
    """An entry's place by its mean rank over metrics, and how stable it is."""

    entry: str
    mean_rank: float
    place: int
    low: int = Field(description="2.5th percentile over resamples")
    high: int = Field(description="97.5th percentile")
    kept: float = Field(description="share of resamples in which it has this place")
    without_one: tuple[int, int] = Field(description="range where any one metric is left out")


class Overall(Record):
    """An order over all metrics: each counts alike, which is a choice, and no test."""

    metrics: tuple[str, ...]
    kept: float = Field(description="share of resamples that give the same order")
    places: tuple[OverallPlace, ...]


class Aggregates(RecordFile):
    """What is computed of a benchmark's entries where their images are; read anywhere."""

    file: ClassVar[str]
    flag: ClassVar[str]

    schema_version: Literal[1] = 1
    benchmark: str
    protocol_hash: str
    resamples: int
    seed: int
    entries: dict[str, str] = Field(description="sha256 of each entry's file")

    def save(self, folder: Path) -> Path:
        """Write the record into a benchmark's folder, and return its file."""
        return super().save(folder / self.file)

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Read a benchmark's record; None where there is none.

        Raises
        ------
        ScorecardError
            The file is not readable as one.
        """
        file = folder / cls.file
        return cls.load(file) if file.is_file() else None

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Name the command that writes it."""
        return f"Write it again: synthbench leaderboard {file.parent} {cls.flag}"

    def stale(self, folder: Path, cards: Mapping[str, Scorecard], protocol_hash: str) -> list[str]:
        """Say what changed since, entry by entry; empty where nothing did."""
        if protocol_hash != self.protocol_hash:
            return [f"the protocol is {protocol_hash}, and was {self.protocol_hash}"]
        return _stale_entries(self.entries, folder, cards)


class Comparisons(Aggregates):
    """All pairs of a benchmark's comparable entries."""

    file: ClassVar[str] = FILE
    what: ClassVar[str] = "comparisons"
    flag: ClassVar[str] = "--compare"

    level: float
    shared: tuple[str, ...] = Field(default=("real",), description="roles with shared weights")
    metrics: tuple[MetricRanking, ...]
    unranked: tuple[Unranked, ...] = ()
    overall: Overall | None = None

    def ranking(self, metric: str, extractor: str | None = None) -> MetricRanking | None:
        """The ranking by a metric (the first extractor's, where None is named)."""
        for found in self.metrics:
            if found.metric == metric and extractor in (None, found.extractor):
                return found
        return None


@dataclass(frozen=True)
class Entry:
    """A comparable entry, and what is kept of its images."""

    name: str
    card: Scorecard
    materials: Materials


def read_entries(folder: Path) -> dict[str, Scorecard]:
    """Read a benchmark's scorecards, by the names of their files.

    Raises
    ------
    ScorecardError
        There are none, or one cannot be read.
    """
    files = sorted((folder / "entries").glob("*.json"))
    if not files:
        raise ScorecardError(
            f"{folder}: no entries. Score one into it: synthbench score --benchmark {folder} "
            f"--real REAL --synth SYNTH --out {folder}/entries/NAME.json"
        )
    return {file.stem: Scorecard.load(file) for file in files}


def comparable(cards: Mapping[str, Scorecard], benchmark: Benchmark) -> dict[str, Scorecard]:
    """Return the entries of the benchmark's own protocol and real cohort."""
    return {
        name: card
        for name, card in cards.items()
        if card.protocol.hash == benchmark.protocol.hash
        and card.real.fingerprint == benchmark.real_fingerprint
    }


def entry_hashes(folder: Path, cards: Mapping[str, Scorecard]) -> dict[str, str]:
    """Return the sha256 of each entry's file, as it was scored.

    A verdict on utility that was added since moves no rank, so it is left out.
    """
    return {
        name: hashlib.sha256(scored_bytes(folder / "entries" / f"{name}.json")).hexdigest()
        for name in sorted(cards)
    }


def _stale_entries(
    recorded: Mapping[str, str], folder: Path, cards: Mapping[str, Scorecard]
) -> list[str]:
    """Name the entries that are new, gone or changed since their hashes were recorded."""
    now = entry_hashes(folder, cards)
    return [
        *(f"{name} is new" for name in now if name not in recorded),
        *(f"{name} is gone" for name in recorded if name not in now),
        *(f"{name} changed" for name in now if recorded.get(name, now[name]) != now[name]),
    ]


def open_entries(
    folder: Path, benchmark: Benchmark, source: Source = load_materials
) -> list[Entry]:
    """Return the comparable entries with what `source` knows of their images.

    Raises
    ------
    ScorecardError
        There are fewer than two, or the images of some were not scored here.
    """
    cards = comparable(read_entries(folder), benchmark)
    if len(cards) < 2:
        raise ScorecardError(
            f"{folder}: at least 2 comparable entries are needed for a ranking; found "
            f"{len(cards)}. Score another one with --benchmark {folder}."
        )
    found = {name: source(card) for name, card in cards.items()}
    absent = [name for name, materials in found.items() if materials is None]
    if absent:
        files = ", ".join(f"{folder}/entries/{name}.json" for name in absent)
        raise ScorecardError(
            f"the volumes behind {files} were not scored on this machine: score them here "
            f"(synthbench score --benchmark {folder} ...), or give --materials FILE, which "
            "synthbench score --materials FILE writes where they are."
        )
    return [
        Entry(name, cards[name], materials)
        for name, materials in found.items()
        if materials is not None
    ]


def compare(
    folder: Path | str, *, source: Source = load_materials, progress: Progress | None = None
) -> Comparisons:
    """Compare all pairs of a benchmark's comparable entries, under every metric that ranks.

    Level, resamples and seed are those of the protocol. Metrics for comparison with papers, and
    those that need the training images, rank nothing.

    Parameters
    ----------
    folder
        The benchmark's.
    source
        Gives what a machine keeps of an entry's images.
    progress
        Called with (what, done, total).

    Raises
    ------
    ScorecardError
        Fewer than two entries can be compared, or the images behind one are not here, or are
        not those that it was scored with.
    """
    folder = Path(folder)
    benchmark = Benchmark.load(folder)
    protocol = benchmark.protocol
    entries = open_entries(folder, benchmark, source)
    todo = ranked_jobs(benchmark)
    rankings: list[tuple[Job, Ranking]] = []
    unranked: list[Unranked] = []
    for i, job in enumerate(todo):
        if progress is not None:
            progress(f"comparing by {job.metric.label}", i, len(todo))
        try:
            rankings.append((job, _ranking(entries, job, benchmark)))
        except MetricError as error:
            unranked.append(_unranked(job, str(error)))
    over_all = _adjusted_over_all([ranking for _, ranking in rankings], protocol.level)
    names = [entry.name for entry in entries]
    return Comparisons(
        benchmark=benchmark.name,
        protocol_hash=protocol.hash,
        level=protocol.level,
        resamples=protocol.resamples,
        seed=protocol.seed,
        entries=entry_hashes(folder, {entry.name: entry.card for entry in entries}),
        metrics=tuple(
            _record(job, ranking, p_all, names)
            for (job, ranking), p_all in zip(rankings, over_all, strict=True)
        ),
        unranked=tuple(unranked),
        overall=overall_order(
            {job.key: r for job, r in rankings if len(r.standings) == len(names)}
        ),
    )


def ranked_jobs(benchmark: Benchmark) -> list[Job]:
    """The jobs of a benchmark's protocol that rank entries, the primary metric's first."""
    extractors = [extractor.name for extractor in benchmark.protocol.extractors]
    found = [
        job
        for job in jobs(benchmark.protocol.intervals, extractors)
        if job.metric.role != "for_papers"
    ]
    return sorted(found, key=lambda job: job.metric.name != benchmark.primary)


def _ranking(entries: Sequence[Entry], job: Job, benchmark: Benchmark) -> Ranking:
    """Rank the entries that have a value of the job's metric."""
    valued = [entry for entry in entries if _value(entry, job) is not None]
    if len(valued) < 2:
        raise MetricError(f"{len(valued)} of {len(entries)} entries have a value of it")
    protocol = benchmark.protocol
    return rank(
        {entry.name: _statistic(entry, job, valued[0]) for entry in valued},
        direction=job.metric.direction,
        resamples=protocol.resamples,
        level=protocol.level,
        seed=protocol.seed,
    )


def _value(entry: Entry, job: Job) -> float | None:
    row = entry.card.row(job.metric.name, job.extractor)
    return None if row is None else row.value


def _statistic(entry: Entry, job: Job, first: Entry) -> Statistic:
    """An entry's statistic of a job, held to the value that the entry states.

    Raises
    ------
    ScorecardError
        The images give another value, or the real images are others than the first entry's.
    """
    row = entry.card.row(job.metric.name, job.extractor)
    assert row is not None
    assert row.value is not None
    statistic = entry.materials.statistic(job.key)
    found = inference.estimate(statistic)
    if abs(found - row.value) > TOLERANCE * (row.magnitude or max(1.0, abs(row.value))):
        raise ScorecardError(
            f"{entry.name}: its entry states {job.metric.label} {row.value:.6g}, and the "
            f"images that are kept here give {found:.6g}: they were scored again since, by "
            "other versions. Write the entry anew with synthbench score --out."
        )
    if not _same_real_rows(first.materials, entry.materials, job.key):
        raise ScorecardError(
            f"{first.name} and {entry.name}: {job.metric.label} was taken of other real rows, "
            "by another version or on another machine, so that they share no resample. "
            "Score both anew on one machine."
        )
    return statistic


def _same_real_rows(one: Materials, other: Materials, key: str) -> bool:
    first, second = one.jobs[key].real, other.jobs[key].real
    if first.shape != second.shape:
        return False
    scale = float(np.abs(first).max())
    return bool(np.abs(first - second).max() <= SAME_ROWS * max(scale, 1e-300))


def _unranked(job: Job, why: str) -> Unranked:
    return Unranked(
        metric=job.metric.name, extractor=job.extractor, label=job.metric.label, why=why
    )


def _record(
    job: Job, ranking: Ranking, p_all: Sequence[float | None], names: Sequence[str]
) -> MetricRanking:
    first = ranking.comparisons[0]
    ranked = {standing.name for standing in ranking.standings}
    return MetricRanking(
        metric=job.metric.name,
        extractor=job.extractor,
        label=job.metric.label,
        direction=ranking.direction,
        method=first.method,
        excluded=first.excluded,
        left_out=tuple(name for name in names if name not in ranked),
        places=tuple(
            Place(
                entry=s.name,
                value=s.value,
                rank_low=s.rank_low,
                rank_high=s.rank_high,
                best=s.best,
            )
            for s in ranking.standings
        ),
        pairs=tuple(
            Pair(
                first=c.first,
                second=c.second,
                difference=c.difference,
                se=c.se,
                low=c.low,
                high=c.high,
                p=c.p,
                p_all=p,
            )
            for c, p in zip(ranking.comparisons, p_all, strict=True)
        ),
    )


def _adjusted_over_all(rankings: Sequence[Ranking], level: float) -> list[list[float | None]]:
    """Adjusted p of each ranking's pairs, for the pairs of all rankings together.

    None where the resamples that all metrics can use are too few for the level.
    """
    if not rankings:
        return []
    observed = np.array(
        [c.difference / c.se if c.se else 0.0 for r in rankings for c in r.comparisons]
    )
    resampled = np.hstack([ranking.resampled_t for ranking in rankings])
    usable = np.isfinite(resampled).all(axis=1)
    sizes = [len(ranking.comparisons) for ranking in rankings]
    try:
        _, adjusted = max_t(observed, resampled[usable], level=level)
    except MetricError:
        return [[None] * size for size in sizes]
    parts = np.split(adjusted, np.cumsum(sizes)[:-1])
    return [part.tolist() for part in parts]


# ---------------------------------------------------------------- an order over all metrics


def overall_order(by_metric: Mapping[str, Ranking]) -> Overall | None:
    """Order entries by their mean rank over metrics, with the order's stability.

    Every metric counts alike. In each resample (the same for every metric) the entries are
    ranked under each metric by their recentred values, and the mean ranks are ordered again.

    Parameters
    ----------
    by_metric
        Rankings of the same entries, by one seed and number of resamples.

    Returns
    -------
    None where fewer than two metrics rank.
    """
    if len(by_metric) < 2:
        return None
    rankings = list(by_metric.values())
    names = sorted(standing.name for standing in rankings[0].standings)
    observed = np.stack([_ranks_of_estimates(r, names) for r in rankings])
    resampled = np.stack([_ranks_of_resamples(r, names) for r in rankings])
    usable = np.isfinite(resampled).all(axis=(0, 2))
    places = order_of(observed.mean(axis=0)[None])[0]
    drawn = order_of(resampled[:, usable].mean(axis=0))
    left_out = np.stack(
        [order_of(np.delete(observed, i, axis=0).mean(axis=0)[None])[0]
         for i in range(len(rankings))]
    )  # fmt: skip
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="inverted_cdf")
    listed = [
        OverallPlace(
            entry=name, mean_rank=float(observed[:, k].mean()), place=int(places[k]),
            low=int(low[k]), high=int(high[k]), kept=float((drawn[:, k] == places[k]).mean()),
            without_one=(int(left_out[:, k].min()), int(left_out[:, k].max())),
        )
        for k, name in enumerate(names)
    ]  # fmt: skip
    return Overall(
        metrics=tuple(by_metric),
        kept=float((drawn == places).all(axis=1).mean()),
        places=tuple(sorted(listed, key=lambda found: (found.place, found.entry))),
    )


def order_of(scores: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b k"]:
    """Return the place of each entry, 1 for the smallest score; equal scores share the better.

    >>> order_of(np.array([[2.0, 1.0, 2.0, 3.0]])).tolist()
    [[2.0, 1.0, 2.0, 4.0]]
    """
    smaller = (scores[:, None, :] < scores[:, :, None]).sum(axis=2)
    places: Float64[np.ndarray, "b k"] = 1.0 + smaller
    return places


def _ranks_of_estimates(ranking: Ranking, names: Sequence[str]) -> Float64[np.ndarray, " k"]:
    values = {standing.name: standing.value for standing in ranking.standings}
    row = np.array([[values[name] for name in names]])
    ranks: Float64[np.ndarray, " k"] = _middle_ranks(loss(row, ranking.direction))[0]
    return ranks


def _ranks_of_resamples(ranking: Ranking, names: Sequence[str]) -> Float64[np.ndarray, "b k"]:
    column = {standing.name: i for i, standing in enumerate(ranking.standings)}
    values = ranking.resampled[:, [column[name] for name in names]]
    ranks = _middle_ranks(loss(values, ranking.direction))
    return np.where(np.isfinite(values), ranks, np.nan)


def _middle_ranks(losses: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b k"]:
    """Ranks from 1, equal values sharing their mean: no metric favours one of a tie."""
    smaller = (losses[:, None, :] < losses[:, :, None]).sum(axis=2)
    equal = (losses[:, None, :] == losses[:, :, None]).sum(axis=2)
    ranks: Float64[np.ndarray, "b k"] = smaller + (equal + 1) / 2
    return ranks
