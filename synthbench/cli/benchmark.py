"""The verbs of `benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from synthbench.cli.console import answer, context_of, is_main, log, progress_bar, writing_into
from synthbench.cli.options import (
    AllowNetwork,
    FileOptions,
    Like,
    MetricOptions,
    Real,
    VolumeOptions,
    named,
    was_typed,
)
from synthbench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """What is frozen, and where it is kept."""

    panel: ClassVar[str] = "What is frozen"

    m: Annotated[
        int | None, typer.Option("--m", help="How many synthetic volumes an entry is scored with.")
    ] = None
    protocol: Annotated[
        Path | None,
        typer.Option(help="File of settings: a benchmark, a scorecard, or YAML of some settings."),
    ] = None
    allow_network: AllowNetwork = None
    metrics: MetricOptions
    primary: Annotated[
        str,
        typer.Option(help="Metric that entries are ordered by: kid, or 'kid | voxels' for one "
                     "extractor of several (the first, where none is named)."),
    ] = "mmd2"  # fmt: skip
    like: Like = None
    folder: Annotated[Path, typer.Option(help="Where benchmarks are kept.")] = Path("leaderboards")
    volumes: VolumeOptions

    def settings(self) -> dict[str, Any]:
        """Return the fields of `BenchmarkSettings` that these options choose."""
        from synthbench.runs.folder import Run

        return {
            **self.metrics.settings(),
            "m": self.m,
            "primary": self.primary,
            "intensity": self.volumes.intensity,
            "seed": self.volumes.seed,
            **({} if self.like is None else {"space": Run.open(self.like).space}),
        }


def benchmark_init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the benchmark and of its folder.")],
    real: Real,
    files: FileOptions,
    options: BenchmarkOptions,
) -> None:
    """Freeze a protocol on a real cohort: grid, mask, extractors, bandwidths, floors, n and m."""
    from synthbench.scoring import freeze
    from synthbench.scoring.benchmark import BenchmarkSettings, check_new, protocol_differences
    from synthbench.scoring.features import check_networks, network_hashes

    protocol, folder = options.protocol, options.folder / name
    check_new(name, options.folder)
    context.with_resource(writing_into(folder))
    chosen = BenchmarkSettings() if protocol is None else BenchmarkSettings.load(protocol)
    _refuse_chosen(context, chosen.model_fields_set, protocol)
    settings = chosen.completed(options.settings())
    if "extractors" in chosen.model_fields_set:
        check_networks(settings.extractors, network_hashes(options.allow_network or ()))
    if settings.m is None:
        raise UsageError("--m: say with how many synthetic volumes an entry is scored.")
    with progress_bar("freezing") as advance:
        frozen = freeze.freeze(
            files.of(real), name, settings, context_of(advance), n_synth=settings.m,
            primary=settings.primary, assume_grid=options.volumes.assume_grid,
        )  # fmt: skip
    if not is_main():
        return
    file = frozen.save(folder)
    if chosen.protocol is not None:
        changed = protocol_differences(frozen.protocol, chosen.protocol)
        log(
            f"differs from {protocol}: {'; '.join(changed)}"
            if changed
            else f"same protocol as {protocol}"
        )
    log(
        f"{file}: protocol {frozen.protocol.hash}. Next: synthbench score --benchmark "
        f"{folder} --real {real} --synth SYNTH --out {folder}/entries/NAME.json"
    )
    answer({"file": str(file), "benchmark": name, "protocol_hash": frozen.protocol.hash})


def _refuse_chosen(context: typer.Context, chosen: set[str], file: Path | None) -> None:
    """Raise where an option is given that the file of --protocol has chosen."""
    settings = {"m": "m", "extractor": "extractors", "metric": "metrics", "scales": "scales",
                "primary": "primary", "like": "space", "intensity": "intensity",
                "seed": "seed"}  # fmt: skip
    given = [
        named(context, option)
        for option, setting in settings.items()
        if setting in chosen and was_typed(context, option)
    ]
    if given:
        raise UsageError(f"--protocol {file} has chosen this: leave out {', '.join(given)}.")
