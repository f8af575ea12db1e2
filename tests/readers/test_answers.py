"""Answers: appended whole, read after a kill, and refused where they answer nothing."""

from __future__ import annotations

import json

import pytest

from synthbench.errors import UsageError
from synthbench.readers.answers import Answer, append, check_answer, read_answers
from synthbench.readers.scales import Scales
from synthbench.readers.study import Trial

SCALES = Scales.model_validate(
    {"scales": [{"key": "look", "question": "q", "levels": ["bad", "good"]}]}
)
TRIALS = {
    "t0001": Trial(trial="t0001", kind="rating", cases=("a" * 12,)),
    "t0002": Trial(trial="t0002", kind="2afc", cases=("a" * 12, "b" * 12)),
}
RATED = Answer(trial="t0001", levels={"look": 2}, seconds=3.5, comment="ü\n\u2028")
LEFT = Answer(trial="t0002", choice="left")


def test_what_is_appended_is_read_and_an_answer_can_be_taken_back(tmp_path):
    file = tmp_path / "reader-1.jsonl"
    for answer in (RATED, LEFT):
        append(file, answer)
    assert read_answers(file, TRIALS, SCALES) == {"t0001": RATED, "t0002": LEFT}
    append(file, Answer(trial="t0002", undone=True))
    assert read_answers(file, TRIALS, SCALES) == {"t0001": RATED}
    again = Answer(trial="t0002", choice="right")
    append(file, again)
    assert read_answers(file, TRIALS, SCALES)["t0002"] == again
    assert len(file.read_bytes().splitlines()) == 4  # nothing is ever removed
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("torn", [b'{"trial": "t00', b"x" * 9000])
def test_a_torn_line_is_lost_alone(tmp_path, torn):
    file = tmp_path / "reader-1.jsonl"
    append(file, RATED)
    with file.open("ab") as stream:
        stream.write(torn)
    assert read_answers(file, TRIALS, SCALES) == {"t0001": RATED}
    append(file, LEFT)
    assert read_answers(file, TRIALS, SCALES) == {"t0001": RATED, "t0002": LEFT}


def test_a_file_that_is_a_torn_line_only_starts_over(tmp_path):
    file = tmp_path / "reader-1.jsonl"
    file.write_bytes(b'{"tri')
    append(file, RATED)
    assert read_answers(file, TRIALS, SCALES) == {"t0001": RATED}
    assert read_answers(tmp_path / "absent.jsonl", TRIALS, SCALES) == {}


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "reader-1.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|loop"):
        append(tmp_path / "reader-1.jsonl", RATED)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "line",
    [
        "[]", "{", '{"trial": "t0009", "choice": "left"}', '{"trial": "../x", "choice": "left"}',
        '{"trial": "t0002", "choice": "middle"}', '{"trial": "t0002"}',
        '{"trial": "t0001", "choice": "left"}', '{"trial": "t0001", "levels": {"look": 3}}',
        '{"trial": "t0001", "levels": {"look": 1, "more": 1}}',
        '{"trial": "t0001", "levels": {}}', '{"trial": "t0002", "choice": "left", "seconds": -1}',
        json.dumps({"trial": "t0002", "choice": "left", "comment": "x" * 2001}),
    ],
)  # fmt: skip
def test_a_line_that_answers_nothing_is_refused_by_its_number(tmp_path, line):
    file = tmp_path / "reader-1.jsonl"
    append(file, RATED)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    with pytest.raises(UsageError, match=r"reader-1\.jsonl, line 2"):
        read_answers(file, TRIALS, SCALES)


def test_an_answer_to_another_trial_is_none():
    with pytest.raises(UsageError, match="asked was t0001"):
        check_answer(LEFT, TRIALS["t0001"], SCALES)
