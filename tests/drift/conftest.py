"""Real and synthetic volumes that tests of drift score once."""

from __future__ import annotations

import shutil

import pytest

from synthbench.scoring import scoring
from tests.conftest import blob
from tests.drift.cards import EXTRACTOR, METRICS
from tests.scoring.test_scoring import save


def scored(root, real="real", synth="synth"):
    return scoring.score(
        root / real, root / synth, extractors=[EXTRACTOR], metrics=METRICS, resamples=100
    )


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Eight real and six synthetic volumes, and copies of which one volume is another."""
    root = tmp_path_factory.mktemp("cohorts")
    for role, n, width in (("real", 8, 1.0), ("synth", 6, 0.9)):
        (root / role).mkdir()
        for i in range(n):
            save(blob(1000 * len(role) + i, width=width), root / role / f"{role}-{i}.nii.gz")
    for name, role, volume in (
        ("real-one-other", "real", blob(77)),
        ("synth-one-other", "synth", blob(77, width=0.9)),
        ("synth-one-flipped", "synth", blob(5000, width=0.9)[::-1]),
    ):
        shutil.copytree(root / role, root / name)
        save(volume, root / name / f"{role}-0.nii.gz")
    return root


@pytest.fixture(scope="session")
def card(root):
    return scored(root)
