"""The verb `list`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from synthbench.cli.console import answer
from synthbench.errors import SynthbenchError


class Kind(StrEnum):
    """What `list` lists."""

    generators = "generators"
    metrics = "metrics"
    extractors = "extractors"
    layouts = "layouts"


LISTED: dict[Kind, tuple[str, ...]] = {
    Kind.generators: ("summary",),
    Kind.metrics: ("label", "needs", "direction", "target", "sees", "misses"),
    Kind.extractors: ("summary", "needs"),
    Kind.layouts: ("signs",),
}
"""The attributes of a plugin that `list` shows."""


def list_(
    kind: Annotated[Kind, typer.Argument()],
) -> None:
    """List what is installed, and what each needs."""
    from synthbench import registry
    from synthbench.scoring.settings import DEFAULT_METRICS

    rows: list[dict[str, Any]] = []
    for name in registry.names(kind.value):
        try:
            plugin = registry.load(kind.value, name)()
        except SynthbenchError as error:
            rows.append({"name": name, "broken": str(error)})
            continue
        row = {"name": name, **{field: getattr(plugin, field) for field in LISTED[kind]}}
        if kind is Kind.generators:
            row |= _of_a_generator(name, plugin)
        if kind is Kind.metrics:
            row["responds to"] = ", ".join(getattr(plugin, "responds_to", ()))
            row["default"] = name in DEFAULT_METRICS
        if kind is Kind.layouts:
            row["terms"] = "of each dataset" if plugin.terms is None else plugin.terms.name
        rows.append(row)
    if kind is Kind.extractors:
        rows += [
            {"name": f"{scheme}:FILE", "summary": words, "needs": "an ONNX or .pt2 file, and YAML"}
            for scheme, words in (
                ("slices", "a 2-D network of yours on slices along three planes"),
                ("net", "a 3-D network of yours"),
            )
        ]
    answer(rows, lambda: _shown(kind, rows))


def _shown(kind: Kind, rows: list[dict[str, Any]]) -> Any:
    """Return what is listed, as a renderable."""
    if kind is Kind.metrics:
        titles = {
            row["name"]: f"{row['label']}; of {row['needs']}; best {row['direction']}; "
            f"target {row['target']}{'' if row['default'] else '; only by --metric'}"
            for row in rows
            if "broken" not in row
        }
        return _in_blocks(rows, titles, ("sees", "misses", "responds to"))
    if kind is Kind.generators:
        titles = {row["name"]: row.get("summary", "") for row in rows}
        return _in_blocks(rows, titles, GENERATOR_FIELDS)
    return _listed(rows)


GENERATOR_FIELDS = ("paper", "licence", "conditions", "presets", "cost")
"""What `list` says of a generator below its summary. Presets stand with their parameters."""


def _of_a_generator(name: str, plugin: Any) -> dict[str, str]:
    """Return what a user chooses a generator by; the parameters are counted, not written down."""
    from synthbench.generators.generator import Conditional, Guided
    from synthbench.runs.configuration import presets
    from synthbench.training.stages import parameters

    conditions = "covariates" if isinstance(plugin, Conditional) else "none"
    sizes = {preset: parameters(name, preset) for preset in presets(name)}
    return {
        "paper": getattr(plugin, "paper", "not said"),  # a plugin need not say these two
        "licence": getattr(plugin, "licence", "not said"),
        "conditions": f"{conditions}, guidance" if isinstance(plugin, Guided) else conditions,
        "presets": "; ".join(f"{preset} ({n / 1e6:.1f} M)" for preset, n in sizes.items()),
        "cost": plugin.needs,
    }


def _listed(rows: list[dict[str, Any]]) -> Any:
    from synthbench.render.terminal import Table

    titles = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*titles)
    for row in rows:
        table.add_row(*(row.get(title, "") for title in titles))
    return table


def _in_blocks(rows: list[dict[str, Any]], titles: Mapping[str, str], fields: Sequence[str]) -> Any:
    """Return each plugin's name and title on one line, and its sentences below."""
    from rich.console import Group

    from synthbench.render.terminal import Table, Text
    from synthbench.runtime.text import one_line

    parts: list[Any] = []
    for row in rows:
        if "broken" in row:
            parts += [Text(f"{row['name']}: {row['broken']}", style="yellow"), Text()]
            continue
        words = Table(show_header=False)
        for field in fields:
            if row[field]:
                words.add_row("  " + field, row[field])
        title = one_line(titles[row["name"]])
        parts += [Text(row["name"], style="bold").append(f"  {title}", "not bold"), words]
    return Group(*parts)
