"""The verbs of `readers`: a reader study, from the study's folder to what the readers saw."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from synthbench.cli.console import answer, as_progress, is_main, log, progress_bar, writing
from synthbench.cli.options import AssumeGrid, FileOptions, Intensity, Real
from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.cohorts.cohort import Cohort
    from synthbench.readers.design import Settings
    from synthbench.readers.study import Study

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="The key. Default: STUDY.key.json beside the folder.")
]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown."""

    panel: ClassVar[str] = "Volumes"

    real: Real
    synth: Annotated[
        list[Path], typer.Option("--synth", help="Volumes of a generator; may be repeated.")
    ]
    memorizer: Annotated[
        Path | None, typer.Option(help="Volumes of a memorizer, as a control.")
    ] = None
    intensity: Intensity = "percentile"
    assume_grid: AssumeGrid = None


@dataclass(frozen=True, kw_only=True)
class StudyDesign:
    """The fields of `synthbench.readers.design.Settings`, and the scales and the seed."""

    panel: ClassVar[str] = "The study"

    design: Annotated[
        str, typer.Option(help="2afc: which of two is real; rating: scales; both.")
    ] = "both"
    readers: Annotated[int, typer.Option(help="Number of readers.")] = 5
    cases: Annotated[
        int | None, typer.Option(help="Pairs per generator. Default: as many as there are volumes.")
    ] = None
    controls: Annotated[int, typer.Option(help="Pairs per control.")] = 4
    practice: Annotated[int, typer.Option(help="Trials before the first one that counts.")] = 2
    repeats: Annotated[float, typer.Option(help="Share of trials that come again.")] = 0.15
    scales: Annotated[
        Path | None, typer.Option(help="Scales (YAML). Default: those of docs/readers.md.")
    ] = None
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, metavar="N", help="Default: a secret one, in the key."),
    ] = None

    def settings(self) -> Settings:
        """Return the design."""
        from synthbench.readers.design import Settings

        return Settings(
            design=self.design,  # type: ignore[arg-type]  # it is checked there
            readers=self.readers,
            cases=self.cases,
            controls=self.controls,
            practice=self.practice,
            repeats=self.repeats,
        )


def readers_init(
    *,
    study: Folder,
    shown: Shown,
    files: FileOptions,
    design: StudyDesign,
) -> None:
    """Make a study: blinded copies, an order for each reader, scales, and what it can show."""
    from synthbench.readers.build import Cohorts, Making, build
    from synthbench.readers.study import key_file

    settings = design.settings()
    names = [_name(path) for path in shown.synth]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"--synth: two folders are called {', '.join(sorted(twice))}. Rename one.")

    def read(path: Path, role: str) -> Cohort:
        from synthbench.cohorts.reading import read_cohort

        return read_cohort(files.of(path), role=role, assume_grid=shown.assume_grid)

    with progress_bar("study") as advance:
        cohorts = Cohorts(
            read(shown.real, "real"),
            {name: read(path, "synth") for name, path in zip(names, shown.synth, strict=True)},
            None if shown.memorizer is None else read(shown.memorizer, "memorizer"),
        )
        making = Making(settings, design.seed, shown.intensity, design.scales)
        made = build(study, cohorts, making, progress=as_progress(advance), log=log)
    log(
        f"{study}: the study; nothing in it tells what is real. {key_file(study)}: the key. Keep "
        f"it from the readers. Next: edit {study / 'scales.yaml'} if you like, then synthbench "
        f"readers serve {study}"
    )
    found = _prospects(study, made)
    answer({"study": str(study), "key": str(key_file(study)), **found},
           lambda: "\n".join(found["sentences"]))  # fmt: skip


def _name(path: Path) -> str:
    whole = path.absolute()
    return whole.name if whole.is_dir() else whole.stem


def _prospects(folder: Path, study: Study) -> dict[str, Any]:
    from synthbench.readers.power import prospects
    from synthbench.readers.study import read_key

    key = read_key(folder, study)
    cases = sum(pair.group == key.generators[0] for pair in key.pairs)
    rated = {
        trial.cases for trials in study.readers.values() for trial in trials
        if trial.kind == "rating" and not trial.practice
    }  # fmt: skip
    found = prospects(len(study.readers), cases, len(rated))
    return {
        "readers": found.readers, "cases": found.cases, "power": found.power,
        "needed": {str(n): trials for n, trials in found.needed.items()},
        "sentences": found.sentences(),
    }  # fmt: skip


