"""Training samples of `dit-tiles`: composites and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from synthbench.generators.contracts import Source
from synthbench.generators.generator import Progress
from synthbench.generators.tiles.pictures import Pixels


class TiledVolumes:
    """A source of composites in [-1, 1] and their labels.

    Parameters
    ----------
    volumes
        A source of volumes.
    pixels
        Turns volumes into composites.
    labels
        One row per volume; rows without a column are not passed on.
    none, dropout
        The label of no label, and the probability that it takes the place of a volume's own (Ho
        and Salimans 2022, arXiv 2207.12598, algorithm 1).
    """

    def __init__(
        self,
        volumes: Source,
        pixels: Pixels,
        labels: Float32[np.ndarray, "n k"],
        none: int,
        dropout: float = 0.0,
    ) -> None:
        self.volumes, self.pixels = volumes, pixels
        self.labels, self.none, self.dropout = labels, none, dropout

    def __len__(self) -> int:
        return len(self.volumes)

    def opened(self, progress: Progress | None) -> AbstractContextManager[object]:
        """Prepare the volumes."""
        return self.volumes.opened(progress)

    def batch(self, items: Sequence[int], draws: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Return these composites, and their labels where there are any."""
        (volumes,) = self.volumes.batch(items, draws)
        clean = self.pixels.encode(volumes)
        if not self.labels.shape[1]:
            return (clean,)
        labels = torch.from_numpy(self.labels[list(items)])
        for label, generator in zip(labels, draws, strict=True):
            # Drawn for every sample, so that another share does not move its other draws.
            if float(torch.rand((), generator=generator)) < self.dropout:
                label.fill_(self.none)
        return clean, labels
