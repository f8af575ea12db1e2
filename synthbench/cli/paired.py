"""The verb `paired`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import answer, as_progress, is_main, log, progress_bar, writing
from synthbench.cli.options import FileOptions, Name


def paired(
    *,
    context: typer.Context,
    target: Annotated[Path, typer.Option("--target", help="The true volumes.")],
    image: Annotated[
        Path, typer.Option("--image", help="What was made of them: files of the same names.")
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(help="Images by another method, such as interpolation, to compare with."),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW:HIGH:UNIT",
            help="Range of signed or quantitative intensities, such as -1000:2000:HU. Default: "
            "both are divided by the target's 99.9th percentile.",
        ),
    ] = None,
    name: Name = None,
    files: FileOptions,
    out: Annotated[Path | None, typer.Option("--out", help="Record (JSON).")] = None,
) -> None:
    """Compare images with their targets: PSNR, SSIM and MAE, with intervals by subject."""
    from synthbench.paired.rule import IntensityRange
    from synthbench.paired.study import paired as compared
    from synthbench.paired.table import paired_table

    context.with_resource(writing(context.params, out=out))
    declared = None if value_range is None else IntensityRange.parse(value_range)
    with progress_bar("paired") as advance:
        record = compared(
            files.of(target), files.of(image),
            baseline=None if baseline is None else files.of(baseline),
            declared=declared, name=name, progress=as_progress(advance),
        )  # fmt: skip
    if not is_main():
        return
    if out is not None:
        record.save(out)
        log(f"written: {out}")
    answer(record, lambda: paired_table(record))
