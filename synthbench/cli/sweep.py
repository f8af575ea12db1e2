"""The verb `sweep`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from synthbench.cli.console import answer, log, progress_bar
from synthbench.cli.options import Guidance, Precision, Seed, Steps


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """The other conditions, the seeds, what is measured, and how volumes are drawn."""

    panel: ClassVar[str] = "What is drawn, and how"

    fix: Annotated[
        list[str] | None,
        typer.Option(
            "--fix",
            metavar="NAME=VALUE",
            help="Value of another condition, in its own unit; may be repeated. Default: the "
            "training median, or the most common level.",
        ),
    ] = None
    natural: Annotated[
        bool, typer.Option("--natural", help="--vary is in natural units, as in participants.tsv.")
    ] = False
    seed: Seed = 0
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Repeat with N seeds from --seed on.")
    ] = 1
    measure: Annotated[
        str | None,
        typer.Option(
            metavar="EXTRACTOR:FEATURE",
            help="What the curve shows. Default: anatomy's volume of the varied condition.",
        ),
    ] = None
    sampler: Annotated[str | None, typer.Option(help="As for `synthbench sample`.")] = None
    steps: Steps = None
    guidance: Guidance = None
    precision: Precision = None


def sweep(
    run: Annotated[Path, typer.Argument(help="A run folder of a conditional generator.")],
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            metavar="NAME=FROM:TO:N",
            help="N values of a condition; 0 and 1 are the ends of its training range. Or "
            "NAME=a,b. Given twice: a grid.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where volumes, pictures and table go.")],
    options: SweepOptions,
) -> None:
    """Vary a condition from one noise seed: draw a row of volumes and measure them."""
    from synthbench.sampling.sweep import sweep as swept

    given = {**vars(options), "fix": options.fix or ()}
    with progress_bar("sweep") as advance:
        found = swept(run, vary, out, progress=advance, log=log, **given)
    answer(found.as_json(), found.table)
    log(f"written: {', '.join(str(file) for file in found.written)}")
