"""The verb `drift`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, NoReturn

import typer

from synthbench.cli.console import answer, log, write_page, writing
from synthbench.cli.options import SampleDataFiles
from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.drift.history import History
    from synthbench.drift.result import Drift


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """Many scorecards in time."""

    panel: ClassVar[str] = "Many runs (--history)"

    history: Annotated[
        Path | None,
        typer.Option("--history", help="Folder of scorecards: judge all runs in it, by date."),
    ] = None
    false_alarm_runs: Annotated[
        float | None,
        typer.Option(
            help="Runs between false alarms, on average, of all metrics together. Default: 200."
        ),
    ] = None
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with a chart for each metric.")
    ] = None
    comment: Annotated[
        Path | None,
        typer.Option("--comment", help="Write a comment for a pull request (markdown)."),
    ] = None
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference",
            help="Scorecard that the comment compares the newest run with; at most two. Default: "
            "the first run and the one before.",
        ),
    ] = None


def drift(
    baseline: Annotated[Path | None, typer.Argument(help="A scorecard.")] = None,
    current: Annotated[
        Path | None, typer.Argument(help="Another scorecard, to compare with it.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="Row to compare, such as fid or ms_ssim.synth; may be repeated."
        ),
    ] = None,
    delta: Annotated[
        list[str] | None,
        typer.Option(
            "--delta",
            metavar="METRIC=VALUE",
            help="Largest difference that does not matter, between samples; may be repeated.",
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Probability of a false alarm. Default: 0.05.")
    ] = None,
    sample_data: SampleDataFiles = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit 1 also where two generators differ.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit file (XML).")] = None,
    *,
    many: HistoryOptions,
) -> None:
    """Say whether scorecards differ by more than noise: exit 0 no, 1 drift, 2 incomparable.

    Two scorecards are compared, or with --history all that are in a folder.
    """
    from synthbench.drift import output
    from synthbench.drift.drift import drift as compared
    from synthbench.runtime.files import write_atomic

    if many.history is not None:
        of_pairs = {"--delta": delta, "--alpha": alpha, "--sample-data": sample_data,
                    "--gate": gate, "a scorecard": baseline}  # fmt: skip
        _refuse(of_pairs, "with --history it has no meaning: it is for two scorecards")
        _history(many, metric, junit)
    _refuse({"--false-alarm-runs": many.false_alarm_runs, "--html": many.html,
             "--comment": many.comment, "--reference": many.reference},
            "it is for --history DIR")  # fmt: skip
    if baseline is None or current is None:
        raise UsageError("drift: name two scorecards, or a folder of many: --history DIR.")
    reads = {"baseline": baseline, "current": current, "sample-data": sample_data}
    with writing(reads, junit=junit):
        found = compared(
            baseline, current, metrics=metric, deltas=_margins(delta or []),
            alpha=0.05 if alpha is None else alpha, sample_data=sample_data or (), gate=gate,
        )  # fmt: skip
        if junit is not None:
            write_atomic(junit, output.junit(found))
    answer(
        {**found.model_dump(mode="json"), "exit_code": found.exit_code},
        lambda: output.drift_table(found),
    )
    _leave(found)


def _refuse(given: Mapping[str, object], why: str) -> None:
    for option, value in given.items():
        if value:
            raise UsageError(f"{option}: {why}. Leave it out.")


def _leave(found: Drift | History) -> NoReturn:
    """Exit with the code of the outcome, after the annotations of a build."""
    from synthbench.drift.output import workflow_commands

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in workflow_commands(found):
            log(line)
    raise typer.Exit(found.exit_code)


def _history(many: HistoryOptions, metrics: Sequence[str] | None, junit: Path | None) -> NoReturn:
    from synthbench.drift import history_output, output
    from synthbench.drift.history import FALSE_ALARM_RUNS, history, read_history
    from synthbench.runtime.files import write_atomic

    assert many.history is not None
    if many.reference and many.comment is None:
        raise UsageError("--reference: it is for the comment; add --comment FILE.")
    reads = {"history": sorted(many.history.glob("*.json")), "reference": many.reference}
    with writing(reads, junit=junit, html=many.html, comment=many.comment):
        cards = read_history(many.history)
        found = history(
            cards, metrics=metrics, false_alarm_runs=many.false_alarm_runs or FALSE_ALARM_RUNS
        )
        if junit is not None:
            write_atomic(junit, output.junit(found))
        if many.html is not None:
            write_page(many.html, history_output.history_page(found))
        if many.comment is not None:
            references = history_output.references_of(cards, found, many.reference or ())
            text = history_output.comment(found, cards[-1][1], references)
            write_atomic(many.comment, text.encode())
    answer(
        {**found.model_dump(mode="json"), "exit_code": found.exit_code},
        lambda: history_output.history_table(found),
    )
    _leave(found)


def _margins(given: list[str]) -> dict[str, float]:
    """Return the margins by metric, read from METRIC=VALUE."""
    margins = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            raise UsageError(
                f"--delta {text}: write it as METRIC=VALUE, such as mmd2=0.005."
            ) from None
    return margins
