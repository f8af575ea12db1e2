"""Text, JSON and YAML from strangers: read whole, or refused with the name of the file."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import BaseModel

from synthbench.errors import RunError
from synthbench.runtime import documents
from synthbench.runtime.documents import (
    check_fields,
    json_fields,
    parse_json,
    parse_yaml,
    read_text,
    yaml_fields,
)

NAMED: dict[str, Any] = {"error": RunError, "fix": "Copy it again."}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"{", "is not valid JSON"),
        (b"[1, 2]", "holds a list"),
        (b"null", "holds nothing"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": "\\ud800"}', "half a character"),
        (b"1" * 5000, "is not valid JSON"),
    ],
)
def test_json_that_cannot_be_used_is_refused_by_name(tmp_path, content, reason):
    file = tmp_path / "run.json"
    file.write_bytes(content)
    with pytest.raises(RunError, match=rf"run\.json: .*{reason}.*Copy it again"):
        json_fields(file, **NAMED)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x 1\nb: *x\n", "an alias"),
        ("a: &x [*x]\n", "an alias"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: 2001-99-99\n", "month must be"),
        ("a: !!timestamp x\n", "is not valid YAML"),
        ("1: 2\n", "a name must be a text"),
        ("yes: 2\n", "a name must be a text"),
        ("a: 1\na: 2\n", "twice"),
        ("[" * 5000, "nested too deeply"),
        ("- a\n", "holds a list"),
        ("", "holds nothing"),
    ],
)
def test_yaml_that_cannot_be_used_is_refused_by_name(tmp_path, text, reason):
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=rf"(?s)config\.yaml: .*{reason}.*Copy it again"):
        yaml_fields(file, **NAMED)


def test_a_billion_laughs_take_no_time():
    """Nine levels of ten aliases stand for 10^9 texts."""
    levels = ["l0: &l0 [lol]"]
    levels += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    began = time.perf_counter()
    with pytest.raises(ValueError, match="alias"):
        parse_yaml("\n".join(levels))
    assert time.perf_counter() - began < 2


def test_what_yaml_can_say_without_aliases_is_read_as_the_safe_loader_reads_it():
    text = "a: [1, 2.5, true, null, x]\nb:\n  c: {d: -1}\n"
    assert parse_yaml(text) == {"a": [1, 2.5, True, None, "x"], "b": {"c": {"d": -1}}}


def test_yaml_of_too_many_values_is_refused(monkeypatch):
    monkeypatch.setattr(documents, "MAX_YAML_NODES", 5)
    with pytest.raises(ValueError, match="more than 5 values"):
        parse_yaml("[1, 2, 3, 4, 5]")


def test_a_text_that_is_too_large_is_not_read(tmp_path):
    file = tmp_path / "notes.md"
    file.write_bytes(b"x" * 11)
    assert read_text(file, **NAMED, most=11) == "x" * 11
    with pytest.raises(RunError, match=r"notes\.md: has more than 10 bytes"):
        read_text(file, **NAMED, most=10)


@pytest.mark.parametrize("name", ["absent.json", "a\0b.json"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name):
    with pytest.raises(RunError, match=r"\.json: .*Copy it again"):
        json_fields(tmp_path / name, **NAMED)


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_the_field_that_does_not_fit_is_named(tmp_path):
    class Inner(BaseModel):
        n: int

    class Outer(BaseModel):
        cohort: Inner

    with pytest.raises(RunError, match=r"run\.json: cohort\.n: .*integer.*Copy it again"):
        check_fields(Outer, {"cohort": {"n": "many"}}, tmp_path / "run.json", **NAMED)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1:1", "-1:1"), ("12:30:45.5", "12:30:45.5"), ("010", "010"), ("-07", "-07"),
        ("0", 0), ("12", 12), ("-3", -3), ("0.5", 0.5), ("-0.25", -0.25), ("1.0e-3", 0.001),
        ("1_000", 1000), ("0x1f", 31), (".5", 0.5), (".inf", float("inf")),
    ],
)  # fmt: skip
def test_numbers_of_yaml_are_those_that_a_reader_takes_them_for(text, value):
    """YAML 1.1 reads -1:1 as -61, in base 60, and 010 as 8."""
    assert parse_yaml(f"a: {text}") == {"a": value}
