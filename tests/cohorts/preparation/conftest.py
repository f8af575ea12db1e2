from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.pipeline import PreparedScan, prepare_scan
from synthbench.cohorts.preparation.template import template_t1
from synthbench.simulation.subject import draw
from synthbench.volumes.grid import Space
from tests.cohorts.preparation.heads import COARSE, SPACING, Head, scanned, turned


@pytest.fixture(scope="session")
def template_head() -> Head:
    """The template itself, larger by 5% to the right and lying turned in the scanner."""
    template = template_t1()
    grid = template.space.regrid(spacing=SPACING)
    pose = turned(12, 4, -6, (10, -20, 30)) @ np.diag([1.05, 1.0, 1.0, 1.0])
    return scanned(Image(0.8 * template.on(grid), grid), pose)


@pytest.fixture(scope="session")
def person() -> Head:
    """An atlas subject, whose anatomy is not the template's."""
    subject = draw(3, 0, (60, 72, 60))
    brain = Image(subject.volume, Space.of(subject.volume.shape, subject.affine))
    return scanned(brain, turned(-10, 3, 5, (-8, 15, -20)), seed=1)


@pytest.fixture(scope="session")
def prepared_person(person: Head) -> PreparedScan:
    return prepare_scan(person.scan, COARSE)
