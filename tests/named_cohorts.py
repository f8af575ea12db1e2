"""Cohorts of entries alone: names, subjects and covariates, and no volume behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthbench.cohorts.cohort import Cohort, Entry
from synthbench.volumes.grid import Space

GRID = Space.of((2, 2, 2), np.eye(4))


def named_cohort(
    names: Sequence[str],
    covariates: Mapping[str, Sequence[Any]] | None = None,
    *,
    subjects: Sequence[str] | None = None,
    folder: Path = Path(),
) -> Cohort:
    """Return a cohort of volumes that are names; covariates have one value a subject."""
    owners = list(subjects or [name.partition(".")[0] for name in names])
    table = pd.DataFrame(dict(covariates or {}), index=list(dict.fromkeys(owners)))
    entries = tuple(
        Entry(folder / name, name, subject, f"{i:064d}")
        for i, (name, subject) in enumerate(zip(names, owners, strict=True))
    )
    return Cohort(entries, GRID, GRID, table if covariates else pd.DataFrame())
