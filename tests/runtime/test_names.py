"""Ids from tables become names of files, or are refused by name: none leaves its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthbench.cohorts.datasets.scans import Scan
from synthbench.errors import CohortError, UsageError
from synthbench.runtime.names import entity
from synthbench.scoring.benchmark import check_new
from tests.hostile.poison import POISON

ESCAPES = (
    "../../escaped", "/tmp/absolute", "..", ".", "", "sub-", "sub-../x", "sub-/etc", "a/b", "a\\b",
    "..\\..\\x", "C:\\x", "a\0b", "a b", "~", "~root", "$HOME", "-rf", ".hidden", "a.b", "a_b",
    "é", "１", "x" * 65, "sub-sub-1", "CON.txt", *POISON,
)  # fmt: skip


@pytest.mark.parametrize("text", ESCAPES)
@pytest.mark.parametrize("field", ["participant_id", "session", "run"])
def test_an_id_that_is_no_label_is_refused_by_name(text, field, tmp_path):
    pytest.importorskip("SimpleITK")
    from synthbench.cohorts.preparation.derivative import Destination

    ids = {"participant_id": "sub-01", "session": "ses-1", "run": "1", field: text}
    if not text and field != "participant_id":
        assert Destination.of(Scan(Path("x.nii"), **ids), tmp_path).folder.is_relative_to(tmp_path)
        return
    with pytest.raises(CohortError) as refused:
        Destination.of(Scan(Path("x.nii"), **ids), tmp_path)
    assert repr(text) in str(refused.value)


def test_labels_are_kept():
    assert entity("sub", "01", "participant") == entity("sub", "sub-01", "participant") == "sub-01"
    assert entity("run", "run-2", "run") == "run-2"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "",
        "a/b",
        "/a",
        "../a",
        "a\n",
        "\x1b[31m",
        "\u202e",
        "CON",
        "nul.x",
        "b ",
        "b.",
        "..\\x",
        "~x",
        "-x",
        "e\u0301",
        "n" * 65,
    ],
)
def test_the_name_of_a_benchmark_is_one_folder(name, tmp_path):
    with pytest.raises(UsageError):
        check_new(name, tmp_path)
