"""Comparisons: which entries of a benchmark differ, as a record of aggregates.

Two scorecards alone cannot say whether their difference is chance, because entries that are
scored on one real set share its sampling error. So comparisons are computed from the sample data
(`synthbench.scoring.sample_data`) where the images were scored, written to `comparisons.json`,
and read anywhere.

Each metric is ranked by itself: all pairs are compared by the paired bootstrap with shared real
weights, and the largest |t| over the pairs adjusts their p
(`synthbench.metrics.inference.comparison.rank`). A claim under several metrics at once needs
`p_all`, for which the largest |t| is taken over metrics x pairs. The order over all metrics is a
summary without a test; the record says how stable it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from synthbench.errors import MetricError, ScorecardError, UsageError, near_miss
from synthbench.leaderboard.entries import (
    Entry,
    Source,
    entry_hashes,
    open_entries,
    stale_entries,
)
from synthbench.leaderboard.overall import Overall, overall_order
from synthbench.metrics.inference import resampling
from synthbench.metrics.inference.comparison import Ranking, rank
from synthbench.metrics.inference.multiplicity import max_t
from synthbench.metrics.inference.terms import ComparisonMethod
from synthbench.metrics.metric import Direction, Statistic
from synthbench.records.base import Record, RecordFile
from synthbench.records.reasons import public_words
from synthbench.records.scorecard import Scorecard
from synthbench.render.notebook import Shown, draw_row, name_rows, new_axes
from synthbench.runtime.callbacks import Progress
from synthbench.runtime.text import in_figure
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.sample_data import SampleData, load_sample_data
from synthbench.scoring.statistics import Job, jobs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FILE = "comparisons.json"

TOLERANCE = 1e-6
"""Largest difference between an entry's value and that of its sample data, relative to the terms
that the value is made of."""

SAME_ROWS = 1e-3
"""Largest difference, relative to the largest number, between two entries' rows of one real
volume."""


class Pair(Record):
    """The difference between two entries under one metric: second minus first."""

    first: str
    second: str
    difference: float
    se: float
    low: float = Field(description="of an interval; those of all pairs cover together")
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
    added: tuple[str, ...] = Field(
        default=(), exclude=True, description="entries with a value that came after the comparison"
    )
    places: tuple[Place, ...]
    pairs: tuple[Pair, ...]

    def pair(self, one: str, other: str) -> Pair | None:
        """Return the pair of two entries, in either order; None where there is none."""
        return next((p for p in self.pairs if {p.first, p.second} == {one, other}), None)

    def ties(self, entry: str, level: float) -> tuple[str, ...]:
        """Return the entries that are not significantly different from one, best first."""
        different = {
            name
            for pair in self.pairs
            if pair.p <= 1 - level + 1e-12
            for name in (pair.first, pair.second)
            if entry in (pair.first, pair.second)
        }
        return tuple(p.entry for p in self.places if p.entry not in different | {entry})


class Unranked(Record):
    """A metric that could not be compared, and why."""

    metric: str
    extractor: str | None
    label: str
    why: str


class Aggregates(RecordFile):
    """A record that is computed from the entries' sample data, and can be read anywhere.

    Attributes
    ----------
    file
        Its name in the benchmark's folder.
    flag
        The option of `synthbench leaderboard` that writes it.
    """

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
            The file cannot be read, or holds something else.
        """
        file = folder / cls.file
        return cls.load(file) if file.is_file() else None

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Name the command that writes it."""
        return f"Write it again: synthbench leaderboard {file.parent} {cls.flag}"

    def stale(self, folder: Path, cards: Mapping[str, Scorecard], protocol_hash: str) -> list[str]:
        """Return what changed since it was written, entry by entry; empty where nothing did.

        Entries that were added are no change: they take no part in it.
        """
        if protocol_hash != self.protocol_hash:
            return [f"the protocol is {protocol_hash}, and was {self.protocol_hash}"]
        return stale_entries(self.entries, folder, cards)


class Comparisons(Shown, Aggregates):
    """All pairs of a benchmark's comparable entries."""

    file: ClassVar[str] = FILE
    what: ClassVar[str] = "comparisons"
    flag: ClassVar[str] = "--compare"

    level: float
    shared: tuple[str, ...] = Field(default=("real",), description="roles with shared weights")
    metrics: tuple[MetricRanking, ...]
    unranked: tuple[Unranked, ...] = ()
    overall: Overall | None = None

    @property
    def title(self) -> str:
        """The comparisons in one line."""
        return (
            f"{len(self.entries)} entries of {self.benchmark} by {len(self.metrics)} metrics, "
            f"protocol {self.protocol_hash}"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per metric and entry, best first.

        Returns
        -------
        Columns `metric`, `label`, `extractor`, `entry`, `value`, `rank_low`, `rank_high`, and
        `best`: the share of resamples in which the entry is the best.
        """
        import pandas as pd

        return pd.DataFrame([
            {"metric": one.metric, "label": one.label, "extractor": one.extractor,
             **place.model_dump()}
            for one in self.metrics
            for place in one.places
        ])  # fmt: skip

    def plot(
        self, metric: str | None = None, extractor: str | None = None, *, ax: Axes | None = None
    ) -> Axes:
        """Draw the ranks of the entries under one metric as intervals; return the axes.

        Parameters
        ----------
        metric, extractor
            The metric; None: the first that was compared, by the first extractor.

        Raises
        ------
        UsageError
            There is no such metric among the comparisons.
        """
        names = [one.metric for one in self.metrics]
        found = self.ranking(metric or (names or [""])[0], extractor)
        if found is None:
            raise UsageError(f"plot: no metric '{metric}': {near_miss(str(metric), names)}")
        ax = new_axes(ax, len(found.places))
        for at, place in enumerate(found.places):
            draw_row(ax, at, (place.rank_low + place.rank_high) / 2,
                     (place.rank_low - 0.2, place.rank_high + 0.2))  # fmt: skip
        name_rows(ax, [place.entry for place in found.places])
        ax.set_xlabel(f"rank by {in_figure(found.label)}, {self.level:.0%} over all pairs")
        ax.set_xticks(range(1, len(found.places) + 1))
        ax.set_title(in_figure(self.benchmark))
        return ax

    def ranking(self, metric: str, extractor: str | None = None) -> MetricRanking | None:
        """Return the ranking by a metric, by the first extractor where None is named."""
        for found in self.metrics:
            if found.metric == metric and extractor in (None, found.extractor):
                return found
        return None


def compare(
    folder: Path | str, *, source: Source = load_sample_data, progress: Progress | None = None
) -> Comparisons:
    """Return the comparisons of all pairs of comparable entries, under every metric that ranks.

    Level, resamples and seed are those of the protocol. Metrics for comparison with papers, and
    those that need the training images, rank nothing.

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
        Fewer than two entries can be compared, or the sample data of one are not here, or they
        give another value than the entry states.
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
            unranked.append(_unranked(job, public_words(error)))
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
        overall=overall_order({job.key: r for job, r in rankings}, names),
    )


