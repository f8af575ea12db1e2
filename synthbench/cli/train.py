"""The verb `train`."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from synthbench.cli.common.settings_file import TrainSettings
from synthbench.cli.console import answer, log, progress_bar
from synthbench.cli.options import (
    Accept,
    AcceptLicence,
    AssumeGrid,
    FileOptions,
    completed,
)
from synthbench.errors import CheckFailed, Stopped, UsageError


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a generator is trained on and with, and where its run goes."""

    panel: ClassVar[str] = "What is trained, and how"

    real: Annotated[
        Path | None,
        typer.Option("--real", help="Training cohort. Default: the embedded atlas cohort."),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder. Default: runs/GENERATOR.")
    ] = None
    validation: Annotated[
        Path | None, typer.Option(help="Volumes of other subjects, for validation during training.")
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(help="ddpm3d: tiny, small, paper, and more. Default: tiny without CUDA."),
    ] = None
    config: TrainSettings = None
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, key=value; may be repeated.")
    ] = None
    init: Annotated[
        Path | None,
        typer.Option(help="Run whose weights to start from; atlas: the one in the package."),
    ] = None
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Published weights to write as a run, without training. ldm3d: monai-brain-ldm. "
            "dit-tiles: facebook/DiT-XL-2-256, or a folder in the layout of diffusers."
        ),
    ] = None
    accept_licence: AcceptLicence = None
    track: Annotated[
        list[str] | None,
        typer.Option("--track", help="tensorboard, wandb or mlflow; may be repeated."),
    ] = None
    energy: Annotated[bool, typer.Option("--energy", help="Measure the electricity used.")] = False
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what the training would take, and train nothing."),
    ] = False
    assume_grid: AssumeGrid = None
    accept: Accept = None


def train(
    generator: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completed("generators"), help="See `synthbench list generators`."
        ),
    ] = None,
    *,
    options: TrainOptions,
    files: FileOptions,
) -> None:
    """Train a generator on a cohort, into a run folder."""
    if options.resume and options.out is None:
        raise UsageError("--resume: name the run folder with --out.")
    if generator is None and not options.resume:
        raise UsageError("name a generator: synthbench list generators shows them.")
    if options.accept_licence is not None and options.pretrained is None:
        raise UsageError("--accept-licence: is for --pretrained. Leave it out.")
    folder = options.out or Path("runs") / str(generator)
    if options.pretrained is not None:
        _write_published(str(generator), options.pretrained, folder, options)
    elif options.dry_run:
        _estimate(str(generator), options, files)
    else:
        _train(generator, folder, options, files)


def _write_published(generator: str, name: str, folder: Path, options: TrainOptions) -> None:
    """Write a published generator as a run folder."""
    from synthbench.training.pretrained import pretrained_run

    if any((
        options.real, options.validation, options.preset, options.config, options.settings,
        options.init, options.track, options.energy, options.resume, options.dry_run,
    )):  # fmt: skip
        raise UsageError(
            "--pretrained trains nothing: beside it, only a generator, --out and --accept-licence "
            "are given."
        )
    run = pretrained_run(generator, name, folder, accept_licence=options.accept_licence, log=log)
    answer({"run": str(run.folder), **run.record})


def _estimate(generator: str, options: TrainOptions, files: FileOptions) -> None:
    """Print what a training would take; raise where it does not fit."""
    from synthbench.training.dry_run import dry_run, refusal

    if options.resume:
        raise UsageError("--dry-run is for a new run: leave out --resume.")
    plan = dry_run(
        generator, real=files.of(options.real), preset=options.preset, config=options.config,
        overrides=options.settings or (), init=options.init, assume_grid=options.assume_grid,
        accept=options.accept or (),
    )  # fmt: skip
    answer(
        plan.record(),
        lambda: "\n".join(f"{name:<18} {value}" for name, value in plan.rows()),
    )
    if not plan.fits:
        raise CheckFailed(refusal(plan))


def _train(generator: str | None, folder: Path, options: TrainOptions, files: FileOptions) -> None:
    """Train, and say what comes next."""
    from synthbench.training import training

    try:
        with progress_bar("training") as advance:
            run = training.train(
                generator, out=folder, real=options.real, validation=options.validation,
                preset=options.preset, config=options.config, overrides=options.settings or (),
                init=options.init, track=options.track or (), energy=options.energy,
                resume=options.resume, assume_grid=options.assume_grid,
                suffix=files.suffix, filters=files.filters or (), accept=options.accept or (),
                progress=advance, log=log,
            )  # fmt: skip
    except KeyboardInterrupt:
        # Before the first step or after the last, or the second Ctrl-C: the loop has not answered.
        raise Stopped(_interrupted(folder), signal.SIGINT) from None
    record = run.record
    log(
        f"trained in {record['training_seconds']:.0f} s. {run.folder} holds the weights, the "
        f"configuration and preview.png.\nNext: synthbench sample {run.folder} --n 16 --out synth/"
    )
    answer({"run": str(run.folder), **record})


def _interrupted(folder: Path) -> str:
    if not (folder / "config.yaml").is_file():
        return "interrupted before the run began; repeat the command."
    return f"interrupted. Continue: synthbench train --resume --out {folder}"
