"""The verb `leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import progress_bar, say
from synthbench.cli.options import check_html, write_page
from synthbench.errors import CheckFailed, UsageError


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="A benchmark, or a folder of benchmarks.")] = Path(
        "leaderboards"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where a page is stale.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Rank: all pairs, where the entries were scored.")
    ] = False,
    multiverse: Annotated[
        bool, typer.Option("--multiverse", help="Value the entries under other choices, likewise.")
    ] = False,
    materials: Annotated[
        list[Path] | None,
        typer.Option("--materials", help="Of `score --materials`; may be repeated."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write one benchmark as a page for a browser.")
    ] = None,
) -> None:
    """Render a benchmark's scorecards into its README.md, with ranks where they were compared."""
    from synthbench.leaderboard import page as pages

    if html is not None:
        check_html(html, check, pages.benchmarks_in(folder))
    if check and (compare or multiverse):
        raise UsageError("--check writes nothing: leave out --compare and --multiverse.")
    if materials and not (compare or multiverse):
        raise UsageError("--materials is what a ranking is made of: add --compare or --multiverse.")
    stale: list[str] = []
    for found in pages.benchmarks_in(folder):
        if check:
            try:
                pages.check_leaderboard(found)
                say(f"{found / pages.PAGE} is up to date")
            except CheckFailed as error:
                stale.append(str(error))
            continue
        if compare:
            _compare(found, materials or [])
        if multiverse:
            _multiverse(found, materials or [])
        say(f"{pages.write_leaderboard(found)} written")
        if html is not None:
            from synthbench.leaderboard.html import leaderboard_report

            write_page(html, leaderboard_report(found))
    if stale:
        raise CheckFailed("\n".join(stale))


def _compare(folder: Path, materials: list[Path]) -> None:
    from synthbench.leaderboard.ranking import compare
    from synthbench.scoring.sample_data import load_materials

    with progress_bar("comparing") as advance:
        found = compare(
            folder,
            source=lambda card: load_materials(card, materials),
            progress=lambda what, done, total: advance(done, total, what),
        )
    say(f"{found.save(folder)} written")


def _multiverse(folder: Path, materials: list[Path]) -> None:
    from synthbench.leaderboard.multiverse import multiverse
    from synthbench.scoring.sample_data import load_materials

    with progress_bar("multiverse") as advance:
        found = multiverse(
            folder,
            source=lambda card: load_materials(card, materials),
            progress=lambda what, done, total: advance(done, total, what),
        )
    say(f"{found.save(folder)} written")