def ranked_jobs(benchmark: Benchmark) -> list[Job]:
    """Return the jobs of a benchmark's protocol that rank entries, the primary metric's first."""
    extractors = [extractor.name for extractor in benchmark.protocol.extractors]
    found = [
        job
        for job in jobs(benchmark.protocol.intervals, extractors)
        if job.metric.role != "for_papers"
    ]
    return sorted(found, key=lambda job: benchmark.place(job.metric.name, job.extractor))


def _ranking(entries: Sequence[Entry], job: Job, benchmark: Benchmark) -> Ranking:
    """Rank the entries that have a value of the job's metric."""
    with_value = [entry for entry in entries if _value(entry, job) is not None]
    if len(with_value) < 2:
        raise MetricError(
            f"{len(with_value)} of {len(entries)} entries have a value of it",
            "few values",
            found=len(with_value),
            needed=len(entries),
        )
    protocol = benchmark.protocol
    return rank(
        {entry.name: _statistic(entry, job, with_value[0]) for entry in with_value},
        direction=job.metric.direction,
        resamples=protocol.resamples,
        level=protocol.level,
        seed=protocol.seed,
    )


def _value(entry: Entry, job: Job) -> float | None:
    row = entry.card.row(job.metric.name, job.extractor)
    return None if row is None else row.value


def _statistic(entry: Entry, job: Job, first: Entry) -> Statistic:
    """Return an entry's statistic of a job, after comparing it with the value that it states.

    Raises
    ------
    ScorecardError
        The sample data give another value, or their rows of the real images differ from those of
        the first entry.
    """
    row = entry.card.row(job.metric.name, job.extractor)
    assert row is not None
    assert row.value is not None
    statistic = entry.sample_data.statistic(job.key)
    found = resampling.estimate(statistic)
    if abs(found - row.value) > TOLERANCE * (row.magnitude or max(1.0, abs(row.value))):
        raise ScorecardError(
            f"{entry.name}: the entry states {job.metric.label} {row.value:.6g}, but the sample "
            f"data kept here give {found:.6g}: the volumes were scored again by other versions. "
            "Write the entry again with synthbench score --out."
        )
    if not _same_real_rows(first.sample_data, entry.sample_data, job.key):
        raise ScorecardError(
            f"{first.name} and {entry.name}: {job.metric.label} was computed from different rows "
            "of the real volumes, by another version or on another machine, so they share no "
            "resample. Score both again on one machine."
        )
    return statistic


def _same_real_rows(one: SampleData, other: SampleData, key: str) -> bool:
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
    """Return the p of each ranking's pairs, adjusted for the pairs of all rankings together.

    A p is None where the resamples that all metrics can use are too few for the level.
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
