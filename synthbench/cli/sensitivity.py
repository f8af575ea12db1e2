"""The verb `sensitivity`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import (
    AssumeGrid,
    Json,
    Seed,
    is_main,
    log,
    make_room,
    progress_bar,
    show,
)
from synthbench.cli.options import (
    Extractors,
    Intensity,
    Metrics,
    Real,
    context_of,
    grid_of,
    names,
    refuse_frozen,
)


def sensitivity(
    context: typer.Context,
    real: Real,
    benchmark: Annotated[
        Path | None, typer.Option(help="Benchmark whose frozen protocol to use.")
    ] = None,
    extractor: Extractors = None,
    metric: Metrics = None,
    corruption: Annotated[
        list[str] | None, typer.Option("--corruption", help="May be repeated. Default: all.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="A run whose grid to use. Default: the real cohort's.")
    ] = None,
    intensity: Intensity = "percentile",
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
    out: Annotated[
        Path, typer.Option("--out", help="Record (JSON); the figure goes beside it (PNG).")
    ] = Path("sensitivity.json"),
    json: Json = False,
) -> None:
    """Show what the metrics see on your data: known damage to real volumes, dose by dose."""
    from synthbench.scoring.benchmark import Benchmark
    from synthbench.scoring.settings import ScoringSettings
    from synthbench.sensitivity import output, study

    settings: Benchmark | ScoringSettings
    if benchmark is not None:
        refuse_frozen(context)
        settings = Benchmark.load(benchmark)
    else:
        settings = ScoringSettings(
            **names(extractor, metric), space="same" if like is None else grid_of(like),
            intensity=intensity, seed=seed,
        )  # fmt: skip
    make_room("--out", out)
    with progress_bar("sensitivity") as advance:
        found = study.sensitivity(
            real, settings, context_of(advance), corruptions=corruption, assume_grid=assume_grid
        )
    if not is_main():
        return
    found.save(out)
    figure = out.with_suffix(".png")
    output.figure(found, figure, study.pictured(found))
    if json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
        return
    show(output.table(found))
    log(
        f"{out}, {figure}. Next: synthbench score --real {real} --synth SYNTH --sensitivity {out} "
        "reads scores back as doses."
    )
