"""Checkpoints: damage, contents, and how many stay."""

from __future__ import annotations

import json

import pytest

from synthbench.training import training
from tests.generators.loop.short_runs import interrupted, same_weights, train

pytestmark = pytest.mark.slow


def test_a_damaged_checkpoint_falls_back_to_the_one_before(make_cohort, tmp_path, caplog):
    real = make_cohort("real", n=5)
    train(real, tmp_path / "whole")
    interrupted(real, tmp_path / "run", 7)
    newest = tmp_path / "run" / "checkpoints" / "step-00000006"
    file = newest / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    training.train(out=tmp_path / "run", resume=True)
    assert "step-00000006 is damaged" in caplog.text
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_checkpoints_hold_no_pickle_and_old_ones_go(make_cohort, tmp_path):
    train(make_cohort("real", n=3), tmp_path / "run")
    folders = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert folders == ["step-00000009", "step-00000012"]
    files = {p.name for p in (tmp_path / "run" / "checkpoints" / folders[1]).iterdir()}
    assert files == {
        "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json",
    }  # fmt: skip
    state = json.loads(
        (tmp_path / "run" / "checkpoints" / folders[1] / "state.json").read_text(encoding="utf-8")
    )
    assert state["step"] == 12
