"""The verb `list`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from synthbench.cli.console import print_json, show
from synthbench.cli.options import Json
from synthbench.errors import SynthbenchError


class Kind(StrEnum):
    """What `list` lists."""

    generators = "generators"
    metrics = "metrics"
    extractors = "extractors"
    layouts = "layouts"


LISTED: dict[Kind, tuple[str, ...]] = {
    Kind.generators: ("summary", "needs"),
    Kind.metrics: ("label", "needs", "direction", "target", "sees", "misses"),
    Kind.extractors: ("summary", "needs"),
    Kind.layouts: ("signs",),
}
"""The attributes of a plugin that `list` shows."""


def list_(
    kind: Annotated[Kind, typer.Argument()],
    json: Json = False,
) -> None:
    """List what is installed, and what each needs."""
    from synthbench import registry

    rows = []
    for name in registry.names(kind.value):
        try:
            plugin = registry.load(kind.value, name)()
        except SynthbenchError as error:
            rows.append({"name": name, "broken": str(error)})
            continue
        row = {"name": name, **{field: getattr(plugin, field) for field in LISTED[kind]}}
        if kind is Kind.metrics:
            row["responds to"] = ", ".join(getattr(plugin, "responds_to", ()))
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
    if json:
        print_json(rows)
        return
    show(_metrics_listed(rows) if kind is Kind.metrics else _listed(rows))


def _listed(rows: list[dict[str, str]]) -> Any:
    from synthbench.render.terminal import Table

    titles = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*titles)
    for row in rows:
        table.add_row(*(row.get(title, "") for title in titles))
    return table


def _metrics_listed(rows: list[dict[str, str]]) -> Any:
    """Return each metric's name and kind on one line, and its sentences below."""
    from rich.console import Group

    from synthbench.render.terminal import Table, Text
    from synthbench.runtime.text import one_line

    parts: list[Any] = []
    for row in rows:
        if "broken" in row:
            parts += [Text(f"{row['name']}: {row['broken']}", style="yellow"), Text()]
            continue
        kind = f"{row['label']}; of {row['needs']}; best {row['direction']}; target {row['target']}"
        words = Table(show_header=False)
        for field in ("sees", "misses", "responds to"):
            if row[field]:
                words.add_row("  " + field, row[field])
        parts += [Text(row["name"], style="bold").append(f"  {one_line(kind)}", "not bold"), words]
    return Group(*parts)
