"""Progress: on standard error, a bar where that is a terminal, and else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from synthbench.runtime.text import one_line, printed

Advance = Callable[[int, int, str], None]

EVERY = 10.0
"""Seconds between the lines where there is no terminal."""

_BAR = 20
_COUNT_AND_TIME = len(" 1000/1000  0:00:00 elapsed ")


@contextmanager
def bar(title: str, *, console: Console | None = None) -> Iterator[Advance]:
    """Show a bar; the yielded function takes (done, total, text).

    Where there is no terminal, a line says every `EVERY` seconds how far the work is.

    Parameters
    ----------
    title
        The name of the work.
    console
        The console of the bar; None: standard error.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        with _lines(one_line(title)) as advance:
            yield advance
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
        pace = _Pace()
        # Rich would cut every column of a line that is too long, also the time.
        room = max(8, console.width - len(title) - _BAR - _COUNT_AND_TIME)

        def advance(done: int, total: int, text: str = "") -> None:
            shown = progress.tasks[0]
            due = pace.due(done, total, shown.elapsed or 0.0)
            shown.total = total or None
            progress.update(
                task,
                completed=done,
                count=_count(done, total),
                text=_shortened(text, room),
                due=due,
            )

        yield advance


class _Pace:
    """How fast a piece of work goes: a verb shows several in one bar, each with its own speed."""

    def __init__(self) -> None:
        self.done = self.total = 0
        self.began: tuple[int, float] | None = None

    def due(self, done: int, total: int, now: float) -> float | None:
        """Return when the piece of work will be done, in seconds since the start."""
        if self.began is None or total != self.total or done < self.done:
            self.began = done, now
        self.done, self.total = done, total
        first, start = self.began
        left = seconds_left(done - first, total - first, now - start)
        return None if left is None else now + left


@contextmanager
def _lines(title: str) -> Iterator[Advance]:
    """Print a line every `EVERY` seconds, also while one step takes longer than that."""
    pace, began, ended = _Pace(), time.monotonic(), threading.Event()
    state: list[tuple[str, str, float | None]] = [("", "", None)]

    def advance(done: int, total: int, text: str = "") -> None:
        due = pace.due(done, total, time.monotonic() - began)
        state[0] = _count(done, total), one_line(text), due

    def speak() -> None:
        while not ended.wait(EVERY):
            count, text, due = state[0]
            words = " ".join(word for word in (count, text) if word)
            clock = time_text(time.monotonic() - began, due)
            line = f"{title}: {words}, {clock}" if words else f"{title}: {clock}"
            try:
                print(printed(line), file=sys.stderr, flush=True)
            except OSError:  # nobody reads it any more
                return

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield advance
    finally:
        ended.set()
        speaker.join()


def _count(done: int, total: int) -> str:
    """Return the count; nothing where work has no parts that are counted."""
    if total:
        return f"{done}/{total}"
    return str(done) if done else ""


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
