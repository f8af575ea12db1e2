"""Progress bars: on standard error, and none where that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

Advance = Callable[[int, int, str], None]

_BAR = 20
_COUNT_AND_TIME = len(" 1000/1000  0:00:00 elapsed ")


@contextmanager
def bar(title: str, *, lines: bool = False, console: Console | None = None) -> Iterator[Advance]:
    """Show a bar; the yielded function takes (done, total, words).

    Parameters
    ----------
    title
        What is done.
    lines
        Whether, where there is no terminal, each step prints a line instead.
    console
        Where the bar is shown; None: standard error.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _print_line if lines else _show_nothing
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=_BAR),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[words]}"),
        _Clock(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, count="", words="", due=None)
        began: tuple[int, float] | None = None
        # Rich would cut every column where a line is too long, the time among them.
        room = max(8, console.width - len(title) - _BAR - _COUNT_AND_TIME)

        def advance(done: int, total: int, words: str = "") -> None:
            nonlocal began
            shown = progress.tasks[0]
            now = shown.elapsed or 0.0
            # Verbs run several pieces of work in one bar, each at a pace of its own.
            if began is None or total != (shown.total or 0) or done < shown.completed:
                began = done, now
            left = seconds_left(done - began[0], total - began[0], now - began[1])
            shown.total = total or None
            progress.update(
                task,
                completed=done,
                count=f"{done}/{total}" if total else str(done),
                words=_shortened(words, room),
                due=None if left is None else now + left,
            )

        yield advance


class _Clock(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(time_words(task.elapsed or 0.0, task.fields["due"]))


def time_words(elapsed: float, due: float | None) -> str:
    """Say what is left of a piece of work where that is known, else the time since the start.

    Parameters
    ----------
    elapsed
        Seconds since the start.
    due
        When, in seconds since the start, the work is expected to be done; None: not known. What is
        overdue is not known either.

    >>> time_words(51, None), time_words(60, 90), time_words(100, 90)
    ('0:00:51 elapsed', '0:00:30 left', '0:01:40 elapsed')
    """
    if due is None or due <= elapsed:
        return f"{_clock(elapsed)} elapsed"
    return f"{_clock(due - elapsed)} left"


def seconds_left(done: int, total: int, seconds: float) -> float | None:
    """Estimate the time left by the mean pace so far; None before the first step and at the end.

    >>> seconds_left(0, 2, 50.0)
    >>> seconds_left(2, 6, 10.0)
    20.0
    """
    return seconds / done * (total - done) if 0 < done < total else None


def _shortened(words: str, room: int) -> str:
    return words if len(words) <= room else f"{words[: room - 1]}…"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _print_line(done: int, total: int, words: str = "") -> None:
    if done:
        print(f"{done}/{total} {words}", file=sys.stderr, flush=True)


def _show_nothing(done: int, total: int, words: str = "") -> None:
    pass
