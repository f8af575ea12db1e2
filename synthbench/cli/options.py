"""Options of the command line: records that a verb takes, and those that several verbs share.

A verb of many options takes them as records, frozen dataclasses with one field per option, and
`with_options` spreads the records out for Typer.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from inspect import Parameter
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    get_args,
    get_type_hints,
    overload,
)

import typer
from typer.models import OptionInfo

from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.cohorts.choice import Choice, CohortFiles
    from synthbench.registry import Kind
    from synthbench.scoring.benchmark import Benchmark

# ---------------------------------------------------------------- records of options


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb as Typer reads it: with one parameter per option in place of each record.

    A record is a dataclass; its `panel` is the heading of its options in the help page. Each of its
    fields is an option, annotated as a parameter of a verb
    would be (`Annotated[type, typer.Option(...)]`), or a record again. The options are listed in
    the order of parameters and fields. A field without a default is a required option. When the
    verb is called, the records are built of what was typed.

    Raises
    ------
    TypeError
        Two parameters or fields have one name: the user could not set both.
    """
    hints = get_type_hints(verb, include_extras=True)
    arguments = inspect.signature(verb).parameters.values()
    spread = [
        option
        for argument in arguments
        for option in _options(argument.name, hints[argument.name], argument.default)
    ]
    twice = [name for name, n in Counter(option.name for option in spread).items() if n > 1]
    if twice:
        raise TypeError(f"{verb.__name__}: given twice: {', '.join(twice)}.")

    @functools.wraps(verb)
    def called(**typed: Any) -> None:
        verb(**{a.name: _built(a.name, hints[a.name], typed) for a in arguments})

    # Typer reads both.
    called.__annotations__ = {option.name: option.annotation for option in spread}
    called.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    return called


def _options(name: str, hint: Any, default: Any) -> Iterator[Parameter]:
    """Yield the options of a parameter: itself or, where it is a record, those of its fields."""
    if not is_dataclass(hint):
        # By keyword only, a required option may follow one that has a default.
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        return
    yield from _of_record(hint)  # type: ignore[arg-type]


@functools.cache  # verbs share records, and `--help` must be quick
def _of_record(record: Any) -> tuple[Parameter, ...]:
    hints = get_type_hints(record, include_extras=True)
    panel = getattr(record, "panel", None)
    return tuple(
        option if panel is None else _in_panel(option, panel)
        for field in fields(record)
        for option in _options(field.name, hints[field.name], _default(field))
    )


def _in_panel(option: Parameter, panel: str) -> Parameter:
    """Return an option that the help page lists under a heading, unless it has one already."""
    kind, *rest = get_args(option.annotation)
    moved = [
        _with(one, rich_help_panel=panel)
        if isinstance(one, OptionInfo) and one.rich_help_panel is None
        else one
        for one in rest
    ]
    return option.replace(annotation=Annotated[kind, *moved])


def _with(info: OptionInfo, **changes: Any) -> OptionInfo:
    """Return a copy of an option's description, in which some fields differ."""
    changed = copy(info)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return Parameter.empty if field.default is MISSING else field.default


def _built(name: str, hint: Any, typed: Mapping[str, Any]) -> Any:
    """Return what was typed for a parameter: a value or, where it is a record, the record."""
    if not is_dataclass(hint):
        return typed[name]
    hints = get_type_hints(hint, include_extras=True)
    values = {f.name: _built(f.name, hints[f.name], typed) for f in fields(hint)}
    return hint(**values)  # type: ignore[operator]


# ---------------------------------------------------------------- options that verbs share


def completed(kind: Kind) -> Callable[[str], list[str]]:
    """Return what completes a name of a kind (`synthbench.registry.names`) in a shell."""

    def complete(incomplete: str) -> list[str]:
        from synthbench import registry

        return [name for name in registry.names(kind) if name.startswith(incomplete)]

    return complete


Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N")]
Real = Annotated[
    Path, typer.Option("--real", help="Real cohort: a folder, BIDS folder or CSV/TSV manifest.")
]
AssumeGrid = Annotated[
    float | None, typer.Option(help="Voxel size in mm of files without geometry.")
]
AssumeGridOrReal = Annotated[
    str | None,
    typer.Option(
        help="For files without geometry, or with a wrong one: 'real' (the real files' grid), or "
        "voxel size in mm."
    ),
]
AcceptLicence = Annotated[
    str | None,
    typer.Option(help="Licence of published weights that you accept, such as cc-by-nc-4.0."),
]
Accept = Annotated[
    list[str] | None,
    typer.Option("--accept", help="Preflight rule whose errors are accepted; may be repeated."),
]
Intensity = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="How intensities are scaled: percentile, unit or, for a quantitative map, "
        "constant:SCALE:UNIT such as constant:0.003:mm2/s.",
    ),
]
BenchmarkUsed = Annotated[
    Path | None, typer.Option("--benchmark", help="Benchmark whose frozen protocol to use.")
]
AllowNetwork = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow-network",
        metavar="FILE",
        help="A network file that the benchmark may run; may be repeated.",
    ),
]
Like = Annotated[
    Path | None,
    typer.Option("--like", help="A run whose grid to use. Default: the real cohort's."),
]
CountFailures = Annotated[
    bool,
    typer.Option(
        "--count-failures",
        help="Use the synthetic volumes that can be used, and print the share that failed.",
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="What tables call the volumes.")]
Cached = Annotated[
    bool,
    typer.Option("--cache/--no-cache", help="Keep features for later runs; see `cache info`."),
]
SampleDataFiles = Annotated[
    list[Path] | None,
    typer.Option("--sample-data", help="File that `score --sample-data` wrote; may be repeated."),
]
Guidance = Annotated[
    float | None,
    typer.Option(help="How strongly a conditional run follows the request; 1: no guidance."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Denoising steps.")]
Precision = Annotated[
    str | None,
    typer.Option(
        help="fp32 or bf16: in 16 bits networks are faster on GPUs, and on CPUs with units for "
        "them. Default: fp32"
    ),
]


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """What is measured: by which extractors and metrics."""

    panel: ClassVar[str] = "What is measured"

    extractor: Annotated[
        list[str] | None,
        typer.Option(
            "--extractor",
            autocompletion=completed("extractors"),
            help="May be repeated. Default: medicalnet-resnet50-23dataset",
        ),
    ] = None
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            autocompletion=completed("metrics"),
            help="May be repeated. `default`: those of `synthbench list metrics`.",
        ),
    ] = None

    scales: Annotated[
        int | None,
        typer.Option(min=1, max=5, help="Scales of ms_ssim, fewer for small grids. Default: 3."),
    ] = None
    index: Annotated[
        bool,
        typer.Option(
            "--index",
            help="In sets of over 20,000, find nearest images by an index (faiss), which misses "
            "some; how many is printed.",
        ),
    ] = False

    def settings(self) -> dict[str, Any]:
        """Return the fields of `ScoringSettings` that were chosen; others keep their default."""
        chosen = {"extractors": self.extractor, "metrics": self.metric}
        scales = {} if self.scales is None else {"scales": self.scales}
        index = {"index": True} if self.index else {}
        return {name: tuple(names) for name, names in chosen.items() if names} | scales | index


