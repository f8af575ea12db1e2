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
    out: Annotated[Path, typer.Option("--out", help="Where split.tsv and the manifests go.")],
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="NAME=SUBJECTS or NAME=SHARE%, repeated. "
            "Default: train=60% validation=10% holdout=30%.",
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Column to balance the parts on, repeated. Default: site, sex, age."),
    ] = None,
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
) -> None:
    """Split a cohort by subject, balanced in site, sex and age: a manifest a part."""
    from synthbench.split import split

    parts = dict(_part(text) for text in sizes or ())
    with progress_bar("checking") as advance:
        drawn = split(
            cohort,
            parts or None,
            out,
            by=by,
            seed=seed,
            assume_grid=assume_grid,
            progress=lambda done: advance(done, 0, ""),
        )
    if not drawn.stratified_by:
        say("no site, sex or age is known of these subjects: drawn at random, balanced on nothing")
    for part, row in drawn.balance().iterrows():
        words = "; ".join(f"{name} {value}" for name, value in row.items())
        say(f"{drawn.manifests[str(part)]}: {words}")


def _part(text: str) -> tuple[str, int | float]:
    part, _, size = text.partition("=")
    number = size.removesuffix("%")
    if not (part and number.isdigit()):
        raise UsageError(
            f"--part {text}: write it as NAME=SUBJECTS or NAME=SHARE%, for example train=70"
        )
    return part, int(number) / 100 if size.endswith("%") else int(number)
