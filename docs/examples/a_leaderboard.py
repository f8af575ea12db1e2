"""
A leaderboard in a folder
=========================

A benchmark freezes all that can change a number. Scorecards under it can be ranked, and the page
is written from them.
"""

import tempfile
from pathlib import Path

import synthbench
from synthbench.leaderboard.page import write_leaderboard
from synthbench.scoring.freeze import freeze
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(16, work / "training", seed=1, shape=(24, 28, 24))
atlas_cohort(16, work / "real", seed=2, shape=(24, 28, 24))
settings = synthbench.ScoringSettings(
    extractors=("random-resnet10",), metrics=("kid", "coverage", "spectrum"), resamples=200
)

# %%
# Freeze it on the real cohort. Only aggregates of the cohort are stored.
board = work / "board"
frozen = freeze(work / "real", "example", settings, n_synth=12, primary="kid")
frozen.save(board)

# %%
# Two entries.
for name in ("pca-gaussian", "mixup"):
    run = synthbench.train(name, real=work / "training", out=work / "runs" / name)
    synthbench.sample(run, 12, work / name)
    card = synthbench.score(work / "real", work / name, benchmark=frozen)
    (board / "entries").mkdir(exist_ok=True)
    card.save(board / "entries" / f"{name}.json")

# %%
# The page is Markdown, so a repository shows it.
page = write_leaderboard(board).read_text(encoding="utf-8")
print("\n".join(line for line in page.splitlines() if line.startswith("|"))[:1200])
