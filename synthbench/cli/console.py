"""How the verbs of the command line speak: sentences, tables, JSON, a bar, files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthbench.errors import UsageError
from synthbench.runtime.callbacks import Progress
from synthbench.runtime.text import printed, without_commands

if TYPE_CHECKING:
    from synthbench.scoring.settings import Context


def is_main() -> bool:
    """Return whether this process speaks: the only one, or the first of those launched together.

    It asks the environment, as `synthbench.runtime.processes.is_main` would need torch.
    """
    return os.environ.get("RANK", "0") == "0"


def log(message: str) -> None:
    """Write a sentence for the user to standard error, on the main process only."""
    if is_main():
        complain(message)


def complain(message: str) -> None:
    """Write a message to standard error, on every process."""
    print(printed(message), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Write text to standard output, on the main process only."""
    if is_main():
        print(printed(text))


def show(renderable: Any) -> None:
    """Print a table or a text to standard output, on the main process only."""
    from rich.console import Console

    if not is_main():
        return

    terminal = Console().is_terminal
    # A table that is read by a program or a log must not be wrapped at 80 columns. What is shown
    # is text: brackets in it are no markup, and words between colons no pictures.
    console = Console(width=None if terminal else 200, markup=False, emoji=False)
    with console.capture() as shown:
        console.print(renderable)
    sys.stdout.write(shown.get() if terminal else without_commands(shown.get()))


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output, on the main process only."""
    import json

    if is_main():
        # The same value, but no command of a workflow's runner.
        print(json.dumps(value, indent=1).replace("##[", r"#\u0023["))


@contextmanager
def progress_bar(title: str, *, lines: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar of (done, total, words) on standard error, where that is a terminal.

    Only the main process shows one. Where there is no terminal, `lines` prints one line per step.
    """
    from synthbench.runtime.progress import bar

    if not is_main():
        yield _unseen
        return
    with bar(title, lines=lines) as advance:
        yield advance


def _unseen(done: int, total: int, words: str = "") -> None:
    pass


def as_progress(advance: Callable[[int, int, str], None]) -> Progress:
    """Return a bar's callback of (done, total, words) as one of (what, done, total)."""
    return lambda what, done, total: advance(done, total, what)


def context_of(
    advance: Callable[[int, int, str], None],
    cached: bool = True,
    networks: Sequence[Path] | None = None,
) -> Context:
    """Return how a verb scores: with its bar and, where `cached`, with the user's cache.

    `networks` are the files that a benchmark may name (`--allow-network`).
    """
    from synthbench.scoring.cache.store import Cache
    from synthbench.scoring.features import network_hashes
    from synthbench.scoring.settings import Context

    return Context(
        cache=Cache(log=log) if cached else None,
        progress=as_progress(advance),
        log=log,
        networks=network_hashes(networks or ()),
    )


def make_room(option: str, file: Path) -> None:
    """Make the folder of an output file before the work begins.

    Raises
    ------
    UsageError
        The file is a folder, or its folder cannot be made.
    """
    if file.is_dir():
        raise UsageError(f"{option} {file}: that is a folder; name a file in it.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{option} {file}: its folder cannot be made: {error.strerror}."
        ) from error


def write_page(file: Path, page: str) -> None:
    """Write a page for a browser, and say how large it is."""
    from synthbench.runtime.files import write_atomic

    content = page.encode()
    write_atomic(file, content)
    log(f"{file}: {len(content) / 1e6:.1f} MB, opens in any browser")
