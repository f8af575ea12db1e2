from __future__ import annotations

import io
import threading
import time

import pytest
from rich.console import Console

from synthbench.runtime import progress
from synthbench.runtime.progress import bar, seconds_left, time_text


def shown(*steps):
    """What a terminal of 120 columns was sent by these calls."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    with bar("preparing", console=console) as advance:
        for step in steps:
            advance(*step)
    return written.getvalue()


def test_before_the_first_step_is_done_there_is_a_total_and_no_time_left():
    text = shown((0, 2, ""))
    assert "0/2" in text
    assert "0:00:00 elapsed" in text
    assert "left" not in text


def test_long_words_give_way_to_the_time():
    text = shown((0, 4, ""), (4, 4, "a long name " * 20))
    assert "4/4 a long name" in text
    assert "… 0:00:00 elapsed" in text


@pytest.mark.parametrize(
    ("elapsed", "due", "words"),
    [
        (51, None, "0:00:51 elapsed"),
        (60, 90, "0:00:30 left"),
        (100, 90, "0:01:40 elapsed"),
        (7325, 7325 + 3661, "1:01:01 left"),
    ],
    ids=["not known", "known", "overdue", "hours"],
)
def test_the_time_left_is_said_where_it_is_known(elapsed, due, words):
    assert time_text(elapsed, due) == words


def test_an_unknown_total_is_a_count():
    text = shown((3, 0, "checking real"))
    assert "3 checking real 0:00:00 elapsed" in text
    assert "/" not in text


def test_work_without_parts_has_no_count():
    text = shown((0, 0, "statistics of kid"))
    assert "statistics of kid 0:00:00 elapsed" in text
    assert "0 statistics" not in text


@pytest.mark.parametrize(
    ("done", "total", "seconds", "left"),
    [(0, 2, 50, None), (1, 2, 50, 50), (2, 6, 10, 20), (6, 6, 3, None), (3, 0, 9, None)],
)
def test_time_left_is_the_mean_pace_times_what_is_left(done, total, seconds, left):
    assert seconds_left(done, total, seconds) == left


def test_without_a_terminal_short_work_says_nothing(capsys):
    with bar("preparing") as advance:
        advance(0, 2, "")
        advance(1, 2, "sub-A")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_long_work_says_a_line_now_and_then(capsys, monkeypatch):
    """Also while one step takes longer, and the last word is that of the last step."""
    monkeypatch.setattr(progress, "EVERY", 0.02)
    before = threading.enumerate()  # other tests may have left some
    with bar("preparing") as advance:
        time.sleep(0.05)
        advance(1, 2, "sub-A\n::error::x")
        time.sleep(0.1)
    written = capsys.readouterr()
    first, *rest = written.err.splitlines()
    assert (written.out, first) == ("", "preparing: 0:00:00 elapsed")
    assert rest[-1].startswith("preparing: 1/2 sub-A\\n::error::x, 0:00:00")
    assert len(rest) < 10
    threads = [one for one in threading.enumerate() if one not in before]
    time.sleep(0.05)
    assert (capsys.readouterr().err, threads) == ("", [])
