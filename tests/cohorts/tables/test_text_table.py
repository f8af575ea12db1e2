"""Text tables: encodings, separators, and what is refused."""

from __future__ import annotations

import pytest

from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.errors import CohortError

TEXT = "participant_id\tsite\n01\tKöln\n02\tParis\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "t.tsv").write_bytes(TEXT.encode(encoding))
    table = read_text_table(tmp_path / "t.tsv")
    assert table.cells["site"].tolist() == ["Köln", "Paris"]
    assert bool(table.notes) == (encoding == "latin-1")


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_separators_are_recognised_whatever_the_name_says(tmp_path, separator, name):
    (tmp_path / name).write_text(TEXT.replace("\t", separator), encoding="utf-8")
    table = read_text_table(tmp_path / name)
    assert list(table.cells) == ["participant_id", "site"]
    assert bool(table.notes) == (name == "t.tsv" and separator != "\t")


def test_quoted_cells_and_a_decimal_comma_between_semicolons(tmp_path):
    (tmp_path / "t.csv").write_text('id;"age, years";note\n1;20,5;"a;b"\n', encoding="utf-8")
    table = read_text_table(tmp_path / "t.csv")
    assert table.cells.iloc[0].tolist() == ["1", "20,5", "a;b"]


def test_a_header_in_capitals_gets_the_name_that_is_needed(tmp_path):
    (tmp_path / "t.csv").write_text("Participant ID,age\n1,2\n", encoding="utf-8")
    assert "participant_id" in read_text_table(tmp_path / "t.csv", ["participant_id"]).cells


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,age,age\n1,2,3\n", "names a column twice: age"),
        (b"id,age\n1,20,5\n", "line 2 has 3 cells, but the header has 2"),
        (b"id\tage\n1 20\n", "line 2 has 1 cells"),
        (b"PK\x03\x04abc", "workbook"),
        ("id,age\n".encode("utf-16-le"), "UTF-16"),
        (b"", "is empty"),
    ],
    ids=["twice", "decimal comma", "a space for a tab", "Excel", "no mark", "empty"],
)
def test_what_cannot_be_read_for_certain_is_refused(tmp_path, content, words):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(CohortError, match=words):
        read_text_table(tmp_path / "t.csv")