def readers_serve(
    *,
    study: Folder,
    host: Annotated[
        str, typer.Option(help="Address to listen on. The default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Name of this machine in readers' links; may be repeated."),
    ] = None,
    revoke: Annotated[
        list[str] | None,
        typer.Option("--revoke", help="Reader who gets a new link; may be repeated."),
    ] = None,
) -> None:
    """Ask the readers: a page on this machine, one secret link per reader. Ctrl-C stops it."""
    from synthbench.readers.study import read_study
    from synthbench.runtime.lock import only_writer

    try:
        from synthbench.readers.server import link, serve
        from synthbench.readers.sessions import Sessions, access
    except ImportError as error:
        raise UsageError(
            f"readers serve needs {error.name}: pip install 'synthbench[readers]'"
        ) from error
    plan, scales = read_study(study)
    with only_writer(study):
        tokens = access(study, plan, revoke or ())
        sessions = Sessions(study, plan, scales, tokens)
        shown = (name or [host])[0]
        links = {reader: link(shown, port, token) for reader, token in tokens.tokens.items()}
        answer({"links": links}, lambda: "\n".join(f"{r}: {text}" for r, text in links.items()))
        log("Give each reader her own link. Answers are saved as they come. Ctrl-C stops.")
        if host not in ("127.0.0.1", "localhost", "::1"):
            log("The page is not encrypted: use a network that you trust, or a proxy with TLS.")
        sys.stdout.flush()  # a program that started this one waits for the links
        serve(sessions, host, port, tuple(name or ()))


def readers_export(
    *,
    study: Folder,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the pages. Default: STUDY-offline beside it."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="As pages that need no server; the only form so far.")
    ] = True,
) -> None:
    """Write one HTML file per reader, for machines without a server."""
    from synthbench.readers.offline import export

    assert offline
    if out is None:
        whole = study.absolute()
        out = whole.with_name(f"{whole.name}-offline")
    files = export(study, out)
    largest = max(file.stat().st_size for file in files) / 1e6
    log(
        f"{out}: {len(files)} pages of up to {largest:.0f} MB. A reader saves her answers as a "
        f"file. Then: synthbench readers collect {study} reader-1.json"
    )
    answer({"files": [str(file) for file in files]})


def readers_collect(
    *,
    study: Folder,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of answers.")],
) -> None:
    """Take files of answers, which readers saved from their pages, into the study."""
    from synthbench.readers.offline import collect

    new = collect(study, files)
    answer(new, lambda: "\n".join(f"{reader}: {n} new lines" for reader, n in new.items()))


def readers_analyse(
    *,
    context: typer.Context,
    study: Folder,
    key: KeyFile = None,
    margin: Annotated[
        float, typer.Option(help="Accuracy within 0.5 +- this share is equivalent to chance.")
    ] = 0.1,
    scorecard: Annotated[
        list[Path] | None,
        typer.Option("--scorecard", help="Scorecard to add this to; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Record (JSON).")] = None,
) -> None:
    """Say what the readers saw: accuracy, equivalence, ratings, agreement, consistency, drift."""
    from synthbench.readers.analysis import analyse
    from synthbench.readers.scorecards import add_to_scorecards
    from synthbench.readers.table import analysis_table
    from synthbench.runtime.lock import only_writer_of

    if out is not None:
        _check_beside(study, key, out)
    context.with_resource(writing(context.params, out=out))
    cards = scorecard or []
    found = analyse(study, key=key, margin=margin)
    if cards and is_main():
        for file in dict.fromkeys(cards):
            context.with_resource(only_writer_of(file))
        found = add_to_scorecards(found, cards)
        log(f"what readers saw was added to {', '.join(map(str, cards))}")
    if out is not None and is_main():
        found.save(out)
        log(f"written: {out}")
    answer(found, lambda: analysis_table(found))


def _check_beside(study: Path, key: Path | None, out: Path) -> None:
    """Raise a UsageError where a record would take the place of a file of the study."""
    from synthbench.readers.study import key_file

    file = out.resolve()
    if file.is_relative_to(study.resolve()) or file == (key or key_file(study)).resolve():
        raise UsageError(
            f"--out {out}: that is the study's own. Name a file beside it, such as analysis.json."
        )


def readers_cite(
    *,
    study: Folder,
    key: KeyFile = None,
    card: Annotated[
        str, typer.Option("--card", help="claim (CLAIM 2024) or mi-claim-gen.")
    ] = "claim",
) -> None:
    """Print a reporting checklist in markdown, filled from a study and its answers."""
    from synthbench.readers.cards import study_card

    filled = study_card(card, study, key=key)
    answer(filled.record(), lambda: filled.markdown)
