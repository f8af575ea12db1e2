"""A record as tables."""

from __future__ import annotations

import pytest

from synthbench.utility.table import utility_table

pytestmark = pytest.mark.slow


def test_the_table_says_what_a_person_needs(record):
    from rich.console import Console

    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(utility_table(record))
    text = captured.get()
    for words in ("trained on", "real + synthetic minus real", "the verdict's variance",
                  record.summary.sentence):  # fmt: skip
        assert words in text
