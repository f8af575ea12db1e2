"""The verb `sensitivity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from synthbench.cli.console import answer, context_of, is_main, log, progress_bar, writing
from synthbench.cli.options import (
    AllowNetwork,
    BenchmarkUsed,
    FileOptions,
    Like,
    MetricOptions,
    Real,
    VolumeOptions,
    frozen_benchmark,
)


@dataclass(frozen=True, kw_only=True)
class SensitivityProtocol:
    """What the damage is, and what it is scored with."""

    panel: ClassVar[str] = "What is measured"

    benchmark: BenchmarkUsed = None
    allow_network: AllowNetwork = None
    metrics: MetricOptions
    corruption: Annotated[
        list[str] | None, typer.Option("--corruption", help="May be repeated. Default: all.")
    ] = None
    like: Like = None
    volumes: VolumeOptions

    def settings(self) -> dict[str, Any]:
        """Return the fields of `ScoringSettings` that these options choose."""
        from synthbench.runs.folder import Run

        return {
            **self.metrics.settings(),
            "space": "same" if self.like is None else Run.open(self.like).space,
            "intensity": self.volumes.intensity,
            "seed": self.volumes.seed,
        }


def sensitivity(
    *,
    context: typer.Context,
    real: Real,
    files: FileOptions,
    protocol: SensitivityProtocol,
    out: Annotated[
        Path, typer.Option("--out", help="Record (JSON); the figure goes beside it (PNG).")
    ] = Path("sensitivity.json"),
) -> None:
    """Show what the metrics see on your data: known damage to real volumes, dose by dose."""
    from synthbench.scoring.settings import ScoringSettings
    from synthbench.sensitivity import output, study

    settings = (
        ScoringSettings(**protocol.settings())
        if protocol.benchmark is None
        else frozen_benchmark(context, protocol.benchmark)
    )
    figure = out.with_suffix(".png")
    context.with_resource(writing(context.params, out=out, figure=figure))
    with progress_bar("sensitivity") as advance:
        found = study.sensitivity(
            files.of(real), settings,
            context_of(advance, networks=protocol.allow_network), corruptions=protocol.corruption,
            assume_grid=protocol.volumes.assume_grid,
        )  # fmt: skip
    if not is_main():
        return
    found.save(out)
    output.figure(found, figure, study.pictured(found))
    answer(found, lambda: output.table(found))
    log(
        f"{out}, {figure}. Next: synthbench score --real {real} --synth SYNTH --sensitivity {out} "
        "reads scores back as doses."
    )
