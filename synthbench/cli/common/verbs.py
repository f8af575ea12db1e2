"""Verbs: each with the options that all have, an example and a page of the documentation."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

import typer

from synthbench.cli.common.settings_file import KNOWN, config_option
from synthbench.cli.console import speaking
from synthbench.cli.options import with_options

Settings = Annotated[
    Path | None, config_option("Options by verb (YAML). Default: synthbench.yaml here or above.")
]


@dataclass(frozen=True, kw_only=True)
class Speaking:
    """How a verb speaks."""

    panel: ClassVar[str] = "Output and settings"

    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only results and errors.")] = (
        False
    )
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Say more: steps, times, where an error was raised."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class SettingsFile:
    """Where options come from that are not typed."""

    panel: ClassVar[str] = Speaking.panel

    config: Settings = None


def add(
    group: typer.Typer,
    name: str,
    verb: Callable[..., None],
    *,
    example: str,
    page: str,
    of: str = "",
) -> None:
    """Add a verb to the command line, or to a group of verbs.

    Parameters
    ----------
    name
        The verb's name.
    verb
        The function; its options are annotated, alone or in records (`with_options`). One that
        has an option `config` of its own keeps it (`TrainSettings`).
    example
        What a user types after `synthbench`.
    page
        The page of docs/ that says more.
    of
        The name of the group; empty: the verb stands alone.
    """
    taken = with_options(_speaking(verb))
    path = (*of.split(), name)
    KNOWN[path] = tuple(inspect.signature(taken).parameters.values())
    epilog = f"Example: synthbench {example}\n\nMore: docs/{page}"
    group.command(name, epilog=epilog)(taken)


def _speaking(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with the options that all verbs have."""
    hints = get_type_hints(verb, include_extras=True)
    added: dict[str, type] = {"speaking_": Speaking}
    records = [{field.name for field in fields(h)} for h in hints.values() if is_dataclass(h)]
    if not any("config" in names for names in records):
        added["settings_file"] = SettingsFile

    @functools.wraps(verb)
    def spoken(**typed: Any) -> None:
        how = typed.pop("speaking_")
        typed.pop("settings_file", None)
        with speaking(**vars(how)):
            verb(**typed)

    own = inspect.signature(verb).parameters.values()
    keywords = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in own]
    keywords += [Parameter(n, Parameter.KEYWORD_ONLY, annotation=t) for n, t in added.items()]
    spoken.__annotations__ = {**hints, **added}
    spoken.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return spoken
