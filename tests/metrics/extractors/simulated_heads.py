"""Simulated heads, which the tests of tissues and of anatomy share."""

from __future__ import annotations

import numpy as np

from synthbench.metrics.extractors.tissue import MNI152_2MM
from synthbench.simulation.deformation import box_affine
from synthbench.simulation.subject import Subject, draw
from synthbench.volumes.grid import Space, resample

SHAPE = (48, 56, 48)
SPACE = Space.of(SHAPE, box_affine(SHAPE))


def subject(index: int) -> Subject:
    """Return a simulated subject, with the truth of its volumes in mm^3."""
    return draw(7, index, SHAPE)


def on_mni152(volume: np.ndarray) -> np.ndarray:
    """Return a simulated volume on the grid of the extractor."""
    return resample(volume, SPACE, MNI152_2MM)
