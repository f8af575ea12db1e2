"""The verb `sample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import log, print_json, progress_bar
from synthbench.cli.options import Guidance, Json, Seed, Steps, with_options
from synthbench.generators.diffusion.samplers import samplers_in_words


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How many volumes, of which conditions, and how they are drawn."""

    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="How many volumes. Default: one per row of --conditions."),
    ] = None
    seed: Seed = 0
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME=VALUE",
            help="What to ask of a conditional run: age=20:80 (a range), sex=F, or sex=F,M (in "
            "turn); may be repeated.",
        ),
    ] = None
    conditions: Annotated[
        Path | None,
        typer.Option(help="CSV/TSV of conditions: one column per covariate, one row per volume."),
    ] = None
    guidance: Guidance = None
    sampler: Annotated[
        str | None,
        typer.Option(help=f"For ddpm3d and ldm3d: {samplers_in_words()}. Default: the run's own."),
    ] = None
    steps: Steps = None
    clean: Annotated[
        bool, typer.Option("--clean", help="Set what lies outside the brain to zero.")
    ] = False
    trajectory: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of a volume whose denoising to keep, in OUT-trajectory."),
    ] = None


@with_options
def sample(
    run: Annotated[Path, typer.Argument(help="A run folder; atlas: the one in the package.")],
    out: Annotated[Path, typer.Option("--out", help="Where the volumes go.")],
    options: SampleOptions,
    json: Json = False,
) -> None:
    """Sample volumes from a run: NIfTI files with a sidecar that says they are synthetic."""
    from synthbench.sampling import sampling

    seed = options.seed
    with progress_bar("sampling") as advance:
        files = sampling.sample(
            run, options.n, out,
            seed=seed, sampler=options.sampler, steps=options.steps, clean=options.clean,
            conditions=options.conditions, choices=options.condition or (),
            guidance=options.guidance, follow=options.trajectory, progress=advance, log=log,
        )  # fmt: skip
    if json:
        print_json([str(file) for file in files])
    else:
        drawn = (
            f"{len(files)} volumes, seeds {seed} to {seed + len(files) - 1}"
            if len(files) > 1
            else f"1 volume, seed {seed}"
        )
        log(f"{drawn}, in {out}")
