"""What watches a training: validation losses, scores and previews, handed to the generator.

Generators import no metrics; the callables that they get are made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import MetricError, WeightsError
from synthbench.metrics import kid
from synthbench.render.montage import montage
from synthbench.runtime.callbacks import Log
from synthbench.scoring.features import extract, load_extractors
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Drawn, Readable, Volume


class Scorer:
    """Kernel distance of drawn volumes to the validation volumes, on a cheap extractor.

    Parameters
    ----------
    validation
        Volumes that are not trained on.
    extractor
        Its name; one that needs no weights is quickest.
    log
        Called with why volumes could not be scored; their distance is then infinite.

    Raises
    ------
    WeightsError
        The extractor's weights are not there.
    UsageError
        There is no such extractor.
    """

    def __init__(self, validation: Volumes, extractor: str, log: Log) -> None:
        found = load_extractors([extractor], log)
        for why in found.missing.values():
            raise WeightsError(f"score_extractor: {extractor}: {why}")
        self.name, self.extractor = next(iter(found.loaded.items()))
        self.space, self.log = validation.space, log
        self.real = self._features(validation)

    def __call__(self, volumes: Sequence[Volume]) -> Mapping[str, float]:
        """Return the unbiased kernel distance (KID; Binkowski et al. 2018), lower is better."""
        try:
            value = kid(self.real, self._features(Drawn(self.space, volumes)))
        except MetricError as error:
            # What an untrained network draws may be no image at all: that is its score.
            self.log(f"volumes drawn during training could not be scored: {error}")
            value = math.inf
        return {f"kid {self.name}": value}

    def _features(self, volumes: Readable) -> Any:
        return extract(self.extractor, volumes).astype(np.float64)


def previewer(generator: str, space: Space) -> Callable[[Sequence[Volume], Path], None]:
    """Return what writes a montage of a few drawn volumes."""

    def write(volumes: Sequence[Volume], file: Path) -> None:
        label = f"{generator}: synthetic, seeds 0 to {len(volumes) - 1}, {file.stem}"
        montage({label: volumes}, space, file)

    return write
