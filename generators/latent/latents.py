"""Latents of training volumes, stored as mean and standard deviation, and a source of their draws.

With mean and sigma, each training sample is another draw of the autoencoder's posterior. A stored
draw would be the same sample again and again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import RunError
from synthbench.generators.generator import Progress
from synthbench.generators.loop.volume_cache import REMOVE, holds
from synthbench.runtime.arrays import read_npy
from synthbench.runtime.files import write_atomic
from synthbench.runtime.rows_file import RowsFile

_FLOOR = 1e-12
_LEAST_WEIGHT = 0.01


class Encoder(Protocol):
    """A trained autoencoder: maps volumes to latents."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return its parameters: volumes are brought to their device."""
        ...

    def encode(
        self, volumes: Float32[Tensor, "b 1 d h w"]
    ) -> tuple[Float32[Tensor, "b c d2 h2 w2"], Float32[Tensor, "b c d2 h2 w2"]]:
        """Return the mean and the standard deviation of the latents of volumes in [0, 1]."""
        ...


@dataclass(frozen=True)
class Latents:
    """The latents of a cohort.

    Attributes
    ----------
    mean, sigma
        Mean and standard deviation for each volume, from the autoencoder; memory-mapped files.
    """

    mean: Float32[np.ndarray, "n c d h w"]
    sigma: Float32[np.ndarray, "n c d h w"]

    def __len__(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class LatentMean:
    """The expected latents, voxel by voxel: a linear function of the encoded conditions.

    Attributes
    ----------
    coefficients
        The intercept, then one map per column of the encoded conditions.
    """

    coefficients: Float32[np.ndarray, "1+k c d h w"]

    @classmethod
    def zero(cls, shape: tuple[int, ...], width: int) -> LatentMean:
        """Return a mean of zero, for latents that are diffused unchanged."""
        return cls(np.zeros((1 + width, *shape), np.float32))

    @classmethod
    def fitted(
        cls,
        latents: Latents,
        encoded: Float32[np.ndarray, "n k"],
        unconditional: Float32[np.ndarray, " k"] | None = None,
        dropout: float = 0.0,
    ) -> LatentMean:
        """Return the least-squares fit over all rows that the network gets in training.

        Each volume counts with its own row, with the weight 1 - w, and with the row of no
        condition, with the weight w = `dropout`, at least 0.01. At the row of no condition the fit
        is then the mean of all volumes. Without such a row, w is 0. Where columns cannot be
        separated, the fit has the smallest coefficients.
        """
        n, k = encoded.shape
        weight = 0.0 if unconditional is None else max(dropout, _LEAST_WEIGHT)
        absent = np.concatenate([[1.0], np.zeros(k) if unconditional is None else unconditional])
        gram, cross = np.zeros((1 + k, 1 + k)), np.zeros((1 + k, *latents.mean.shape[1:]))
        for row, mean in zip(encoded, latents.mean, strict=True):
            own = np.concatenate([[1.0], row.astype(np.float64)])
            gram += (1 - weight) * np.outer(own, own) + weight * np.outer(absent, absent)
            cross += np.multiply.outer((1 - weight) * own + weight * absent, mean)
        solved = np.tensordot(np.linalg.pinv(gram / n, hermitian=True), cross / n, axes=1)
        return cls(solved.astype(np.float32))

    def of(self, encoded: Float32[np.ndarray, " k"]) -> Float32[np.ndarray, "c d h w"]:
        """Return the mean under one row of encoded conditions."""
        mean: Float32[np.ndarray, "c d h w"]
        mean = self.coefficients[0] + np.tensordot(encoded, self.coefficients[1:], axes=1)
        return mean


def scale_factor(latents: Latents, mean: LatentMean, encoded: Float32[np.ndarray, "n k"]) -> float:
    """Return 1 / standard deviation of latents minus their mean, over all volumes and elements.

    The variance of draws is the variance of the means plus the mean square of the sigmas, so no
    draw is needed (Rombach et al. 2022, section 4.3.2, use one batch).
    """
    n = len(latents)
    first = second = spread = 0.0
    for place, row in enumerate(encoded):
        rest = latents.mean[place].astype(np.float64) - mean.of(row)
        first += rest.mean() / n
        second += np.square(rest).mean() / n
        spread += np.square(latents.sigma[place], dtype=np.float64).mean() / n
    return 1 / math.sqrt(max(second - first**2 + spread, _FLOOR))


class LatentCache:
    """The files of the latents of one cohort, in a run folder.

    Complete files that a killed process left are used again for the same volumes and the same
    autoencoder.

    Parameters
    ----------
    folder
        Folder of the files.
    role
        Part of the files' names: "training" or "validation".
    """

    def __init__(self, folder: Path, role: str) -> None:
        self.mean = folder / f"latents-{role}-mean.npy"
        self.sigma = folder / f"latents-{role}-sigma.npy"
        self.ready = folder / f"latents-{role}.json"

    def fill(
        self,
        autoencoder: Encoder,
        autoencoder_sha256: str,
        volumes: Volumes,
        progress: Progress | None = None,
    ) -> None:
        """Encode the volumes into the files, where that is not done yet."""
        key = {
            "cohort": volumes.cohort.fingerprint,
            "space": volumes.space.digest,
            "intensity": volumes.intensity,
            "autoencoder": autoencoder_sha256,
        }
        if holds(self.ready, key):
            return
        self.ready.unlink(missing_ok=True)
        device = next(autoencoder.parameters()).device
        with ExitStack() as stack:
            rows: list[RowsFile] = []
            for index, volume in enumerate(volumes):
                with torch.inference_mode():
                    encoded = autoencoder.encode(torch.from_numpy(volume)[None, None].to(device))
                if not rows:
                    shape = (len(volumes), *encoded[0].shape[1:])
                    rows = [
                        stack.enter_context(RowsFile(file, shape))
                        for file in (self.mean, self.sigma)
                    ]
                for row, part in zip(rows, encoded, strict=True):
                    row.write(part[0].cpu().numpy())
                if progress:
                    progress(index + 1, len(volumes), "encoding")
        write_atomic(self.ready, json.dumps(key).encode())

    def read(self) -> Latents:
        """Return the latents from the filled files."""
        mean, sigma = (
            read_npy(file, error=RunError, fix=REMOVE, mapped=True)
            for file in (self.mean, self.sigma)
        )
        return Latents(mean, sigma)

    def remove(self) -> None:
        """Delete the files: latents are participant-level data."""
        for file in (self.ready, self.mean, self.sigma):
            file.unlink(missing_ok=True)


class LatentSource:
    """A source of latents and their encoded conditions.

    Parameters
    ----------
    latents
        Latents of the volumes.
    mean
        Their mean, which is subtracted first.
    scale
        Factor that then gives unit variance.
    encoded
        One row of encoded conditions per volume. Rows without columns are not passed on.
    unconditional, dropout
        The row of no condition, and the probability that it replaces a volume's own row (Ho and
        Salimans 2022, arXiv 2207.12598, algorithm 1); None: never.
    """

    def __init__(
        self,
        latents: Latents,
        mean: LatentMean,
        scale: float,
        encoded: Float32[np.ndarray, "n k"],
        unconditional: Float32[np.ndarray, " k"] | None = None,
        dropout: float = 0.0,
    ) -> None:
        self.latents, self.mean, self.scale = latents, mean, scale
        self.encoded, self.unconditional, self.dropout = encoded, unconditional, dropout

    def __len__(self) -> int:
        return len(self.latents)

    def opened(self, progress: Progress | None) -> AbstractContextManager[None]:
        """Prepare nothing: the latents are on disk."""
        return nullcontext()

    def batch(self, items: Sequence[int], draws: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Return one draw of the latents of each item, and its row of encoded conditions."""
        drawn, rows = zip(
            *(self._item(item, g) for item, g in zip(items, draws, strict=True)), strict=True
        )
        clean, encoded = torch.stack(drawn), torch.stack(rows)
        return (clean, encoded) if encoded.shape[1] else (clean,)

    def _item(self, item: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(self.latents.mean.shape[1:], generator=draws).numpy()
        encoded = self._encoded_of(self.encoded[item], draws)
        drawn = self.latents.mean[item] + self.latents.sigma[item] * noise
        # NumPy, not torch: this runs while a training step computes, and two groups of torch
        # threads on the same cores wait for each other.
        rest = np.float32(self.scale) * (drawn - self.mean.of(encoded))
        return torch.from_numpy(rest), torch.from_numpy(encoded)

    def _encoded_of(
        self, row: Float32[np.ndarray, " k"], draws: torch.Generator
    ) -> Float32[np.ndarray, " k"]:
        if self.unconditional is None:
            return row
        return self.unconditional if float(torch.rand((), generator=draws)) < self.dropout else row
