"""Keys of rows."""

from __future__ import annotations

import pytest

from synthbench.records.keys import JobKey


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("ms_ssim", JobKey("ms_ssim")),
        ("ms_ssim.synth", JobKey("ms_ssim", "synth")),
        ("fid | qiu2022", JobKey("fid", None, "qiu2022")),
        ("kid.part | net-1.5 | b", JobKey("kid", "part", "net-1.5 | b")),
    ],
)
def test_a_key_survives_its_text(text, key):
    """Names of metrics hold no dot and no bar; those of extractors may."""
    assert JobKey.parse(text) == key
    assert str(key) == text


def test_a_row_names_its_metric_and_what_it_is_taken_from():
    key = JobKey.parse("kid.part", "net")
    assert (key.row, str(key.job), key.source) == ("kid.part", "kid | net", "net")
    assert JobKey("intensity").source == "intensity"
