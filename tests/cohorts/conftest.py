"""A cohort with scans of several subjects."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.fixture
def cohort(make_cohort, tmp_path):
    """Twelve volumes of eight subjects, four of whom have two scans."""
    make_cohort("c", n=12)
    owners = [f"p{i % 8}" for i in range(12)]
    table = pd.DataFrame(
        {"path": [f"c/sub-{i:03d}.nii.gz" for i in range(12)], "participant_id": owners,
         "age": [20 + i % 8 for i in range(12)]}
    )  # fmt: skip
    table.to_csv(tmp_path / "m.csv", index=False)
    return tmp_path / "m.csv"
