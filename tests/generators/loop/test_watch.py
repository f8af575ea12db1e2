"""Validation losses, previews and scores during training."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.runs.folder import Run
from synthbench.training import training
from tests.generators.loop.short_runs import losses, rows, same_weights, stop_after, train

pytestmark = pytest.mark.slow


def test_watching_changes_nothing_and_is_written_down(make_cohort, tmp_path):
    """5 volumes, 12 steps: epochs end in steps 5 and 10; a last look comes after step 12."""
    real, held_out = make_cohort("real", n=5), make_cohort("held", n=3, seed=7, subject="held")
    train(real, tmp_path / "plain")
    train(
        real, tmp_path / "watched", "validate_every=1", "preview_every=2", "previews=2",
        "score_every=1", "score_volumes=4", "score_extractor=voxels", validation=held_out,
    )  # fmt: skip
    assert losses(tmp_path / "watched") == losses(tmp_path / "plain")
    validation = rows(tmp_path / "watched" / "validation.csv")
    assert list(validation["step"]) == [5, 10, 12]
    assert validation["epoch"] == pytest.approx([1, 2, 2.4])
    bands = [name for name in validation if "%" in name]
    assert len(bands) == 5
    assert all(np.isfinite(validation[band]).all() for band in bands)
    assert [p.name for p in (tmp_path / "watched" / "previews").iterdir()] == ["step-00000010.png"]
    scores = rows(tmp_path / "watched" / "scores.csv")
    best = int(scores["step"][np.argmin(scores["score"])])
    record = Run.open(tmp_path / "watched").record
    assert record["weights_step"] == best
    assert record["best_score"] == pytest.approx(scores["score"].min())
    assert record["validation"]["n"] == 3
    assert same_weights(tmp_path / "watched", tmp_path / "plain") == (best == 12)


def test_a_watched_run_resumes_to_the_same_rows(make_cohort, tmp_path):
    real, held_out = make_cohort("real", n=5), make_cohort("held", n=3, seed=7, subject="held")
    options = ("validate_every=1", "score_every=1", "score_volumes=2", "score_extractor=voxels")
    train(real, tmp_path / "whole", *options, validation=held_out)
    with pytest.raises(KeyboardInterrupt):
        train(real, tmp_path / "run", *options, validation=held_out, progress=stop_after(11))
    training.train(out=tmp_path / "run", resume=True)
    for file in ("validation.csv", "scores.csv"):
        assert (tmp_path / "run" / file).read_text(encoding="utf-8") == (
            tmp_path / "whole" / file
        ).read_text(encoding="utf-8")
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_the_best_scored_weights_become_the_runs(make_cohort, tmp_path, monkeypatch):
    """Scores are handed in: with 3, 1, 2 the weights of the second look, step 10, are kept."""
    from synthbench.training import monitor

    values = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(monitor.Scorer, "__call__", lambda self, volumes: {"it": next(values)})
    real, held_out = make_cohort("real", n=5), make_cohort("held", n=3, seed=7, subject="held")
    train(
        real, tmp_path / "run", "score_every=1", "score_volumes=2", "score_extractor=voxels",
        validation=held_out,
    )  # fmt: skip
    train(real, tmp_path / "ten", "steps=10")
    assert Run.open(tmp_path / "run").record["weights_step"] == 10
    assert same_weights(tmp_path / "run", tmp_path / "ten")
