"""`--max-memory`: the limit holds for the verb that it was typed for, and for no later one."""

from __future__ import annotations

import os

import pytest

from synthbench.runtime.memory import VARIABLE
from tests.command_line import run


def test_a_limit_is_set_for_one_verb(make_cohort, monkeypatch):
    """24 x 24 x 24 floats: reading one takes 52 bytes per voxel, 0.7 MiB."""
    monkeypatch.delenv(VARIABLE, raising=False)
    folder = make_cohort("real", n=3)
    refused = run("data", "info", folder, "--max-memory", "500KiB")
    assert refused.returncode != 0
    assert "sub-000.nii.gz, sub-001.nii.gz, sub-002.nii.gz" in refused.stdout + refused.stderr
    assert "--max-memory" in refused.stdout + refused.stderr
    assert VARIABLE not in os.environ
    assert "max-memory" not in run("data", "info", folder, "--max-memory", "1MiB").stderr


@pytest.mark.parametrize("size", ["4 potatoes", "-1", "0"])
def test_what_is_no_amount_is_refused(size, make_cohort):
    found = run("data", "info", make_cohort("real", n=1), "--max-memory", size)
    assert found.returncode == 2
    assert "--max-memory" in found.stderr
