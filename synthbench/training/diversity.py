"""The check for a collapse during training, as a function that a generator gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float64

from synthbench.cohorts.cohort import Volumes, majority_mask
from synthbench.errors import CohortError, MetricError
from synthbench.metrics.similarity.collapse import Diversity, diversity
from synthbench.metrics.similarity.msssim_pairs import pair_matrix
from synthbench.metrics.similarity.settings import (
    PRESETS,
    Settings,
    first_weights,
    scales_that_fit,
)
from synthbench.metrics.similarity.volumes import Tensors, device_of
from synthbench.runtime.callbacks import Log
from synthbench.volumes.sets import Volume


class DiversityCheck:
    """Compares the diversity of sampled volumes with that of training volumes, by MS-SSIM.

    Parameters
    ----------
    volumes
        The training volumes. At most `most` of them, of different subjects, are compared.
    most
        Number of training volumes to use; that of the samples makes both sides equally certain.
    log
        Called with the reason where nothing can be compared.
    """

    def __init__(self, volumes: Volumes, most: int, log: Log) -> None:
        self.volumes, self.most, self.log = volumes, most, log

    def __call__(self, volumes: Sequence[Volume]) -> Diversity | None:
        """Return the comparison, or None where the grid or the volumes allow none."""
        try:
            mask, settings, real = self._reference
            return diversity(self._similarities(volumes, mask, settings), real)
        except (MetricError, CohortError) as error:
            self.log(f"the samples could not be checked for a collapse: {error}")
            return None

    @cached_property
    def _reference(self) -> tuple[Bool[np.ndarray, "d h w"], Settings, Float64[np.ndarray, "n n"]]:
        """The mask, the settings of MS-SSIM, and the similarities of the training volumes."""
        first_of_subject: dict[str, int] = {}
        for place, entry in enumerate(self.volumes.cohort.entries):
            first_of_subject.setdefault(entry.subject, place)
        places = list(first_of_subject.values())
        spaced = np.linspace(0, len(places) - 1, min(self.most, len(places)))
        real = [self.volumes[places[i]] for i in spaced.round().astype(int)]
        shape, default = self.volumes.space.shape, PRESETS["default"]
        fit = min(scales_that_fit(shape, default), default.scales)
        # Without a scale that fits, the smallest side is named by the error of the measurement.
        settings = replace(default, weights=first_weights(max(1, fit)))
        mask = majority_mask(self.volumes)
        return mask, settings, self._similarities(real, mask, settings)

    @staticmethod
    def _similarities(
        volumes: Sequence[Volume], mask: Bool[np.ndarray, "d h w"], settings: Settings
    ) -> Float64[np.ndarray, "n n"]:
        tensors = Tensors(volumes, device_of())
        return pair_matrix(tensors, mask=torch.from_numpy(mask), settings=settings)
