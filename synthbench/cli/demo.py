"""The verb `demo`: all of it on the embedded cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import log, progress_bar, show


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("demo"),
) -> None:
    """Run the whole story on the embedded cohort, in minutes on two cores."""
    from synthbench.cli.demo_run import run_demo

    with progress_bar("demo") as advance:
        tables = run_demo(out, progress=advance, log=log)
    for table in tables:
        show(table)
