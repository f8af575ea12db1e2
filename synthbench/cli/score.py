"""The verb `score`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from synthbench.cli.common.slurm import SlurmOptions, words_of
from synthbench.cli.console import answer, context_of, is_main, log, progress_bar, writing
from synthbench.cli.options import (
    Accept,
    AllowNetwork,
    AssumeGridOrReal,
    BenchmarkUsed,
    Cached,
    CountFailures,
    FileOptions,
    Intensity,
    MetricOptions,
    Name,
    Real,
    Seed,
    frozen_benchmark,
    grid_or_real,
)
from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.cohorts.choice import CohortFiles
    from synthbench.readers.results import Analysis
    from synthbench.records.readers import ReaderResult
    from synthbench.records.scorecard import Scorecard
    from synthbench.runtime.part import Part
    from synthbench.runtime.slurm import Settings
    from synthbench.scoring.benchmark import Benchmark
    from synthbench.scoring.inputs import CohortSet
    from synthbench.scoring.settings import Context, ScoringSettings


class Grid(StrEnum):
    """Which side's grid both are brought to."""

    same = "same"
    real = "real"
    synth = "synth"


class Method(StrEnum):
    """Interval methods."""

    studentized = "studentized"
    jackknife = "jackknife"
    percentile = "percentile"
    score = "score"
    asinh = "asinh"


@dataclass(frozen=True, kw_only=True)
class ScoreCohorts:
    """The cohorts of a scoring."""

    panel: ClassVar[str] = "Volumes"

    real: Real
    synth: Annotated[
        Path, typer.Option("--synth", help="Synthetic cohort, in one of the same forms.")
    ]
    train: Annotated[
        Path | None,
        typer.Option("--train", help="The generator's training cohort: tests for copies."),
    ] = None
    holdout: Annotated[
        Path | None,
        typer.Option("--holdout", help="Other real cohort, which the generator never saw."),
    ] = None
    count_failures: CountFailures = False
    files: FileOptions

    def chosen(self) -> dict[str, CohortFiles | None]:
        """Return the chosen files of each cohort, by role."""
        paths = {"real": self.real, "synth": self.synth, "train": self.train,
                 "holdout": self.holdout}  # fmt: skip
        return {role: self.files.of(path) for role, path in paths.items()}


@dataclass(frozen=True, kw_only=True)
class ScoreProtocol:
    """What a scoring is done with, and what its volumes are called."""

    panel: ClassVar[str] = "How it is scored"

    metrics: MetricOptions
    benchmark: BenchmarkUsed = None
    allow_network: AllowNetwork = None
    name: Name = None
    space: Annotated[
        Grid,
        typer.Option(
            metavar="SIDE", help="Common grid: same (both have it already), real or synth."
        ),
    ] = Grid.same
    intensity: Intensity = "percentile"
    ci: Annotated[
        Method | None,
        typer.Option(
            metavar="METHOD",
            help="studentized, jackknife, percentile, score or asinh. Default: each metric's own.",
        ),
    ] = None
    resamples: Annotated[
        int, typer.Option(min=100, metavar="N", help="Bootstrap resamples, 100 or more.")
    ] = 1000
    seed: Seed = 0

    def settings(self) -> dict[str, Any]:
        """Return the fields of `ScoringSettings` that these options choose."""
        return {
            **self.metrics.settings(),
            "space": self.space.value,
            "intensity": self.intensity,
            "intervals": {} if self.ci is None else self.ci.value,
            "resamples": self.resamples,
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True)
class ScoreFiles:
    """The files that a scoring writes, and how much of the scorecard it prints."""

    panel: ClassVar[str] = "Files that are written"

    out: Annotated[Path | None, typer.Option("--out", help="Scorecard (JSON).")] = None
    features: Annotated[
        Path | None,
        typer.Option(help="Save features (npz), real ones too: participant-level data."),
    ] = None
    neighbours: Annotated[
        Path | None,
        typer.Option(help="Save nearest training volumes (TSV): participant-level data."),
    ] = None
    sample_data: Annotated[
        Path | None,
        typer.Option(help="Save what comparisons elsewhere need (npz): participant-level data."),
    ] = None

    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Compute only the I-th of N parts of --features FILE, or of --pairs DIR.",
        ),
    ] = None
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep sums over pairs, to go on after a stop: participant-level data.",
        ),
    ] = None
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Parts of --slurm.")] = 1
    identifiers: Annotated[
        bool,
        typer.Option("--identifiers", help="In --neighbours, name real volumes by their files."),
    ] = False
    wide: Annotated[
        bool,
        typer.Option("--wide", help="Print all rows and columns: parts, p, values of all volumes."),
    ] = False

    def writing(self, reads: dict[str, Any]) -> AbstractContextManager[None]:
        """Return the context in which these files are written by this command alone.

        Raises
        ------
        UsageError
            An option is about a file that is not asked for.
        """
        if self.identifiers and self.neighbours is None:
            raise UsageError("--identifiers: it names the volumes of --neighbours FILE; add that.")
        if self.shard is not None and (self.features is None) == (self.pairs is None):
            raise UsageError(
                "--shard: name the file that the features of the part go into (--features FILE), "
                "or the folder of its sums over pairs (--pairs DIR)."
            )
        # Several jobs write into the folder of sums over pairs, each its own files.
        own = {name: f for name, f in vars(self).items() if isinstance(f, Path) and name != "pairs"}
        return writing(reads, **own)


