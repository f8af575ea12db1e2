"""The verb `utility`."""

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
from synthbench.cli.options import Accept, Intensity, Real


def utility(
    real: Real,
    synth: Annotated[Path, typer.Option("--synth", help="Synthetic cohort, with labels.")],
    test: Annotated[
        Path, typer.Option("--test", help="Real cohort of other subjects, to test on.")
    ],
    label: Annotated[
        str | None, typer.Option(help="A column: two classes, or numbers. Such as sex.")
    ] = None,
    synth_labels: Annotated[
        Path | None,
        typer.Option(help="Table of synthetic labels. Default: what was asked for, if known."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="probe: linear, on features. cnn: a 3-D network on volumes.")
    ] = "probe",
    extractor: Annotated[
        str, typer.Option(help="Of the probe. Default: medicalnet-resnet50-23dataset")
    ] = "medicalnet-resnet50-23dataset",
    network: Annotated[str, typer.Option(help="Of cnn: resnet10 or densenet121.")] = "resnet10",
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings an arm of cnn and of --segmentation.")
    ] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of a network, on the largest arm.")] = 20,
    batch_size: Annotated[int, typer.Option(min=2, help="Of a network.")] = 4,
    ratios: Annotated[
        str, typer.Option(help="Of the curve: synthetic volumes in multiples of the real ones.")
    ] = "0.5,1,2,5",
    splits: Annotated[
        int | None, typer.Option(min=2, help="Divide --real and --test anew, so many times.")
    ] = None,
    transfer: Annotated[
        str | None,
        typer.Option(metavar="label=NAME,data=DIR", help="Fine-tune there afterwards (cnn)."),
    ] = None,
    segmentation: Annotated[
        bool, typer.Option("--segmentation", help="Learn tissues from label maps (dseg).")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What tables call the volumes.")] = None,
    intensity: Intensity = "percentile",
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
    accept: Accept = None,
    out: Annotated[Path | None, typer.Option("--out", help="Record (JSON).")] = None,
    scorecard: Annotated[
        Path | None, typer.Option(help="Scorecard of the same volumes to add the verdict to.")
    ] = None,
    cached: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep features for later runs; see `cache info`."),
    ] = True,
    json: Json = False,
) -> None:
    """Train on real, synthetic and both, test on real: do the volumes help, or hurt?"""
    from synthbench.records.scorecard import Scorecard
    from synthbench.utility import command
    from synthbench.utility.settings import StudySettings

    if out is not None:
        make_room("--out", out)
    if scorecard is not None:
        # A wrong file should not be named only after hours of training.
        Scorecard.load(scorecard)
    with progress_bar("utility") as advance:
        record = command.run(
            real, synth, test,
            command.Choices(
                label=label, synth_labels=synth_labels, model=model, extractor=extractor,
                network=network, seeds=seeds, epochs=epochs, batch_size=batch_size, ratios=ratios,
                splits=splits, transfer=transfer, segmentation=segmentation,
            ),
            StudySettings(
                name=name, intensity=intensity, seed=seed, assume_grid=assume_grid,
                accept=accept or (),
            ),
            cache=cached,
            progress=lambda what, done, total: advance(done, total, what), log=log,
        )  # fmt: skip
    if not is_main():
        return
    if out is not None:
        record.save(out)
        log(f"written: {out}")
    if scorecard is not None:
        before = command.add_to_scorecard(record, scorecard, synth)
        replaced = "" if before is None else f", in place of: {before.sentence} ({before.label})"
        log(f"{scorecard}: the verdict was added{replaced}")
    if json:
        sys.stdout.write(record.model_dump_json(indent=1) + "\n")
        return
    from synthbench.utility.table import utility_table

    show(utility_table(record))
