"""The verb `cite`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import print_json, say
from synthbench.cli.options import Json


def cite(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard (JSON).")],
    json: Json = False,
) -> None:
    """Print a LaTeX row, a methods paragraph and a reporting checklist of a scorecard."""
    from synthbench.records.scorecard import Scorecard
    from synthbench.report.citation import cite as citation

    found = citation(Scorecard.load(scorecard))
    if json:
        print_json({"row": found.row, "methods": found.methods, "checklist": found.checklist})
    else:
        say(found.text)