@dataclass(frozen=True, kw_only=True)
class ScoreTables:
    """What else is read: records and tables beside the cohorts."""

    panel: ClassVar[str] = "What else is read"

    sensitivity: Annotated[
        Path | None,
        typer.Option(help="Record of `synthbench sensitivity`: scores are read as doses."),
    ] = None
    conditions: Annotated[
        Path | None,
        typer.Option(help="What was requested of each volume (CSV/TSV). Default: their sidecars."),
    ] = None
    measures: Annotated[
        list[Path] | None,
        typer.Option("--measures", help="Measures by another program (CSV/TSV); may be repeated."),
    ] = None
    readers: Annotated[
        Path | None,
        typer.Option(help="Record of `synthbench readers analyse` on the same synthetic volumes."),
    ] = None
    feature_parts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the features of all parts (--shard)."),
    ] = None


def score(
    *,
    context: typer.Context,
    cohorts: ScoreCohorts,
    protocol: ScoreProtocol,
    assume_grid: AssumeGridOrReal = None,
    accept: Accept = None,
    files: ScoreFiles,
    tables: ScoreTables,
    cached: Cached = True,
    slurm: SlurmOptions,
) -> None:
    """Score synthetic volumes against real ones: values, intervals, floors, protocol."""
    from synthbench.report.text import COLUMNS, WIDE_COLUMNS, scorecard_table
    from synthbench.runtime.part import Part
    from synthbench.scoring import scoring
    from synthbench.scoring.cache.pairs import PairSums
    from synthbench.scoring.cache.parts import AllParts
    from synthbench.scoring.inputs import CohortSet
    from synthbench.scoring.settings import ScoringSettings
    from synthbench.sensitivity.read_back import Sensitivity, read_back

    settings = (
        ScoringSettings(**protocol.settings())
        if protocol.benchmark is None
        else frozen_benchmark(context, protocol.benchmark)
    )
    scoring.check_choices(settings, accept or (), tables=bool(tables.measures))
    if files.neighbours is not None:
        _check_neighbours(files.neighbours, cohorts, settings)
    array = slurm.settings()
    if array is None and files.jobs > 1:
        raise UsageError("--jobs: it divides the scoring of --slurm; add that.")
    if array is not None:
        _score_on_slurm(context, files, tables, array)
        return
    context.with_resource(files.writing(context.params))
    study = None if tables.sensitivity is None else Sensitivity.load(tables.sensitivity)
    seen = None if tables.readers is None else _analysis(tables.readers)
    chosen: dict[str, Any] = cohorts.chosen()
    with progress_bar("scoring") as advance:
        work = context_of(advance, cached, protocol.allow_network)
        read = CohortSet.read(
            **chosen, assume_grid=grid_or_real(assume_grid), conditions=tables.conditions,
            measures=tables.measures or (), count_failures=cohorts.count_failures,
            progress=work.progress,
        )  # fmt: skip
        if tables.feature_parts is not None:
            work = replace(work, parts=AllParts.load(tables.feature_parts))
        if files.shard is not None and files.features is not None:
            _save_part(read, settings, work, files)
            return
        if files.pairs is not None:
            part = None if files.shard is None else Part.parse(files.shard)
            work = replace(work, pairs=PairSums.opened(files.pairs, part))
            if part is not None:
                _add_pairs(read, settings, work, part)
                return
        # Before the scoring: a wrong file should not be named only after hours.
        by_readers = None if seen is None else _result(seen, read, tables.readers)
        found = scoring.score_cohorts(read, settings, work, accept=accept or (), name=protocol.name)
    card = found.card if study is None else read_back(found.card, study)
    card = card.model_copy(update={"readers": by_readers})
    if not is_main():
        return
    written = [] if files.out is None else [_saved(card, files.out)]
    written += found.save_volume_data(
        features=files.features,
        neighbours=files.neighbours,
        sample_data=files.sample_data,
        identifiers=files.identifiers,
    )
    columns = WIDE_COLUMNS if files.wide else COLUMNS
    answer(card, lambda: scorecard_table(card, wide=files.wide), columns)
    for file in written:
        log(f"written: {file}")
    if files.neighbours is not None and files.neighbours not in written:
        log(f"{files.neighbours}: not written, because memorization was {card.not_assessed}")
    if advice := scoring.without_weights(card):
        log(advice)


