"""Three cohorts of spheres, and the record of a study of them."""

from __future__ import annotations

import pytest

from synthbench.utility.study import utility
from tests.utility.spheres import COMMON, write


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    return {
        "real": write(root / "real", 12, 1),
        "synth": write(root / "synth", 14, 2, "conditions.tsv"),
        "test": write(root / "test", 16, 3),
    }


@pytest.fixture(scope="session")
def record(folders):
    return utility(
        folders["real"], folders["synth"], folders["test"], "sex", ratios=(0.5, 1, 5), **COMMON
    )
