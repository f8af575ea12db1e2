"""The verbs of `synthbench data`: cohorts are simulated, looked at, chosen, split, prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.console import AssumeGrid, Seed, progress_bar, say
from synthbench.errors import UsageError

data = typer.Typer(no_args_is_help=True, help="Cohorts: simulate, split.")


@data.command("atlas")
def atlas(
    n: Annotated[int, typer.Option("--n", help="Subjects.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder (BIDS derivative).")],
    seed: Seed = 0,
    shape: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels to the right, front and top.")
    ] = (84, 128, 84),
) -> None:
    """Simulate a cohort from the MNI152 template, with true age, sex and volumes."""
    from synthbench.atlas import atlas_cohort

    with progress_bar("simulating") as advance:
        atlas_cohort(n, out, seed=seed, shape=shape, progress=lambda done: advance(done, n, ""))
    say(f"{n} simulated subjects in {out}; their truth in {out / 'participants.tsv'}")


@data.command("split")
def split_(
    cohort: Annotated[Path, typer.Argument(help="A folder, BIDS folder or manifest.")],
    sizes: Annotated[list[str], typer.Option("--part", help="NAME=SUBJECTS, repeated: train=70")],
    out: Annotated[Path, typer.Option("--out", help="Where the manifests go.")],
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
) -> None:
    """Split a cohort by subject into manifests, one a part."""
    from synthbench.split import split

    parts = {}
    for text in sizes:
        part, equals, size = text.partition("=")
        if not (part and equals and size.isdigit()):
            raise UsageError(f"--part {text}: write it as NAME=SUBJECTS, for example train=70")
        parts[part] = int(size)
    with progress_bar("checking") as advance:
        manifests = split(
            cohort,
            parts,
            out,
            seed=seed,
            assume_grid=assume_grid,
            progress=lambda done: advance(done, 0, ""),
        )
    for part, file in manifests.items():
        say(f"{part}: {parts[part]} subjects, {file}")
