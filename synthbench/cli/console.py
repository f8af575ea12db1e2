"""How the verbs of the command line speak: sentences, tables, JSON, a bar, files."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Voice:
    """How much a verb says: the options that all verbs have."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False


_voices = [Voice()]  # the last one speaks, in every thread


@contextmanager
def speaking(**how: bool) -> Iterator[None]:
    """Context manager: a verb speaks so (`Voice`).

    With `verbose`, what the library says is shown too, with the time since the start, and an error
    with where it was raised.
    """
    voice, library, began = Voice(**how), logging.getLogger("synthbench"), time.monotonic()
    level = library.level
    _voices.append(voice)
    handler = _Spoken(began)
    if voice.verbose:
        library.addHandler(handler)
    library.setLevel("INFO" if voice.verbose else "ERROR" if voice.quiet else level)
    try:
        yield
    except Exception:
        if voice.verbose:
            complain(traceback.format_exc())
        raise
    finally:
        library.removeHandler(handler)
        library.setLevel(level)
        _voices.pop()
        if voice.verbose:
            complain(f"{time.monotonic() - began:.1f} s")


class _Spoken(logging.Handler):
    """Writes what the library says as the verb speaks, with the seconds since its start."""

    def __init__(self, began: float) -> None:
        super().__init__()
        self.began = began

    def emit(self, record: logging.LogRecord) -> None:
        """Write one sentence."""
        if is_main():
            complain(f"{time.monotonic() - self.began:6.1f} s  {record.getMessage()}")


def log(message: str) -> None:
    """Write a sentence for the user to standard error, on the main process only."""
    if is_main() and not _voices[-1].quiet:
        complain(message)


def answer(value: Any, shown: Callable[[], Any] | None = None, columns: int = 200) -> None:
    """Give a verb's result on standard output, on the main process only.

    Parameters
    ----------
    value
        The result: a record, or what JSON can hold. It is printed where `--json` is given.
    shown
        Called where it is not: returns a text, or a renderable of Rich's. None: nothing is shown,
        since the verb has said it.
    columns
        The width of what is shown, where the output is no terminal.
    """
    if _voices[-1].json:
        print_json(value.model_dump(mode="json") if hasattr(value, "model_dump") else value)
    elif shown is not None and is_main():
        words = shown()
        say(words) if isinstance(words, str) else show(words, columns)


def complain(message: str) -> None:
    """Write a message to standard error, on every process."""
    print(printed(message), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Write text to standard output, on the main process only."""
    if is_main():
        print(printed(text))


def show(renderable: Any, columns: int = 200) -> None:
    """Print a table or a text to standard output, on the main process only.

    Where that is no terminal, lines are at most `columns` wide.
    """
    from rich.console import Console

    if not is_main():
        return

    terminal = Console().is_terminal
    # A table that is read by a program or a log must not be wrapped at 80 columns. What is shown
    # is text: brackets in it are no markup, and words between colons no pictures.
    console = Console(width=None if terminal else columns, markup=False, emoji=False)
    with console.capture() as shown:
        console.print(renderable)
    if terminal:
        sys.stdout.write(shown.get())
        return
    # The cells of a table are filled up with spaces, which nobody needs in a file.
    lines = (line.rstrip() for line in shown.get().splitlines())
    sys.stdout.write(without_commands("".join(f"{line}\n" for line in lines)))


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output, on the main process only.

    Numbers that are not finite, which JSON does not have, are null.
    """
    import json

    if is_main():
        # The same value, but no command of a workflow's runner.
        print(json.dumps(_finite(value), indent=1).replace("##[", r"#\u0023["))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar of (done, total, words) on standard error: `synthbench.runtime.progress.bar`.

    Only the main process shows one, and none where the verb is quiet.
    """
    from synthbench.runtime.progress import bar

    if not is_main() or _voices[-1].quiet:
        yield _unseen
        return
    with bar(title) as advance:
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


@contextmanager
def writing(reads: Mapping[str, Any], /, **files: Path | None) -> Iterator[None]:
    """Context manager: this command alone writes its output files, and can write them.

    Folders are made, and a file that cannot be written is found before the work begins.

    Parameters
    ----------
    reads
        What the command reads, by its options; values that are no paths are passed over.
    files
        The files by their options (`sample_data` for --sample-data); None: not asked for.

    Raises
    ------
    UsageError
        A file is a folder, is named by two options, is one that the command reads or that belongs
        to a cohort, or cannot be written.
    InUseError
        Another process writes one of the files.
    """
    from synthbench.runtime.files import is_special
    from synthbench.runtime.lock import only_writer_of

    named: dict[Path, str] = {}
    with ExitStack() as stack:
        for name, file in files.items():
            option = f"--{name.replace('_', '-')}"
            if file is None or is_special(file) or not is_main():
                continue
            if file.is_dir():
                raise UsageError(f"{option} {file}: that is a folder; name a file in it.")
            if other := named.get(file.absolute()):
                raise UsageError(f"{other} and {option} name the same file, {file}.")
            named[file.absolute()] = option
            _check_replaces_no_input(name, file, reads)
            try:
                stack.enter_context(only_writer_of(file))
            except OSError as error:
                raise UsageError(
                    f"{option} {file}: it cannot be written: {error.strerror}. Name a file in "
                    "another folder."
                ) from error
        yield


_OF_A_COHORT = ("participants.tsv", "dataset_description.json", "DATA_USE_TERMS.txt", "seal.json")


def _check_replaces_no_input(name: str, file: Path, reads: Mapping[str, Any]) -> None:
    """Raise a UsageError where a result would take the place of what it was computed from."""
    from synthbench.volumes.image_file import SUFFIXES, is_volume

    option = f"--{name.replace('_', '-')}"
    if not file.exists():
        if is_volume(file):
            raise UsageError(f"{option} {file}: that is the name of a volume; name another file.")
        return
    beside = any(file.with_name(f"{file.stem}{suffix}").exists() for suffix in SUFFIXES)
    if is_volume(file) or file.name in _OF_A_COHORT or (beside and file.suffix == ".json"):
        raise UsageError(
            f"{option} {file}: that file belongs to a cohort, and would be replaced. Name another."
        )
    for other, value in reads.items():
        for read in value if isinstance(value, list | tuple) else (value,):
            if other != name and isinstance(read, Path) and read.exists() and read.samefile(file):
                raise UsageError(
                    f"{option} {file}: the command reads that file, for "
                    f"--{other.replace('_', '-')}. Name another."
                )


@contextmanager
def writing_into(folder: Path | None) -> Iterator[None]:
    """Context manager: this command alone writes into a folder (`only_writer`); None: into none."""
    from synthbench.runtime.lock import only_writer

    with nullcontext() if folder is None or not is_main() else only_writer(folder):
        yield


def write_page(file: Path, page: str) -> None:
    """Write a page for a browser, and say how large it is."""
    from synthbench.runtime.files import write_atomic

    content = page.encode()
    write_atomic(file, content)
    log(f"{file}: {len(content) / 1e6:.1f} MB, opens in any browser")
