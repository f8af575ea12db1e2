"""The verb `sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import Json, Seed, log, print_json, progress_bar
from synthbench.cli.options import Conditions, Guidance
from synthbench.generators.diffusion.samplers import samplers_in_words


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option("--out", help="Where the volumes go.")],
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="How many volumes. Default: one a row of --conditions."),
    ] = None,
    seed: Seed = 0,
    condition: Conditions = None,
    conditions: Annotated[
        Path | None,
        typer.Option(help="CSV/TSV of conditions: a column a covariate, a row a volume."),
    ] = None,
    guidance: Guidance = None,
    sampler: Annotated[
        str | None,
        typer.Option(help=f"Of ddpm3d and ldm3d: {samplers_in_words()}. Default: as set."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Set what lies outside the brain to zero.")
    ] = False,
    trajectory: Annotated[
        int | None,
        typer.Option(min=0, help="Seed whose way out of the noise to keep, in OUT-trajectory."),
    ] = None,
    json: Json = False,
) -> None:
    """Sample volumes from a run: NIfTI files with a sidecar that says they are synthetic."""
    from synthbench.sampling import sampling

    with progress_bar("sampling") as advance:
        files = sampling.sample(
            run, n, out,
            seed=seed, sampler=sampler, steps=steps, clean=clean, conditions=conditions,
            choices=condition or (), guidance=guidance, follow=trajectory, progress=advance,
            log=log,
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
