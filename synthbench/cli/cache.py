"""The verbs of `cache`: show what the feature cache holds, and empty it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthbench.cli.console import log, print_json, show
from synthbench.cli.options import Json

if TYPE_CHECKING:
    from synthbench.scoring.cache.store import Usage


cache = typer.Typer(no_args_is_help=True, help="Features that earlier runs kept on this machine.")


@cache.command("info")
def info(json: Json = False) -> None:
    """Show where features are kept, how many, and for which extractors."""
    from synthbench.scoring.cache.store import cache_folder, cache_limit, usage

    folder, limit = cache_folder(), cache_limit()
    found = usage(folder)
    if json:
        print_json({"folder": str(folder), "limit": limit, **_record(found)})
        return
    log(f"{folder}: {_words(found)}, at most {_megabytes(limit)} MB")
    if found:
        show(_table(found))


@cache.command("clear")
def clear(
    extractor: Annotated[
        str | None, typer.Option("--extractor", help="Only the features of this one.")
    ] = None,
    json: Json = False,
) -> None:
    """Remove the features that are kept: the next run computes them again."""
    from synthbench.scoring.cache import store

    folder = store.cache_folder()
    removed = store.clear(folder, extractor)
    if json:
        print_json({"folder": str(folder), **_record(removed)})
        return
    log(f"{folder}: {_words(removed)} removed")


def _record(found: Sequence[Usage]) -> dict[str, Any]:
    return {
        "rows": sum(one.rows for one in found),
        "bytes": sum(one.size for one in found),
        "extractors": [
            {"name": one.extractor, "rows": one.rows, "bytes": one.size} for one in found
        ],
    }


def _words(found: Sequence[Usage]) -> str:
    from synthbench.scoring.cache.store import SAMPLE_DATA

    rows = sum(one.rows for one in found if one.extractor != SAMPLE_DATA)
    scorings = sum(one.rows for one in found if one.extractor == SAMPLE_DATA)
    kept = f", sample data of {scorings} scorings" if scorings else ""
    return f"features of {rows} volumes{kept}, {_megabytes(sum(one.size for one in found))} MB"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _table(found: Sequence[Usage]) -> Any:
    from rich.table import Table

    table = Table("extractor", "volumes", "MB", box=None, header_style="bold", pad_edge=False)
    for one in found:
        table.add_row(one.extractor, str(one.rows), _megabytes(one.size))
    return table
