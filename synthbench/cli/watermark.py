"""The verb `watermark find`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthbench.cli.console import answer, log, progress_bar
from synthbench.cli.options import FileOptions
from synthbench.errors import CheckFailed

if TYPE_CHECKING:
    from synthbench.render.terminal import Table
    from synthbench.sampling.watermark_search import Searched


def watermark_find(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of volumes, or a manifest.")
    ],
    key: Annotated[
        str,
        typer.Option(
            "--key", metavar="KEY", help="The key of sample --watermark, or @FILE that holds it."
        ),
    ],
    files: FileOptions,
) -> None:
    """Find the watermark of a key: exit 0 where each volume has it, 1 where one has not."""
    from synthbench.sampling.watermark import FALSE_POSITIVES, THRESHOLD
    from synthbench.sampling.watermark_search import find_watermark

    with progress_bar("searching") as advance:
        searched = find_watermark(files.of(folder), key, progress=advance)
    answer(
        [{**asdict(one), "found": one.found} for one in searched], lambda: _table(searched)
    )  # fmt: skip
    hits = sum(one.found for one in searched)
    words = f"{folder}: the watermark of this key is found in {hits} of {len(searched)} volumes"
    rule = f"(z above {THRESHOLD:.2f}, which at most {FALSE_POSITIVES:.1%} of keys reach by chance)"
    if hits < len(searched):
        raise CheckFailed(f"{words} {rule}.")
    log(f"{words} {rule}.")


def _table(searched: list[Searched]) -> Table:
    from synthbench.render.terminal import Table

    table = Table("file", "z", "p at most", "watermark")
    for one in searched:
        table.add_row(
            one.file, f"{one.z:.1f}", f"{one.p:.1g}", "found" if one.found else "not found"
        )
    return table
