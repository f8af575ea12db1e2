from __future__ import annotations

import re

import pytest

from synthbench.cli.demo import run_demo
from synthbench.errors import UsageError

pytestmark = pytest.mark.slow


def test_the_demo_tells_the_whole_story(tmp_path, monkeypatch):
    """A smaller one than users run, on the same path: four generators, a leaderboard, a picture."""
    monkeypatch.setattr("synthbench.cli.demo.SUBJECTS", 6)
    monkeypatch.setattr("synthbench.cli.demo.VOLUMES", 5)
    # MS-SSIM needs 44 voxels per side.
    fewer = ("mmd2", "fid", "coverage", "spectrum", "memorization")
    monkeypatch.setattr("synthbench.cli.demo.METRICS", fewer)
    small = ["warmup_steps=0", "sampler_steps=2"]
    said: list[str] = []
    tables = run_demo(
        tmp_path / "demo", steps=2, shape=(24, 24, 24), overrides=small, log=said.append
    )
    assert len(tables) == 4
    page = (tmp_path / "demo" / "leaderboard" / "README.md").read_text(encoding="utf-8")
    for generator in ("ddpm3d", "pca-gaussian", "memorizer", "noise"):
        assert re.search(rf"^\| \d+\. {generator} \|", page, re.MULTILINE)
    assert "Ranks and ties need the images" not in page
    assert "nearer to training than to unseen images" in page
    assert "not assessed" not in page
    assert (tmp_path / "demo" / "montage.png").stat().st_size > 1000
    assert str(tmp_path / "demo" / "montage.png") in said[-1]
    with pytest.raises(UsageError, match="not empty"):
        run_demo(tmp_path / "demo")
