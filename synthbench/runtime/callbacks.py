"""Callbacks through which long work reports to its caller: sentences for a log, and progress."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

Log: TypeAlias = Callable[[str], None]
"""Called with one sentence for the user."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (what, done, total); a total of 0 means not known. Both are 0 where no parts are
counted."""


def to_logger(message: str) -> None:
    """Give a sentence to the logger `synthbench`, which shows nothing unless a program asks it to.

    `logging.basicConfig(level="INFO")` shows it.
    """
    logging.getLogger("synthbench").info(message)


def no_progress(what: str, done: int, total: int) -> None:
    """Drop a report of progress."""


def checking(role: str, progress: Progress | None) -> Callable[[int], None] | None:
    """Return a callback for the number of files checked; the total is not known."""
    return None if progress is None else lambda done: progress(f"checking {role}", done, 0)


def shown(what: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    """Return a callback of (done, total) for one piece of work, under the name `what`."""
    return None if progress is None else lambda done, total: progress(what, done, total)
