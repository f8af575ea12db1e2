"""A quick part of the campaigns: the same cases each time. `make fuzz` runs more."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import campaign
from tests.fuzz.parsers import parsers

CASES = 12


@pytest.mark.parametrize("parser", parsers(), ids=lambda parser: parser.name)
def test_a_damaged_file_is_read_or_refused_by_name(parser, tmp_path):
    """No traceback, no hang, no memory above the limit, and nothing written elsewhere."""
    tally = campaign(parser, tmp_path, CASES)
    assert list(tally.faults.values()) == []
    assert tally.cases == CASES
