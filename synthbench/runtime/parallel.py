"""Threads: for reading items ahead of their use, and for work on the rows of a matrix."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

CHUNK_NUMBERS = 2**17
"""Numbers of a matrix that one thread handles at a time: 1 MiB, which a core's cache holds."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def read_ahead(
    function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int
) -> Generator[_Result]:
    """Yield the function's results in order, computed in threads.

    At most two results per worker wait for the reader. (joblib's generators do not wait for their
    reader: all volumes would pile up in memory.) What nobody asks for any more is not begun.
    """
    waiting: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # A generator that is dropped may end in one of its own threads, which cannot wait for
        # itself.
        pool.shutdown(wait=False, cancel_futures=True)


def in_place(function: Callable[[Any, slice], None], matrix: np.ndarray) -> None:
    """Call a function that changes some rows of a matrix, for all its rows, in threads.

    The function gets the rows and their place. What it does with an element must not depend on the
    others, so that the number of threads changes no result. NumPy itself computes such functions
    in one thread, and with chunks that fit into a core's cache they are faster too.
    """
    step = max(1, CHUNK_NUMBERS // max(1, matrix.shape[1]))
    chunks = [slice(start, start + step) for start in range(0, len(matrix), step)]
    workers = min(usable_cores(), len(chunks))
    if workers < 2:
        for chunk in chunks:
            function(matrix[chunk], chunk)
        return
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for _ in pool.map(lambda chunk: function(matrix[chunk], chunk), chunks):
            pass


def usable_cores() -> int:
    """Return the cores that this process may use: as many as OMP_NUM_THREADS says, or all."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    usable = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(usable(0)) if usable else os.cpu_count() or 1
