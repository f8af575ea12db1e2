"""The verb `leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import (
    answer,
    as_progress,
    log,
    progress_bar,
    write_page,
    writing,
    writing_into,
)
from synthbench.cli.options import SampleDataFiles
from synthbench.errors import CheckFailed, UsageError


def leaderboard(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A benchmark, or a folder of benchmarks.")] = Path(
        "leaderboards"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where a page is stale.")
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Rank the entries by all pairs, on the machine that scored them."
        ),
    ] = False,
    multiverse: Annotated[
        bool,
        typer.Option(
            "--multiverse",
            help="Compute the entries' values under other choices, on the same machine.",
        ),
    ] = False,
    sample_data: SampleDataFiles = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write one benchmark as a page for a browser.")
    ] = None,
) -> None:
    """Render a benchmark's scorecards into its README.md, with ranks where they were compared."""
    from synthbench.leaderboard import page as pages

    if html is not None:
        _check_html(html, check, pages.benchmarks_in(folder))
    context.with_resource(writing(context.params, html=html))
    if check and (compare or multiverse):
        raise UsageError("--check writes nothing: leave out --compare and --multiverse.")
    if sample_data and not (compare or multiverse):
        raise UsageError("--sample-data is for a ranking: add --compare or --multiverse.")
    stale: list[str] = []
    written: list[Path] = []
    for found in pages.benchmarks_in(folder):
        if check:
            written.append(found / pages.PAGE)
            try:
                pages.check_leaderboard(found)
                log(f"{found / pages.PAGE} is up to date")
            except CheckFailed as error:
                stale.append(str(error))
            continue
        context.with_resource(writing_into(found))
        if compare:
            _compare(found, sample_data or [])
        if multiverse:
            _multiverse(found, sample_data or [])
        written.append(pages.write_leaderboard(found))
        log(f"{written[-1]} written")
        if html is not None:
            from synthbench.leaderboard.html import leaderboard_report

            write_page(html, leaderboard_report(found))
    answer({
        "pages": [str(page) for page in written],
        "html": html and str(html),
        **({"stale": stale} if check else {}),
    })  # fmt: skip
    if stale:
        raise CheckFailed("\n".join(stale))


def _check_html(file: Path, check: bool, benchmarks: list[Path]) -> None:
    """Raise where there is no page of one benchmark to write."""
    if check:
        raise UsageError("--check writes nothing: leave out --html.")
    if len(benchmarks) > 1:
        names = ", ".join(str(found) for found in benchmarks)
        raise UsageError(f"--html {file}: one page shows one benchmark; name one of {names}.")


def _compare(folder: Path, sample_data: list[Path]) -> None:
    from synthbench.leaderboard.ranking import compare
    from synthbench.scoring.sample_data import load_sample_data

    with progress_bar("comparing") as advance:
        found = compare(
            folder,
            source=lambda card: load_sample_data(card, sample_data),
            progress=as_progress(advance),
        )
    log(f"{found.save(folder)} written")


def _multiverse(folder: Path, sample_data: list[Path]) -> None:
    from synthbench.leaderboard.multiverse import multiverse
    from synthbench.scoring.sample_data import load_sample_data

    with progress_bar("multiverse") as advance:
        found = multiverse(
            folder,
            source=lambda card: load_sample_data(card, sample_data),
            progress=as_progress(advance),
        )
    log(f"{found.save(folder)} written")
