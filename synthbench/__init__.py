"""synthbench: how good are these synthetic 3-D brain MRI, and how sure are we?"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public names and where they live; nothing heavy is imported until one is used.
_EXPORTS = {
    "Cohort": "synthbench.cohort",
    "CohortSet": "synthbench.scoring_inputs",
    "Context": "synthbench.scoring_settings",
    "Scorecard": "synthbench.scorecard",
    "ScoringSettings": "synthbench.scoring_settings",
    "Space": "synthbench.space",
    "read_cohort": "synthbench.cohort",
    "render_leaderboard": "synthbench.leaderboard",
    "sample": "synthbench.sampling",
    "score": "synthbench.scoring",
    "score_cohorts": "synthbench.scoring",
    "train": "synthbench.training",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'synthbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
