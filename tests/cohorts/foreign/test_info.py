"""`data info` of a folder that another program wrote."""

from __future__ import annotations

import numpy as np

from tests.command_line import run


def test_all_that_is_wrong_is_one_message_with_the_command(tmp_path):
    (tmp_path / "gan").mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        np.save(tmp_path / "gan" / f"{i}.npy", rng.uniform(-1, 1, (12, 14, 12)).astype("f4"))
    found = run("data", "info", tmp_path / "gan")
    assert found.returncode == 1
    assert found.stderr.count("all 5 files:") == 2
    assert "all 5 files: values below zero, from -" in found.stderr
    command = f"synthbench import {tmp_path / 'gan'} --like REAL --range -1:1 --orientation RAS"
    assert command in found.stderr
