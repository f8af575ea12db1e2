"""The verb `score`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from synthbench.cli.console import Json, Seed, is_main, log, make_room, progress_bar, show
from synthbench.cli.options import (
    Accept,
    Extractors,
    Grid,
    Intensity,
    Method,
    Metrics,
    Real,
    assumed,
    context_of,
    metrics_of,
    names,
    refuse_frozen,
)
from synthbench.errors import UsageError


def score(
    context: typer.Context,
    real: Real,
    synth: Annotated[Path, typer.Option("--synth", help="Synthetic cohort, likewise.")],
    train: Annotated[
        Path | None,
        typer.Option("--train", help="The generator's training cohort: tests for copies."),
    ] = None,
    holdout: Annotated[
        Path | None,
        typer.Option("--holdout", help="Real cohort that neither side has seen."),
    ] = None,
    extractor: Extractors = None,
    metric: Metrics = None,
    benchmark: Annotated[
        Path | None, typer.Option(help="Benchmark whose frozen protocol to use.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What tables call the volumes.")] = None,
    space: Annotated[
        Grid,
        typer.Option(
            metavar="SIDE", help="Whose grid: same (both must have it already), real or synth."
        ),
    ] = Grid.same,
    intensity: Intensity = "percentile",
    ci: Annotated[
        Method | None,
        typer.Option(
            metavar="METHOD",
            help="studentized, jackknife or percentile. Default: each metric's own.",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=100, metavar="N", help="Bootstrap resamples, 100 or more.")
    ] = 1000,
    seed: Seed = 0,
    assume_grid: Annotated[
        str | None, typer.Option(help="Arrays without geometry: 'real', or voxel size in mm.")
    ] = None,
    accept: Accept = None,
    out: Annotated[Path | None, typer.Option("--out", help="Scorecard (JSON).")] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Save features (npz), real ones too: participant-level data."),
    ] = None,
    neighbours: Annotated[
        Path | None,
        typer.Option(help="Save nearest training volumes (TSV): participant-level data."),
    ] = None,
    sample_data: Annotated[
        Path | None,
        typer.Option(help="Save what comparisons elsewhere need (npz): participant-level data."),
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="Record of `synthbench sensitivity`: reads scores back as doses."),
    ] = None,
    conditions: Annotated[
        Path | None,
        typer.Option(help="What was asked of each volume (CSV/TSV). Default: their sidecars."),
    ] = None,
    measures: Annotated[
        list[Path] | None,
        typer.Option("--measures", help="Measures by another program (CSV/TSV); may be repeated."),
    ] = None,
    cached: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep features for later runs; see `cache info`."),
    ] = True,
    json: Json = False,
) -> None:
    """Score synthetic volumes against real ones: values, intervals, floors, protocol."""
    from synthbench.records.verdict import verdict_in
    from synthbench.scoring import scoring
    from synthbench.scoring.benchmark import Benchmark
    from synthbench.scoring.inputs import CohortSet
    from synthbench.scoring.settings import ScoringSettings
    from synthbench.sensitivity.read_back import Sensitivity, read_back

    settings: Benchmark | ScoringSettings
    if benchmark is not None:
        refuse_frozen(context)
        settings = Benchmark.load(benchmark)
    else:
        settings = ScoringSettings(
            **names(extractor, metric), space=space.value, intensity=intensity,
            intervals={} if ci is None else ci.value, resamples=resamples, seed=seed,
        )  # fmt: skip
    scoring.check_choices(settings, accept or ())
    if neighbours is not None and (train is None or "memorization" not in metrics_of(settings)):
        raise UsageError(
            f"--neighbours {neighbours}: nearest training volumes are found where "
            "memorization is assessed: add --train and, with --metric, --metric memorization."
        )
    for option, file in (("--out", out), ("--features", features), ("--neighbours", neighbours),
                         ("--sample-data", sample_data)):  # fmt: skip
        if file is not None:
            make_room(option, file)
    study = None if sensitivity is None else Sensitivity.load(sensitivity)
    with progress_bar("scoring") as advance:
        how = context_of(advance, cached)
        cohorts = CohortSet.read(
            real, synth, train=train, holdout=holdout, assume_grid=assumed(assume_grid),
            conditions=conditions, measures=measures or (), progress=how.progress,
        )  # fmt: skip
        found = scoring.score_cohorts(cohorts, settings, how, accept=accept or (), name=name)
    card = found.card if study is None else read_back(found.card, study)
    if not is_main():
        return
    written = _write_sample_data(found, features, neighbours, sample_data)
    if out is not None:
        before = verdict_in(out)
        card.save(out)
        if before is not None:
            log(
                f"{out}: the scorecard that was here held a verdict on utility ({before.label}), "
                f"and the new one holds none: run synthbench utility ... --scorecard {out} again."
            )
    if json:
        sys.stdout.write(card.model_dump_json(indent=1) + "\n")
    else:
        from synthbench.report.text import scorecard_table

        show(scorecard_table(card))
    for file in ([] if out is None else [out]) + written:
        log(f"written: {file}")
    if neighbours is not None and neighbours not in written:
        log(f"{neighbours}: not written, for memorization was {card.not_assessed}")
    if advice := scoring.without_weights(card):
        log(advice)


def _write_sample_data(
    found: Any, features: Path | None, neighbours: Path | None, sample_data: Path | None
) -> list[Path]:
    """Write what was asked for of a scoring's participant-level data; return the files."""
    import numpy as np

    from synthbench.runtime.files import write_atomic
    from synthbench.scoring.memorization import neighbours_table

    written = []
    if features is not None:
        np.savez_compressed(features, **found.features)
        written.append(features)
    if neighbours is not None and found.neighbours:
        write_atomic(neighbours, neighbours_table(found.neighbours).encode())
        written.append(neighbours)
    if sample_data is not None:
        found.sample_data.save(sample_data)
        written.append(sample_data)
    return written
