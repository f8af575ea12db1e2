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

from synthbench.cohort import Volumes
from synthbench.files import write_atomic
from synthbench.generators.autoencoder import Autoencoder
from synthbench.generators.generator import Progress

_FLOOR = 1e-12


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

    def scale_factor(self) -> float:
        """Return 1 / standard deviation of the latents, over volumes, channels and voxels.

        The variance of a draw is that of the means plus the mean square of the sigmas: no draw is
        needed (Rombach et al. 2022, section 4.3.2, take one batch).
        """
        n = len(self)
        first = sum(float(row.mean(dtype=np.float64)) for row in self.mean) / n
        second = sum(float(np.square(row, dtype=np.float64).mean()) for row in self.mean) / n
        spread = sum(float(np.square(row, dtype=np.float64).mean()) for row in self.sigma) / n
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
    """A source of latents, and of what a network is told of them.

    Parameters
    ----------
    latents
        Of the volumes.
    scale
        Factor that gives them unit variance.
    told
        Rows that the network is told; None: nothing.
    untold, dropout
        The row of no condition, which takes the place of a volume's own with this probability
        (Ho and Salimans 2022, arXiv 2207.12598, algorithm 1); None: never.
    """

    def __init__(
        self,
        latents: Latents,
        scale: float,
        told: Float32[np.ndarray, "n k"] | None = None,
        untold: Float32[np.ndarray, " k"] | None = None,
        dropout: float = 0.0,
    ) -> None:
        self.latents, self.scale = latents, scale
        self.told, self.untold, self.dropout = told, untold, dropout

    def __len__(self) -> int:
        return len(self.latents)

    def opened(self, progress: Progress | None) -> AbstractContextManager[None]:
        """Prepare nothing: the latents are there."""
        return nullcontext()

    def batch(self, items: Sequence[int], draws: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Return a draw of each item's latents, and what the network is told of it."""
        mean, sigma = (
            torch.from_numpy(np.stack([rows[item] for item in items]))
            for rows in (self.latents.mean, self.latents.sigma)
        )
        noise = torch.stack([torch.randn(mean.shape[1:], generator=g) for g in draws])
        clean = self.scale * (mean + sigma * noise)
        if self.told is None:
            return (clean,)
        return clean, torch.from_numpy(np.stack(
            [self._told_of(self.told[i], g) for i, g in zip(items, draws, strict=True)]
        ))  # fmt: skip

    def _told_of(
        self, row: Float32[np.ndarray, " k"], draws: torch.Generator
    ) -> Float32[np.ndarray, " k"]:
        dropped = float(torch.rand((), generator=draws)) < self.dropout
        return self.untold if dropped and self.untold is not None else row
