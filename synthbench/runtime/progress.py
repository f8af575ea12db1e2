"""Progress bars: on standard error, and none where that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from synthbench.runtime.text import one_line, printed

Advance = Callable[[int, int, str], None]

_BAR = 20
_COUNT_AND_TIME = len(" 1000/1000  0:00:00 elapsed ")


@contextmanager
def bar(title: str, *, lines: bool = False, console: Console | None = None) -> Iterator[Advance]:
    """Show a bar; the yielded function takes (done, total, text).

    Parameters
    ----------
    title
        The name of the work.
    lines
        Print one line per step where there is no terminal.
    console
        The console of the bar; None: standard error.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _print_line if lines else _show_nothing
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[text]}", markup=False),
        _Clock(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(one_line(title), total=None, count="", text="", due=None)
        began: tuple[int, float] | None = None
        # Rich would cut every column of a line that is too long, also the time.
        room = max(8, console.width - len(title) - _BAR - _COUNT_AND_TIME)

        def advance(done: int, total: int, text: str = "") -> None:
            nonlocal began
            shown = progress.tasks[0]
            now = shown.elapsed or 0.0
            # A verb shows several pieces of work in one bar, each with its own speed.
            if began is None or total != (shown.total or 0) or done < shown.completed:
                began = done, now
            left = seconds_left(done - began[0], total - began[0], now - began[1])
            shown.total = total or None
            progress.update(
                task,
                completed=done,
                count=f"{done}/{total}" if total else str(done),
                text=_shortened(text, room),
                due=None if left is None else now + left,
            )

        yield advance


class _Clock(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(time_text(task.elapsed or 0.0, task.fields["due"]))


def time_text(elapsed: float, due: float | None) -> str:
    """Return the time that is left where it is known, else the time since the start.

    Parameters
    ----------
    elapsed
        Seconds since the start.
    due
        Expected end, in seconds since the start; None where it is not known. An end that has
        passed counts as not known.

    >>> time_text(51, None), time_text(60, 90), time_text(100, 90)
    ('0:00:51 elapsed', '0:00:30 left', '0:01:40 elapsed')
    """
    if due is None or due <= elapsed:
        return f"{_clock(elapsed)} elapsed"
    return f"{_clock(due - elapsed)} left"


def seconds_left(done: int, total: int, seconds: float) -> float | None:
    """Return the time left at the mean speed so far; None before the first step and at the end.

    >>> seconds_left(0, 2, 50.0)
    >>> seconds_left(2, 6, 10.0)
    20.0
    """
    return seconds / done * (total - done) if 0 < done < total else None


def _shortened(text: str, room: int) -> str:
    text = one_line(text)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _print_line(done: int, total: int, text: str = "") -> None:
    if done:
        print(printed(f"{done}/{total} {text}"), file=sys.stderr, flush=True)


def _show_nothing(done: int, total: int, text: str = "") -> None:
    pass
