"""Preparation of whole-head T1-weighted scans, for training and evaluation.

`prepare` takes a downloaded cohort and writes a BIDS derivative: brains without skull,
in MNI152 space, on one grid, with intensities in [0, 1]. `prepare_scan` does the same for one
image in memory. Both need the extra: ``pip install 'synthbench[prepare]'``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# SimpleITK and dipy are an extra: nothing that needs them is imported before it is used.
_EXPORTS = {
    "Image": "synthbench.cohorts.preparation.image",
    "PreparedScan": "synthbench.cohorts.preparation.pipeline",
    "Settings": "synthbench.cohorts.preparation.settings",
    "prepare": "synthbench.cohorts.preparation.cohort",
    "prepare_scan": "synthbench.cohorts.preparation.pipeline",
    "read_image": "synthbench.cohorts.preparation.image",
}

__all__ = [
    "Image",
    "PreparedScan",
    "Settings",
    "prepare",
    "prepare_scan",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'synthbench.cohorts.preparation' has no attribute {name!r}")
