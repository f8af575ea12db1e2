"""The verb `cite`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import print_json, say
from synthbench.cli.options import Json


def cite(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard (JSON).")],
    json: Json = False,
) -> None:
    """Print a LaTeX table, a methods paragraph, its references and a reporting checklist."""
    from synthbench.records.scorecard import Scorecard
    from synthbench.report.citation import cite as citation

    found = citation(Scorecard.load(scorecard))
    if json:
        print_json(asdict(found))
    else:
        say(found.text)
