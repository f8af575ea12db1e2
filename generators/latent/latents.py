"""Latents of training volumes, kept as mean and standard deviation, and what draws from them.

A latent that is stored as one draw is seen again and again; stored as mean and sigma, each
training sample is another draw of the autoencoder's posterior.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from synthbench.cohorts.cohort import Volumes
from synthbench.generators.generator import Progress
from synthbench.generators.latent.autoencoder import Autoencoder
from synthbench.runtime.files import write_atomic

_FLOOR = 1e-12
_LEAST_WEIGHT = 0.01


@dataclass(frozen=True)
class Latents:
    """The latents of a cohort.

    Attributes
    ----------
    mean, sigma
        Of each volume, as the autoencoder gives them; memory-mapped files.
    """

    mean: Float32[np.ndarray, "n c d h w"]
    sigma: Float32[np.ndarray, "n c d h w"]

    def __len__(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class LatentMean:
    """What latents are expected to be, voxel by voxel: linear in the encoded conditions.

    Attributes
    ----------
    coefficients
        The intercept, then one map per column of the encoded conditions.
    """

    coefficients: Float32[np.ndarray, "1+k c d h w"]

    @classmethod
    def zero(cls, shape: tuple[int, ...], width: int) -> LatentMean:
        """Return the mean of latents that are diffused as they are."""
        return cls(np.zeros((1 + width, *shape), np.float32))

    @classmethod
    def fitted(
        cls,
        latents: Latents,
        encoded: Float32[np.ndarray, "n k"],
        unconditional: Float32[np.ndarray, " k"] | None = None,
        dropout: float = 0.0,
    ) -> LatentMean:
        """Fit by least squares, over all the rows that the network is given in training.

        Each volume counts once with its own row, and with a weight of `dropout` (0.01 at least)
        with the row of no condition, if there is one: there the fit is the mean of all volumes.
        Of columns that cannot be separated, the smallest coefficients are taken.
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
    """Return 1 / standard deviation of latents less their mean, over volumes, channels and voxels.

    The variance of a draw is that of the means plus the mean square of the sigmas: no draw is
    needed (Rombach et al. 2022, section 4.3.2, take one batch).
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
    """The files of the latents of one cohort, in a run's folder.

    What a killed process left is used again if it was completed for the same volumes and the
    same autoencoder.

    Parameters
    ----------
    folder
        Where they lie.
    role
        Whose they are, as part of the files' names: "training" or "validation".
    """

    def __init__(self, folder: Path, role: str) -> None:
        self.mean = folder / f"latents-{role}-mean.npy"
        self.sigma = folder / f"latents-{role}-sigma.npy"
        self.ready = folder / f"latents-{role}.json"

    def fill(
        self,
        autoencoder: Autoencoder,
        autoencoder_sha256: str,
        volumes: Volumes,
        progress: Progress | None = None,
    ) -> None:
        """Encode the volumes, unless that was done."""
        key = {
            "cohort": volumes.cohort.fingerprint,
            "space": volumes.space.digest,
            "intensity": volumes.intensity,
            "autoencoder": autoencoder_sha256,
        }
        if self.ready.is_file() and json.loads(self.ready.read_text()) == key:
            return
        self.ready.unlink(missing_ok=True)
        device = next(autoencoder.parameters()).device
        rows: list[np.memmap] = []
        for index, volume in enumerate(volumes):
            with torch.inference_mode():
                encoded = autoencoder.encode(torch.from_numpy(volume)[None, None].to(device))
            if not rows:
                shape = (len(volumes), *encoded[0].shape[1:])
                rows = [
                    np.lib.format.open_memmap(file, "w+", np.float32, shape)
                    for file in (self.mean, self.sigma)
                ]
            for row, part in zip(rows, encoded, strict=True):
                row[index] = part[0].cpu().numpy()
            if progress:
                progress(index + 1, len(volumes), "encoding")
        for row in rows:
            row.flush()
        write_atomic(self.ready, json.dumps(key).encode())

    def read(self) -> Latents:
        """Return the latents of files that are filled."""
        mean, sigma = (
            np.load(file, mmap_mode="r", allow_pickle=False) for file in (self.mean, self.sigma)
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
        Of the volumes.
    mean
        What is taken from them first.
    scale
        Factor that then gives them unit variance.
    encoded
        Rows that the network is given; without columns, it is given none.
    unconditional, dropout
        The row of no condition, which takes the place of a volume's own with this probability
        (Ho and Salimans 2022, arXiv 2207.12598, algorithm 1); None: never.
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
        """Prepare nothing: the latents are there."""
        return nullcontext()

    def batch(self, items: Sequence[int], draws: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Return a draw of each item's latents, and its row of encoded conditions."""
        drawn, rows = zip(
            *(self._item(item, g) for item, g in zip(items, draws, strict=True)), strict=True
        )
        clean, encoded = torch.stack(drawn), torch.stack(rows)
        return (clean, encoded) if encoded.shape[1] else (clean,)

    def _item(self, item: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(self.latents.mean.shape[1:], generator=draws).numpy()
        encoded = self._encoded_of(self.encoded[item], draws)
        drawn = self.latents.mean[item] + self.latents.sigma[item] * noise
        # NumPy, not torch: this runs beside a training step, and two teams of torch's threads on
        # the same cores wait for one another.
        rest = np.float32(self.scale) * (drawn - self.mean.of(encoded))
        return torch.from_numpy(rest), torch.from_numpy(encoded)

    def _encoded_of(
        self, row: Float32[np.ndarray, " k"], draws: torch.Generator
    ) -> Float32[np.ndarray, " k"]:
        if self.unconditional is None:
            return row
        return self.unconditional if float(torch.rand((), generator=draws)) < self.dropout else row
