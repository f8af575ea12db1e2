"""synthbench: how good are these synthetic 3-D brain MRI, and how sure are we?"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public names and where they live; nothing heavy is imported until one is used.
_EXPORTS = {
    "Cohort": "synthbench.cohorts.cohort",
    "CohortSet": "synthbench.scoring.inputs",
    "Context": "synthbench.scoring.settings",
    "Scorecard": "synthbench.records.scorecard",
    "ScoringSettings": "synthbench.scoring.settings",
    "Space": "synthbench.volumes.grid",
    "read_cohort": "synthbench.cohorts.reading",
    "render_leaderboard": "synthbench.leaderboard.page",
    "sample": "synthbench.sampling.sampling",
    "score": "synthbench.scoring.scoring",
    "score_cohorts": "synthbench.scoring.scoring",
    "train": "synthbench.training.training",
}

# Modules that are written with the package's name: `synthbench.metrics.fid(X, Y)`.
_MODULES = ("errors", "metrics", "registry", "testing")

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    if name in _MODULES:
        return import_module(f"synthbench.{name}")
    raise AttributeError(f"module 'synthbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
