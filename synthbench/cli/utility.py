"""The verb `utility`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from synthbench.cli.console import answer, as_progress, is_main, log, progress_bar, writing
from synthbench.cli.options import (
    Accept,
    Cached,
    CountFailures,
    FileOptions,
    Name,
    Real,
    VolumeOptions,
)

if TYPE_CHECKING:
    from synthbench.utility.settings import StudySettings


@dataclass(frozen=True, kw_only=True)
class UtilityCohorts:
    """The cohorts of a study."""

    panel: ClassVar[str] = "Volumes"

    real: Real
    synth: Annotated[Path, typer.Option("--synth", help="Synthetic cohort, with labels.")]
    test: Annotated[Path, typer.Option("--test", help="Real cohort of other subjects, to test on.")]
    count_failures: CountFailures = False


@dataclass(frozen=True, kw_only=True)
class StudyChoices:
    """Which study is run: the fields of `synthbench.utility.command.Choices`."""

    panel: ClassVar[str] = "The study"

    label: Annotated[
        str | None, typer.Option(help="Column to predict, such as sex: two classes, or numbers.")
    ] = None
    synth_labels: Annotated[
        Path | None,
        typer.Option(help="Table of synthetic labels. Default: what was requested, if known."),
    ] = None
    model: Annotated[
        str, typer.Option(help="probe: a linear model on features. cnn: a 3-D network on volumes.")
    ] = "probe"
    extractor: Annotated[str, typer.Option(help="Extractor of the probe.")] = (
        "medicalnet-resnet50-23dataset"
    )
    network: Annotated[str, typer.Option(help="Network of cnn: resnet10 or densenet121.")] = (
        "resnet10"
    )
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings per arm, for cnn and --segmentation.")
    ] = 3
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a network on the largest arm.")] = 20
    batch_size: Annotated[int, typer.Option(min=2, help="Batch size of a network.")] = 4
    ratios: Annotated[
        str,
        typer.Option(help="Points of the curve: synthetic volumes in multiples of the real ones."),
    ] = "0.5,1,2,5"
    splits: Annotated[
        int | None, typer.Option(min=2, help="Divide --real and --test anew this many times.")
    ] = None
    transfer: Annotated[
        str | None,
        typer.Option(
            metavar="label=NAME,data=DIR", help="Label and cohort to fine-tune on afterwards (cnn)."
        ),
    ] = None
    segmentation: Annotated[
        bool, typer.Option("--segmentation", help="Learn tissues from label maps (dseg).")
    ] = False


@dataclass(frozen=True, kw_only=True)
class StudyVolumes:
    """How any study reads its volumes and names them."""

    name: Name = None
    volumes: VolumeOptions
    accept: Accept = None

    def settings(self, count_failures: bool) -> StudySettings:
        """Return what every study takes."""
        from synthbench.utility.settings import StudySettings

        return StudySettings(
            name=self.name, accept=self.accept or (), count_failures=count_failures,
            **vars(self.volumes),
        )  # fmt: skip


def utility(
    *,
    context: typer.Context,
    cohorts: UtilityCohorts,
    files: FileOptions,
    choices: StudyChoices,
    volumes: StudyVolumes,
    out: Annotated[Path | None, typer.Option("--out", help="Record (JSON).")] = None,
    scorecard: Annotated[
        Path | None, typer.Option(help="Scorecard of the same volumes to add the verdict to.")
    ] = None,
    cached: Cached = True,
) -> None:
    """Train on real, synthetic and both, test on real: do the volumes help, or hurt?"""
    from synthbench.records.scorecard import Scorecard
    from synthbench.utility import command
    from synthbench.utility.table import utility_table

    context.with_resource(writing(context.params, out=out, scorecard=scorecard))
    if scorecard is not None:
        # A wrong file should not be named only after hours of training.
        Scorecard.load(scorecard)
    with progress_bar("utility") as advance:
        record = command.run(
            files.of(cohorts.real), files.of(cohorts.synth), files.of(cohorts.test),
            command.Choices(**vars(choices)), volumes.settings(cohorts.count_failures),
            cache=cached, progress=as_progress(advance), log=log,
        )  # fmt: skip
    if not is_main():
        return
    if out is not None:
        record.save(out)
        log(f"written: {out}")
    if scorecard is not None:
        before = command.add_to_scorecard(record, scorecard, files.of(cohorts.synth))
        replaced = "" if before is None else f", in place of: {before.sentence} ({before.label})"
        log(f"{scorecard}: the verdict was added{replaced}")
    answer(record, lambda: utility_table(record))
