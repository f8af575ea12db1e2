"""The check for a collapse on volumes: a constant generator is found, healthy samples are not."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.training.diversity import DiversityCheck
from tests.conftest import blob

GRID = (12, 13, 12)


@pytest.fixture
def check(make_cohort):
    messages: list[str] = []
    volumes = read_cohort(make_cohort("real", n=8, shape=GRID)).volumes()
    return DiversityCheck(volumes, 6, messages.append), messages


def blobs(seeds):
    return [blob(seed, GRID) for seed in seeds]


def test_samples_that_differ_as_real_volumes_do_are_healthy(check):
    found = check[0](blobs(range(500, 508)))
    assert (found.volumes, found.real_volumes) == (8, 6)
    assert 0.7 < found.diversity < 1.4
    assert not found.collapsed


@pytest.mark.parametrize(
    "samples",
    [
        blobs([7] * 6),
        [np.zeros(GRID, np.float32)] * 6,
        [0.98 * v + 0.02 * b for v, b in zip(blobs([7] * 6), blobs(range(6)), strict=True)],
        blobs([1, 2, 3] * 3),
    ],
    ids=["one", "nothing", "nearly one", "three"],
)
def test_a_collapse_is_found(check, samples):
    assert check[0](samples).collapsed


@pytest.mark.parametrize(("shape", "words"), [((8, 8, 8), "voxels per side"), (GRID, "NaN")])
def test_what_cannot_be_checked_is_said(make_cohort, shape, words):
    messages: list[str] = []
    volumes = read_cohort(make_cohort("small", n=4, shape=shape)).volumes()
    samples = [np.full(shape, np.nan, np.float32)] * 4
    assert DiversityCheck(volumes, 4, messages.append)(samples) is None
    assert words in messages[0]
