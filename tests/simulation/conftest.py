"""A small subject and a small cohort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from synthbench.simulation import cohort as cohort_module
from synthbench.simulation import subject as subject_module
from tests.simulation.small import SHAPE


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Volumes this small draw faster on one thread, above all where tests run in parallel."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def subject() -> subject_module.Subject:
    return subject_module.draw(3, 1, SHAPE)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_module.atlas_cohort(2, tmp_path_factory.mktemp("atlas") / "cohort", 3, SHAPE)
