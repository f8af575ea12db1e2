"""The verb `train`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import AssumeGrid, Json, log, print_json, progress_bar
from synthbench.cli.options import Accept
from synthbench.errors import CheckFailed, Stopped, UsageError


def train(
    generator: Annotated[
        str | None, typer.Argument(help="See `synthbench list generators`.")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option("--real", help="Training cohort. Default: the embedded atlas cohort."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder. Default: runs/GENERATOR.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Volumes of other subjects, to watch the training by.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="ddpm3d: tiny, small, paper, and more. Default: tiny without CUDA."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, may be repeated.")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Run whose weights to start from.")] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="ldm3d: monai-brain-ldm. Published weights as a run; trains nothing."),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", help="tensorboard, wandb or mlflow, may be repeated."),
    ] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Measure the electricity that it takes.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it would take, and train nothing.")
    ] = False,
    assume_grid: AssumeGrid = None,
    accept: Accept = None,
    json: Json = False,
) -> None:
    """Train a generator on a cohort, into a run folder."""
    from synthbench.training import training

    if resume and out is None:
        raise UsageError("--resume: name the run folder with --out.")
    if generator is None and not resume:
        raise UsageError("name a generator: synthbench list generators shows them.")
    folder = out or Path("runs") / str(generator)
    if pretrained is not None:
        from synthbench.training.pretrained import pretrained_run

        given = (real, validation, preset, config, settings, init, track)
        if any(given) or energy or resume or dry_run:
            raise UsageError(
                "--pretrained trains nothing: beside it, only a generator and --out are given."
            )
        fetched = pretrained_run(str(generator), pretrained, folder, log=log)
        if json:
            print_json({"run": str(fetched.folder), **fetched.record})
        return
    if dry_run:
        if resume:
            raise UsageError("--dry-run is of a new run: leave out --resume.")
        from synthbench.training.dry_run import dry_run as planned
        from synthbench.training.dry_run import refusal

        plan = planned(
            str(generator), real=real, preset=preset, config=config, overrides=settings or (),
            assume_grid=assume_grid, accept=accept or (),
        )  # fmt: skip
        if json:
            print_json(plan.record())
        else:
            for name, value in plan.rows():
                print(f"{name:<18} {value}")
        if not plan.fits:
            raise CheckFailed(refusal(plan))
        return
    try:
        with progress_bar("training") as advance:
            run = training.train(
                generator,
                out=folder,
                real=real,
                validation=validation,
                preset=preset,
                config=config,
                overrides=settings or (),
                init=init,
                track=track or (),
                energy=energy,
                resume=resume,
                assume_grid=assume_grid,
                accept=accept or (),
                progress=advance,
                log=log,
            )
    except KeyboardInterrupt:
        # Before the first step or after the last, or the second Ctrl-C: the loop has not answered.
        raise Stopped(_interrupted(folder), signal.SIGINT) from None
    record = run.record
    if json:
        print_json({"run": str(run.folder), **record})
        return
    log(
        f"trained in {record['training_seconds']:.0f} s. {run.folder} holds the weights, the "
        f"configuration and preview.png.\nNext: synthbench sample {run.folder} --n 16 --out synth/"
    )


def _interrupted(folder: Path) -> str:
    if not (folder / "config.yaml").is_file():
        return "interrupted before the run began; repeat the command."
    return f"interrupted. Continue: synthbench train --resume --out {folder}"
