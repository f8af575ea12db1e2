"""The verbs of texts and pages about scorecards: `report` and `cite`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from synthbench.cli.console import (
    answer,
    as_progress,
    is_main,
    log,
    progress_bar,
    write_page,
    writing,
)
from synthbench.cli.options import AssumeGridOrReal, FileOptions, grid_or_real
from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.report.album.at_hand import RealVolumes


@dataclass(frozen=True, kw_only=True)
class ShownOptions:
    """How real volumes are shown."""

    panel: ClassVar[str] = "What is shown"

    real_pictures: Annotated[
        bool,
        typer.Option(
            "--real-pictures/--no-real-pictures",
            help="Show real volumes, under pseudonyms, or leave them out.",
        ),
    ] = True
    identifiers: Annotated[
        bool, typer.Option("--identifiers", help="Name real volumes by their files.")
    ] = False

    @property
    def real_volumes(self) -> RealVolumes:
        """The choice, or a `UsageError` where the two options contradict each other."""
        if self.identifiers and not self.real_pictures:
            raise UsageError(
                "--identifiers names the pictures that --no-real-pictures leaves out: choose one."
            )
        if not self.real_pictures:
            return "hidden"
        return "named" if self.identifiers else "unnamed"


def report(
    *,
    scorecards: Annotated[
        list[Path], typer.Argument(help="Scorecards; several are shown side by side.")
    ],
    out: Annotated[Path, typer.Option("--out", help="One HTML file.")] = Path("report.html"),
    real: Annotated[
        Path | None, typer.Option("--real", help="The real cohort that was scored: adds pictures.")
    ] = None,
    synth: Annotated[
        list[Path] | None,
        typer.Option("--synth", help="Synthetic cohort that was scored; may be repeated."),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option("--train", help="The generator's training cohort: shows nearest pairs."),
    ] = None,
    sensitivity: Annotated[
        Path | None, typer.Option(help="Record of `synthbench sensitivity`: shows its curves.")
    ] = None,
    shown: ShownOptions,
    files: FileOptions,
    assume_grid: AssumeGridOrReal = None,
) -> None:
    """Write scorecards as a page for a browser: verdicts, charts, pictures; needs no network."""
    from synthbench.report.html import report as rendered

    real_volumes = shown.real_volumes
    reads = {"scorecards": scorecards, "sensitivity": sensitivity}
    with writing(reads, out=out), progress_bar("report") as advance:
        page = rendered(
            scorecards,
            real=files.of(real),
            synths=[files.of(path) for path in synth or ()],
            train=files.of(train),
            sensitivity=sensitivity,
            real_volumes=real_volumes,
            assume_grid=grid_or_real(assume_grid),
            progress=as_progress(advance),
            log=log,
        )
        if is_main():
            write_page(out, page)
    answer({"file": str(out), "scorecards": [str(file) for file in scorecards]})


def cite(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard (JSON).")],
    card: Annotated[
        str | None,
        typer.Option(
            "--card",
            help="Print a card in markdown instead: fda7 (the FDA's seven criteria), claim (CLAIM "
            "2024) or mi-claim-gen.",
        ),
    ] = None,
) -> None:
    """Print a LaTeX table, a methods paragraph, its references and a reporting checklist."""
    from synthbench.records.scorecard import Scorecard

    scored = Scorecard.load(scorecard)
    if card is not None:
        from synthbench.report.cards.cards import card_of

        filled = card_of(card, scored)
        answer(filled.record(), lambda: filled.markdown)
        return
    from synthbench.report.citation import cite as citation

    found = citation(scored)
    answer(asdict(found), lambda: found.text)
