"""A small part of `make chaos`: commands that are killed and repeated end as undisturbed ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.kills import CASES, QUICK


@pytest.mark.slow
def test_what_is_killed_and_repeated_ends_as_if_undisturbed():
    """In a process of its own: `test_kill.py` has another server of forked processes."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos.kills", "--quick"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for name, kills in QUICK.items():
        (row,) = [line for line in ran.stdout.splitlines() if line.startswith(f"| {name} |")]
        assert [cell.strip() for cell in row.split("|")][3:6:2] == [str(kills), "yes"]


def test_all_kills_are_a_hundred():
    assert sum(case.kills for case in CASES.values()) == 100
