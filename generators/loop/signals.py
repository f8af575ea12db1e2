"""Signals that ask the training to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list that collects SIGTERM (from a scheduler) and SIGINT (Ctrl-C).

    A second Ctrl-C acts at once. A second SIGTERM does not: for one stop, a scheduler and a
    launcher may send one each.
    """
    requested: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield requested  # only the main thread may set handlers
        return

    def remember(number: int, _: FrameType | None) -> None:
        requested.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before: dict[int, Any] = {}
    for wanted in (signal.SIGTERM, signal.SIGINT):
        before[wanted] = signal.getsignal(wanted) or signal.SIG_DFL
        signal.signal(wanted, remember)
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def flag(signals: Sequence[int], like: Tensor) -> Tensor:
    """Return 1 where a signal has come, else 0, on the device and of the type of `like`."""
    return torch.as_tensor(float(bool(signals))).to(like)
