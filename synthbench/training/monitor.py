"""Scores and previews during training, as functions that a generator gets.

Generators import no metrics, so these functions are made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohorts.cohort import Volumes, majority_mask
from synthbench.errors import MetricError, WeightsError
from synthbench.metrics import kid
from synthbench.records.protocol import BackgroundRecord
from synthbench.render.montage import montage
from synthbench.runtime.callbacks import Log
from synthbench.scoring.features import extract, load_extractors
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Cleaned, Drawn, Readable, Volume


class Scorer:
    """Scores sampled volumes by their kernel distance to the validation volumes.

    As in a scoring, the extractor does not see faint noise in the background.

    Parameters
    ----------
    validation
        Volumes that are not trained on.
    extractor
        Name of the extractor; one without weights is the fastest.
    log
        Called with the reason where volumes cannot be scored; their distance is then infinite.

    Raises
    ------
    WeightsError
        The extractor's weights are missing.
    UsageError
        There is no such extractor.
    """

    def __init__(self, validation: Volumes, extractor: str, log: Log) -> None:
        extractors = load_extractors([extractor], log)
        for reason in extractors.missing.values():
            raise WeightsError(f"score_extractor: {extractor}: {reason}")
        self.name, self.extractor = next(iter(extractors.loaded.items()))
        self.space, self.log = validation.space, log
        mask = majority_mask(validation)
        self.threshold = BackgroundRecord().threshold(mask, validation.space)
        self.real = self._features(validation)

    def __call__(self, volumes: Sequence[Volume]) -> Mapping[str, float]:
        """Return the unbiased kernel distance (KID; Binkowski et al. 2018), lower is better."""
        try:
            value = kid(self.real, self._features(Drawn(self.space, volumes)))
        except MetricError as error:
            # Volumes of an untrained network may have no features: the worst score, not an error.
            self.log(f"volumes sampled during training could not be scored: {error}")
            value = math.inf
        return {f"kid {self.name}": value}

    def _features(self, volumes: Readable) -> Any:
        return extract(self.extractor, Cleaned(volumes, self.threshold)).astype(np.float64)


def previewer(generator: str, space: Space) -> Callable[[Sequence[Volume], Path], None]:
    """Return a function that writes a montage of sampled volumes into a file."""

    def write(volumes: Sequence[Volume], file: Path) -> None:
        label = f"{generator}: synthetic, seeds 0 to {len(volumes) - 1}, {file.stem}"
        montage({label: volumes}, space, file)

    return write
