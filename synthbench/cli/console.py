"""What the verbs of the command line share: how they speak, and options that many take."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from synthbench.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N")]
AssumeGrid = Annotated[
    float | None, typer.Option(help="Voxel size in mm of arrays without geometry.")
]


def is_main() -> bool:
    """Whether this process speaks: the only one, or the first of those that were launched.

    It asks the environment, as `synthbench.runtime.processes.is_main` would need torch.
    """
    return os.environ.get("RANK", "0") == "0"


def log(message: str) -> None:
    """Write a sentence for the user to standard error, on the main process only."""
    if is_main():
        print(message, file=sys.stderr, flush=True)


def show(renderable: Any) -> None:
    """Print a table or a text to standard output, on the main process only."""
    from rich.console import Console

    if not is_main():
        return

    console = Console()
    # A table that is read by a program or a log must not be wrapped at 80 columns.
    Console(width=None if console.is_terminal else 200).print(renderable)


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output, on the main process only."""
    import json

    if is_main():
        print(json.dumps(value, indent=1))


@contextmanager
def progress_bar(title: str, *, lines: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar of (done, total, words) on standard error, where that is a terminal.

    Only the main process shows one. Where there is no terminal, `lines` prints a line a step.
    """
    from synthbench.runtime.progress import bar

    if not is_main():
        yield _unseen
        return
    with bar(title, lines=lines) as advance:
        yield advance


def _unseen(done: int, total: int, words: str = "") -> None:
    pass


def make_room(option: str, file: Path) -> None:
    """Make the folder of an output file before the work begins, or say why it cannot be."""
    if file.is_dir():
        raise UsageError(f"{option} {file}: that is a folder; name a file in it.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{option} {file}: its folder cannot be made: {error.strerror}."
        ) from error