@dataclass(frozen=True, kw_only=True)
class VolumeOptions:
    """How real volumes are read and scaled, and the seed of all that is random."""

    panel: ClassVar[str] = "Volumes and chance"

    intensity: Intensity = "percentile"
    seed: Seed = 0
    assume_grid: AssumeGrid = None


def _limit_memory(context: typer.Context, size: str | None) -> str | None:
    """Set the limit of memory for this process and those that it starts, until the verb ends."""
    from synthbench.runtime.memory import VARIABLE, parsed

    if size is None:
        return None
    parsed(size)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = size

    @context.call_on_close
    def _restore() -> None:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before

    return size


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Which files of a cohort's folder are its volumes, and how much memory reading them takes."""

    panel: ClassVar[str] = "Which files are read"

    suffix: Annotated[
        str | None,
        typer.Option("--suffix", metavar="WORD", help="Take files whose name ends so: T1w."),
    ] = None
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="ENTITY=VALUE",
            help="Take files with this BIDS entity, such as ses=1 or space=none; may be repeated.",
        ),
    ] = None

    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            callback=_limit_memory,
            help="Memory that reading one file may take, and that the statistics of large sets go "
            "by, such as 8GiB. Default: half of the machine's.",
        ),
    ] = None

    @property
    def choice(self) -> Choice:
        """The choice, or a `UsageError` where a filter cannot be read."""
        from synthbench.cohorts.choice import Choice

        return Choice.parse(self.suffix, self.filters or ())

    @overload
    def of(self, path: Path) -> CohortFiles: ...

    @overload
    def of(self, path: None) -> None: ...

    def of(self, path: Path | None) -> CohortFiles | None:
        """Return the chosen files of a path; None where there is none."""
        from synthbench.cohorts.choice import CohortFiles

        return None if path is None else CohortFiles(path, self.choice)


# ---------------------------------------------------------------- what verbs make of them


def grid_or_real(assume_grid: str | None) -> Literal["real"] | float | None:
    """Return the value of --assume-grid where it may be 'real'.

    Raises
    ------
    UsageError
        It is neither 'real' nor a number.
    """
    if assume_grid is None:
        return None
    if assume_grid == "real":
        return "real"
    try:
        return float(assume_grid)
    except ValueError:
        raise UsageError(
            f"--assume-grid: 'real' or a voxel size in mm is needed; found '{assume_grid}'."
        ) from None


def frozen_benchmark(context: typer.Context, benchmark: Path) -> Benchmark:
    """Return the benchmark that --benchmark names.

    Raises
    ------
    UsageError
        An option is given that the benchmark has frozen.
    ScorecardError
        There is no such benchmark, or it cannot be read.
    """
    from synthbench.scoring.benchmark import Benchmark

    frozen = (
        "extractor",
        "metric",
        "scales",
        "index",
        "space",
        "intensity",
        "ci",
        "resamples",
        "seed",
        "like",
    )
    given = [named(context, option) for option in frozen if was_typed(context, option)]
    if given:
        raise UsageError(f"--benchmark has frozen this: leave out {', '.join(given)}.")
    return Benchmark.load(benchmark)


def was_typed(context: typer.Context, option: str) -> bool:
    """Return whether the user typed this option or a settings file has it: no default."""
    return str(context.get_parameter_source(option)).endswith(("COMMANDLINE", "DEFAULT_MAP"))


def named(context: typer.Context, option: str) -> str:
    """Return an option's name for a message, with where it was set if it was not typed."""
    of_file = str(context.get_parameter_source(option)).endswith("DEFAULT_MAP")
    return f"--{option}{' (of the settings file)' if of_file else ''}"