def _save_part(
    read: CohortSet,
    settings: ScoringSettings | Benchmark,
    work: Context,
    files: ScoreFiles,
) -> None:
    """Compute and save the features of one part of the volumes."""
    from synthbench.runtime.part import Part
    from synthbench.scoring.setup import feature_part

    assert files.shard is not None
    assert files.features is not None
    found = feature_part(read, settings, work, Part.parse(files.shard))
    if is_main():
        found.save(files.features)
        counts = {name: len(rows) for name, rows in found.rows.items()}
        answer({"part": str(found.part), "features": counts, "file": str(files.features)})
        log(f"written: {files.features}, the part {found.part}")


def _add_pairs(
    read: CohortSet, settings: ScoringSettings | Benchmark, work: Context, part: Part
) -> None:
    """Compute the sums over pairs of one part, as far as other parts allow."""
    from synthbench.scoring.divided.pair_part import pair_part

    waiting = pair_part(read, settings, work)
    if not is_main():
        return
    assert work.pairs is not None
    work.pairs.note(waiting)
    for what in waiting:
        log(what)
    answer({"part": str(part), "waiting": len(waiting)})
    if waiting:
        log(
            f"part {part}: the rest needs what other jobs compute. Repeat all jobs once they ended."
        )
    else:
        log(f"part {part}: all sums over pairs are there. Score without --shard.")


_NOT_OF_PARTS = frozenset({
    "out", "jobs", "slurm", "slurm_set", "config", "json", "quiet", "pairs", "neighbours",
    "identifiers", "sample_data", "wide", "readers", "sensitivity", "name",
})  # fmt: skip
_OF_WHOLE = frozenset(
    {"neighbours", "identifiers", "sample_data", "readers", "sensitivity", "name"}
)


def _score_on_slurm(
    context: typer.Context, files: ScoreFiles, tables: ScoreTables, array: Settings
) -> None:
    """Submit the parts of a scoring and the scoring itself, and print the scorecard."""
    from synthbench.records.scorecard import Scorecard
    from synthbench.report.text import COLUMNS, WIDE_COLUMNS, scorecard_table
    from synthbench.scoring.divided.on_slurm import score_on_slurm

    if files.out is None:
        raise UsageError("--slurm: name the scorecard, which a task writes: --out card.json.")
    if files.shard or files.features or tables.feature_parts:
        raise UsageError(
            "--slurm: leave out --shard, --features and --feature-parts: it sets them."
        )
    with progress_bar("scoring") as advance:
        score_on_slurm(
            words_of(context, _NOT_OF_PARTS), words_of(context, _NOT_OF_PARTS - _OF_WHOLE),
            files.out, files.jobs, array, pairs=files.pairs, log=log,
            progress=lambda what, done, total: advance(done, total, what),
        )  # fmt: skip
    card = Scorecard.load(files.out)
    columns = WIDE_COLUMNS if files.wide else COLUMNS
    answer(card, lambda: scorecard_table(card, wide=files.wide), columns)
    log(f"written: {files.out}")


def _check_neighbours(
    file: Path, cohorts: ScoreCohorts, settings: ScoringSettings | Benchmark
) -> None:
    """Raise where no nearest training volumes will be found."""
    from synthbench.scoring.benchmark import settings_and_benchmark
    from synthbench.scoring.protocol import metrics_of

    own, _ = settings_and_benchmark(settings)
    if cohorts.train is None or "memorization" not in metrics_of(own):
        raise UsageError(
            f"--neighbours {file}: nearest training volumes are found only where "
            "memorization is assessed: add --train and, if you name metrics, --metric memorization."
        )


def _analysis(file: Path) -> Analysis:
    from synthbench.readers.results import Analysis

    if file.is_dir():
        raise UsageError(
            f"--readers {file}: that is a folder. Write the record of its study first: synthbench "
            f"readers analyse {file} --out analysis.json"
        )
    return Analysis.load(file)


def _result(found: Analysis, read: CohortSet, file: Path | None) -> ReaderResult:
    from synthbench.readers.scorecards import result_of

    return result_of(found, read.synth.fingerprint, f"--readers {file}")


def _saved(card: Scorecard, file: Path) -> Path:
    """Write a scorecard and return its file; tell the user which verdicts are lost."""
    from synthbench.records.verdict import scorecard_in

    before = scorecard_in(file)
    card.save(file)
    if before is not None and before.utility is not None:
        log(
            f"{file}: the scorecard that was here held a verdict on utility "
            f"({before.utility.label}), and the new one holds none: run synthbench utility ... "
            f"--scorecard {file} again."
        )
    if before is not None and before.readers is not None and card.readers is None:
        log(
            f"{file}: the scorecard that was here held what readers saw, and the new one does not: "
            f"run synthbench readers analyse STUDY --scorecard {file}."
        )
    return file
