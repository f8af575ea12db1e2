"""The command of the coverage study: its file and its exit status."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


def test_run_skips_cells_that_are_done(study, tiny_cell, tmp_path, capsys):
    path = tmp_path / "coverage.jsonl"
    null = tiny_cell(regime="null", metrics=("ms_ssim",), permutations=19)
    shifted = tiny_cell(metrics=("ms_ssim",))
    study.run([null], path, reps=3, seed=0)
    before = path.read_text(encoding="utf-8")
    study.run([null, shifted], path, reps=3, seed=0)
    assert path.read_text(encoding="utf-8").startswith(before)
    assert len(study.read_records(path)) == len(path.read_text(encoding="utf-8").splitlines()) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(SystemExit, match="other settings"):
        study.run([null], path, reps=4, seed=0)


def test_command_exits_1_where_an_interval_undercovers(study, cells, tiny_cell, tmp_path, capsys):
    """A record with 90% of 2,000 covered fails; the page that is rendered says so."""
    cell = next(cells.cells([30]))
    record = cells.run_cell(tiny_cell(n=30, rank=2, regime="null"), 4, 0)
    good = {**record["intervals"]["mmd2"], "covered": 1900, "reps": 2000}
    path, page = tmp_path / "coverage.jsonl", tmp_path / "coverage.md"
    arguments = ["--n", "30", "--out", str(path), "--report", str(page)]
    for covered, status in ((1900, 0), (1800, 1)):
        intervals = {"mmd2": {**good, "covered": covered}}
        path.write_text(
            json.dumps({**record, "name": cell.name, "intervals": intervals}) + "\n",
            encoding="utf-8",
        )
        assert study.main(arguments) == status
    assert "n=30 r=2 null: mmd2 covers 90.0%" in capsys.readouterr().out
    assert "**The gate fails:**" in page.read_text(encoding="utf-8")
    assert "| 30 | 2 | null | 2000 |" in page.read_text(encoding="utf-8")
