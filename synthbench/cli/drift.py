"""The verb `drift`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import answer, log, writing
from synthbench.cli.options import SampleDataFiles
from synthbench.errors import UsageError


def drift(
    baseline: Annotated[Path, typer.Argument(help="A scorecard.")],
    current: Annotated[Path, typer.Argument(help="Another scorecard, to compare with it.")],
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
    alpha: Annotated[float, typer.Option(help="Probability of a false alarm.")] = 0.05,
    sample_data: SampleDataFiles = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit 1 also where two generators differ.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit file (XML).")] = None,
) -> None:
    """Say whether two scorecards differ by more than noise: exit 0 no, 1 drift, 2 incomparable."""
    from synthbench.drift import output
    from synthbench.drift.drift import drift as compared
    from synthbench.runtime.files import write_atomic

    reads = {"baseline": baseline, "current": current, "sample-data": sample_data}
    with writing(reads, junit=junit):
        found = compared(
            baseline, current, metrics=metric, deltas=_margins(delta or []), alpha=alpha,
            sample_data=sample_data or (), gate=gate,
        )  # fmt: skip
        if junit is not None:
            write_atomic(junit, output.junit(found))
    answer(
        {**found.model_dump(mode="json"), "exit_code": found.exit_code},
        lambda: output.drift_table(found),
    )
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in output.workflow_commands(found):
            log(line)
    raise typer.Exit(found.exit_code)


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
