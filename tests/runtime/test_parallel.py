"""Reading ahead in threads."""

from __future__ import annotations

import threading

import pytest

from synthbench.runtime.parallel import read_ahead


def test_a_reading_that_is_dropped_may_end_in_one_of_its_own_threads():
    """Garbage is collected in any thread. What was not begun by then is not read."""
    taken, ended, read = threading.Event(), threading.Event(), list[int]()

    def function(item: int) -> int:
        read.append(item)
        if item == 1:
            taken.wait(10)
            ahead.close()
            ended.set()
        return item

    ahead = read_ahead(function, range(9), 1)
    assert next(ahead) == 0
    taken.set()
    assert ended.wait(10)
    assert list(ahead) == []
    assert read == [0, 1]


def test_an_error_reaches_the_reader():
    def function(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    ahead = read_ahead(function, range(9), 2)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(ahead)
