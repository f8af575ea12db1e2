"""Options that several verbs share, and what they make of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from synthbench.cli.console import log, make_room
from synthbench.errors import UsageError

Real = Annotated[
    Path, typer.Option("--real", help="Real cohort: a folder, BIDS folder or CSV/TSV manifest.")
]
Extractors = Annotated[
    list[str] | None,
    typer.Option("--extractor", help="May be repeated. Default: medicalnet-resnet50-23dataset"),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="May be repeated. Default: see `synthbench list metrics`."),
]


Intensity = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="percentile, unit, or constant:SCALE:UNIT for a quantitative map: "
        "constant:0.003:mm2/s.",
    ),
]


Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept", help="Preflight rule whose errors are meant to be so; may be repeated."
    ),
]


Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="NAME=VALUE",
        help="Of a conditional run: age=20:80 (a range), sex=F, sex=F,M (in turn); may be "
        "repeated.",
    ),
]


Guidance = Annotated[
    float | None,
    typer.Option(help="How strongly a conditional run follows what is asked; 1: none."),
]


class Grid(StrEnum):
    """Which side's grid both are brought to."""

    same = "same"
    real = "real"
    synth = "synth"


class Method(StrEnum):
    """Interval methods."""

    studentized = "studentized"
    jackknife = "jackknife"
    percentile = "percentile"


def context_of(advance: Any, cached: bool = True) -> Any:
    """Return how work is done: with the user's cache, the verb's bar and the console."""
    from synthbench.scoring.feature_cache import FeatureCache
    from synthbench.scoring.settings import Context

    return Context(
        cache=FeatureCache(log=log) if cached else None,
        progress=lambda what, done, total: advance(done, total, what),
        log=log,
    )


def names(extractor: list[str] | None, metric: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Return the settings that --extractor and --metric give; those not given keep their default.

    They are named as in `ScoringSettings`.
    """
    given = {"extractors": extractor, "metrics": metric}
    return {name: tuple(names) for name, names in given.items() if names}


def metrics_of(choice: Any) -> tuple[str, ...]:
    from synthbench.scoring.benchmark import settings_and_benchmark
    from synthbench.scoring.protocol import metrics_of

    return metrics_of(settings_and_benchmark(choice)[0])


def assumed(text: str | None) -> Any:
    if text is None or text == "real":
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--assume-grid: 'real' or a voxel size in mm is needed; found '{text}'."
        ) from None


def check_html(file: Path, check: bool, benchmarks: list[Path]) -> None:
    if check:
        raise UsageError("--check writes nothing: leave out --html.")
    if len(benchmarks) > 1:
        names = ", ".join(str(found) for found in benchmarks)
        raise UsageError(f"--html {file}: one benchmark a page; name one of {names}.")
    make_room("--html", file)


def write_page(file: Path, page: str) -> None:
    from synthbench.runtime.files import write_atomic

    content = page.encode()
    write_atomic(file, content)
    log(f"{file}: {len(content) / 1e6:.1f} MB, opens in any browser")


def grid_of(run: Path) -> Any:
    import numpy as np

    from synthbench.runs.folder import Run
    from synthbench.volumes.grid import Space

    grid = Run.open(run).record["space"]
    return Space.of(grid["shape"], np.array(grid["affine"]).reshape(4, 4))


def refuse_frozen(context: typer.Context) -> None:
    """Raise where an option is given that the benchmark has frozen."""
    frozen = ("extractor", "metric", "space", "intensity", "ci", "resamples", "seed", "like")
    given = [o for o in frozen if str(context.get_parameter_source(o)).endswith("COMMANDLINE")]
    if given:
        options = ", ".join(f"--{option}" for option in given)
        raise UsageError(f"--benchmark has frozen this: leave out {options}.")


def refuse_chosen(context: typer.Context, chosen: set[str], file: Path | None) -> None:
    """Raise where an option is given that the file of --protocol has chosen."""
    options = {"m": "m", "extractor": "extractors", "metric": "metrics", "primary": "primary",
               "like": "space", "intensity": "intensity", "seed": "seed"}  # fmt: skip
    given = [
        option
        for option, setting in options.items()
        if setting in chosen and str(context.get_parameter_source(option)).endswith("COMMANDLINE")
    ]
    if given:
        named = ", ".join(f"--{option}" for option in given)
        raise UsageError(f"--protocol {file} has chosen this: leave out {named}.")
