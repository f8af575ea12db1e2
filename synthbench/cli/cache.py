"""The verbs of `cache`: show what earlier runs kept on this machine, and remove it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthbench.cli.console import answer, log
from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.scoring.cache.store import Kind, Usage


def cache_info() -> None:
    """Show where results are kept, how many, and of which extractors and metrics."""
    from synthbench.scoring.cache.store import cache_folder, cache_limit, usage

    folder, limit = cache_folder(), cache_limit()
    found = usage(folder)
    log(f"{folder}: {_words(found)}, at most {_megabytes(limit)} MB")
    answer(
        {"folder": str(folder), "limit": limit, **_record(found)},
        (lambda: _table(found)) if found else None,
    )


def cache_clear(
    extractor: Annotated[
        str | None, typer.Option("--extractor", help="Only the features of this one.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Only what this metric measured.")
    ] = None,
) -> None:
    """Remove what is kept: the next run computes it again."""
    from synthbench.scoring.cache import store

    if extractor is not None and metric is not None:
        raise UsageError("--extractor and --metric: give one of them, then the other.")
    kind: Kind | None = "features" if extractor else "measure" if metric else None
    folder = store.cache_folder()
    removed = store.clear(folder, kind, extractor or metric)
    log(f"{folder}: {_words(removed)} removed")
    answer({"folder": str(folder), **_record(removed)})


def _record(found: Sequence[Usage]) -> dict[str, Any]:
    return {
        "files": sum(one.files for one in found),
        "bytes": sum(one.size for one in found),
        "kept": [
            {"kind": one.kind, "name": one.name, "files": one.files, "bytes": one.size}
            for one in found
        ],
    }


def _words(found: Sequence[Usage]) -> str:
    counts = {kind: sum(one.files for one in found if one.kind == kind) for kind in
              ("features", "measure", "sample data")}  # fmt: skip
    words = [f"features of {counts['features']} volumes"]
    if counts["measure"]:
        words.append(f"{counts['measure']} measures")
    if counts["sample data"]:
        words.append(f"sample data of {counts['sample data']} scorings")
    return f"{', '.join(words)}, {_megabytes(sum(one.size for one in found))} MB"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _table(found: Sequence[Usage]) -> Any:
    from synthbench.render.terminal import Table

    table = Table("kind", "name", "files", "MB")
    for one in found:
        table.add_row(one.kind, one.name, str(one.files), _megabytes(one.size))
    return table
