"""The shape of a head, drawn from the principal components of the training volumes.

A denoiser that sees parts of a volume cannot make the parts fit together: left alone, it draws
heads of nearly the mean shape. So a sample begins with the mean plus a random combination of the
first components, which hold the size of the head and of the ventricles, and the network adds the
detail. Few components hold no detail of a single training volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import pad

from synthbench.errors import UsageError
from synthbench.generators.components import principal_components
from synthbench.generators.loop.augmentation import LEFT_RIGHT

IN_HEAD = 0.05
"""Voxels whose mean over the training volumes is above this count as the head."""

PREFIX = "prior."
"""How the names of its arrays begin in the weights of a run."""


@dataclass(frozen=True)
class ShapePrior:
    """The mean of the training volumes, the spread around it, and its first components.

    Attributes
    ----------
    mean
        The mean volume, in [0, 1].
    components
        Principal components inside the box, each times the standard deviation along it.
    scale
        Standard deviation around the mean, over volumes and voxels of the head.
    box
        First and last voxel (not included) of the box that holds all heads, along each side; its
        sides are even.
    """

    mean: Float32[Tensor, "1 1 d h w"]
    components: Float32[Tensor, "k bd bh bw"]
    scale: float
    box: tuple[tuple[int, int], ...]

    @classmethod
    def fit(
        cls, volumes: Iterable[Float32[np.ndarray, "d h w"]], *, most: int, flip: bool, margin: int
    ) -> ShapePrior:
        """Return the prior of volumes.

        Parameters
        ----------
        volumes
            The training volumes; all are held in memory.
        most
            Number of components, at most; there are never more than volumes less one.
        flip
            Mirrored volumes count as well.
        margin
            Voxels around the heads that belong to the box.

        Raises
        ------
        UsageError
            There are fewer than two volumes, or they do not differ.
        """
        stack = np.stack(list(volumes))
        if flip:
            stack = np.concatenate([stack, np.flip(stack, axis=1 + LEFT_RIGHT)])
        mean = stack.mean(axis=0, dtype=np.float64)
        head = mean > IN_HEAD
        scale = float(np.sqrt(np.mean([np.square(one[head] - mean[head]).mean() for one in stack])))
        if len(stack) < 2 or not scale > 0:
            raise UsageError(
                "residual: the mean of the training volumes and their spread are needed, so there "
                f"must be 2 volumes that differ; found {len(stack)} volumes of spread {scale:g}."
            )
        box = _box(stack.max(axis=0) > 0, margin)
        inside = tuple(slice(first, last) for first, last in box)
        rows = stack[(slice(None), *inside)].reshape(len(stack), -1)
        components = principal_components(rows, mean[inside].ravel(), most=most)
        sides = [last - first for first, last in box]
        return cls(
            torch.from_numpy(mean.astype(np.float32))[None, None],
            torch.from_numpy(components.reshape(-1, *sides)), scale, box,
        )  # fmt: skip

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the prior as arrays by name; components are stored with 16 bits."""
        return {
            f"{PREFIX}mean": self.mean.numpy()[0, 0],
            f"{PREFIX}components": self.components.numpy().astype(np.float16),
            f"{PREFIX}scale": np.array([self.scale]),
            f"{PREFIX}box": np.array(self.box),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], device: torch.device | None = None) -> ShapePrior:
        """Return the prior that `arrays` has stored."""
        stored = {
            name: arrays[f"{PREFIX}{name}"] for name in ("mean", "components", "scale", "box")
        }
        mean = torch.from_numpy(stored["mean"])[None, None]
        components = torch.from_numpy(stored["components"].astype(np.float32))
        return cls(
            mean.to(device), components.to(device), float(stored["scale"][0]),
            tuple((int(first), int(last)) for first, last in stored["box"]),
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...]:
        """The sides of the box."""
        return tuple(last - first for first, last in self.box)

    def crop(self, volumes: Tensor) -> Tensor:
        """Return what lies inside the box."""
        return volumes[(..., *(slice(first, last) for first, last in self.box))]

    def uncrop(self, inside: Tensor) -> Tensor:
        """Return whole volumes, 0 outside the box."""
        sides = self.mean.shape[2:]
        widths = [(first, n - last) for (first, last), n in zip(self.box, sides, strict=True)]
        return pad(inside, [width for side in reversed(widths) for width in side])

    def residual(self, volumes: Tensor) -> Tensor:
        """Return the difference from the mean in standard deviations, inside the box."""
        return (self.crop(volumes) - self.crop(self.mean).to(volumes)) / self.scale

    def volume(self, residual: Tensor) -> Tensor:
        """Return whole volumes from residuals, not clipped."""
        return self.uncrop(self.crop(self.mean).to(residual) + residual * self.scale)

    def draw(self, draws: torch.Generator) -> Float32[Tensor, "1 1 bd bh bw"]:
        """Return the residual of a random shape; 0 without components."""
        # Drawn on the CPU, so that a seed gives the same shape on every device.
        scores = torch.randn(len(self.components), generator=draws).to(self.components)
        return torch.einsum("k,kdhw->dhw", scores, self.components)[None, None] / self.scale


def _box(inside: np.ndarray, margin: int) -> tuple[tuple[int, int], ...]:
    """The smallest box of even sides that holds all that is True, and `margin` voxels around."""
    sides = []
    for axis, n in enumerate(inside.shape):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        places = np.flatnonzero(inside.any(axis=others))
        first, last = max(0, int(places[0]) - margin), min(n, int(places[-1]) + 1 + margin)
        if (last - first) % 2:
            first, last = (first - 1, last) if first else (first, last + 1)
        sides.append((first, last))
    return tuple(sides)
