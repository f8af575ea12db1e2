"""The verbs of `benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import AssumeGrid, Seed, is_main, log, progress_bar
from synthbench.cli.options import (
    Extractors,
    Intensity,
    Metrics,
    Real,
    context_of,
    grid_of,
    names,
    refuse_chosen,
)
from synthbench.errors import UsageError

benchmark = typer.Typer(no_args_is_help=True, help="Protocols frozen on a real cohort.")


@benchmark.command("init")
def benchmark_init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Becomes leaderboards/NAME.")],
    real: Real,
    m: Annotated[
        int | None, typer.Option("--m", help="Synthetic volumes an entry is scored with.")
    ] = None,
    protocol: Annotated[
        Path | None,
        typer.Option(help="Settings: a benchmark's or a scorecard's, or YAML of some of them."),
    ] = None,
    extractor: Extractors = None,
    metric: Metrics = None,
    primary: Annotated[str, typer.Option(help="Metric that entries are ordered by.")] = "mmd2",
    like: Annotated[
        Path | None, typer.Option(help="A run whose grid to use. Default: the real cohort's.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where benchmarks are kept.")] = Path("leaderboards"),
    intensity: Intensity = "percentile",
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
) -> None:
    """Freeze a protocol on a real cohort: grid, mask, extractors, bandwidths, floors, n and m."""
    from synthbench.scoring import freeze
    from synthbench.scoring.benchmark import FILE, BenchmarkSettings, protocol_differences

    if name in ("", ".", "..") or Path(name).name != name:
        raise UsageError(
            f"{name!r}: a benchmark's name is one folder's; --folder says where that folder lies."
        )
    if (folder / name / FILE).exists():
        raise UsageError(f"{folder / name / FILE}: already there. Name another benchmark.")
    chosen = BenchmarkSettings() if protocol is None else BenchmarkSettings.load(protocol)
    refuse_chosen(context, chosen.model_fields_set, protocol)
    options = {
        **names(extractor, metric), "m": m, "primary": primary, "intensity": intensity,
        "seed": seed, **({} if like is None else {"space": grid_of(like)}),
    }  # fmt: skip
    settings = chosen.model_copy(
        update={name: v for name, v in options.items() if name not in chosen.model_fields_set}
    )
    if settings.m is None:
        raise UsageError("--m: say with how many synthetic volumes an entry is scored.")
    with progress_bar("freezing") as advance:
        frozen = freeze.freeze(
            real, name, settings, context_of(advance), n_synth=settings.m, primary=settings.primary,
            assume_grid=assume_grid,
        )  # fmt: skip
    if not is_main():
        return
    file = frozen.save(folder / name)
    if chosen.protocol is not None:
        changed = protocol_differences(frozen.protocol, chosen.protocol)
        log(f"differs from {protocol}: {'; '.join(changed)}" if changed else f"as {protocol}")
    log(
        f"{file}: protocol {frozen.protocol.hash}. Next: synthbench score --benchmark "
        f"{folder / name} --real {real} --synth SYNTH --out {folder / name}/entries/NAME.json"
    )
