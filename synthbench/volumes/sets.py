"""Sets of volumes on one grid: joined, mirrored, with a clean background, or in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32

from synthbench.volumes.grid import Space


class Readable(Protocol):
    """Volumes on one grid that are read one by one, or in order."""

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Float32[np.ndarray, "d h w"]: ...

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]: ...


@runtime_checkable
class Identified(Protocol):
    """Volumes whose origin is known."""

    def name(self, index: int, /) -> str:
        """Return the volume's name for messages."""
        ...

    def identity(self, index: int, /) -> str | None:
        """Return a text that is equal only for equal voxels on equal grids; None: not known."""
        ...


def name_of(volumes: Readable, index: int) -> str:
    """Return the volume's name for messages."""
    return volumes.name(index) if isinstance(volumes, Identified) else f"volume {index}"


def identity_of(volumes: Readable, index: int) -> str | None:
    """Return what the voxels depend on; None where it is not known, as for damaged volumes."""
    return volumes.identity(index) if isinstance(volumes, Identified) else None


@dataclass(frozen=True)
class Joined:
    """Two sets of volumes on one grid, one after the other."""

    first: Readable
    second: Readable

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        return self.first.space

    def name(self, index: int) -> str:
        """Return the volume's name for messages."""
        return name_of(*self._place(index))

    def identity(self, index: int) -> str | None:
        """Return what the voxels depend on; None where it is not known."""
        return identity_of(*self._place(index))

    def _place(self, index: int) -> tuple[Readable, int]:
        split = len(self.first)
        return (self.first, index) if index < split else (self.second, index - split)

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "d h w"]:
        volumes, place = self._place(index)
        return volumes[place]

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        yield from self.first
        yield from self.second


@dataclass(frozen=True)
class Chosen:
    """Some volumes of a set, by their indices."""

    volumes: Readable
    indices: Sequence[int]

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        return self.volumes.space

    def name(self, index: int) -> str:
        """Return the volume's name for messages."""
        return name_of(self.volumes, self.indices[index])

    def identity(self, index: int) -> str | None:
        """Return what the voxels depend on; None where it is not known."""
        return identity_of(self.volumes, self.indices[index])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "d h w"]:
        return self.volumes[self.indices[index]]

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        for index in self.indices:
            yield self.volumes[index]


@dataclass(frozen=True)
class Flipped:
    """Volumes mirrored left to right, about the middle of the grid."""

    volumes: Readable

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        return self.volumes.space

    def name(self, index: int) -> str:
        """Return the volume's name for messages."""
        return f"{name_of(self.volumes, index)}, mirrored"

    def identity(self, index: int) -> str | None:
        """Return what the mirrored voxels depend on; None where it is not known."""
        original = identity_of(self.volumes, index)
        return None if original is None else f"mirrored: {original}"

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "d h w"]:
        return self.volumes[index][::-1].copy()

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        for volume in self.volumes:
            yield volume[::-1].copy()


@dataclass(frozen=True)
class Cleaned:
    """Volumes whose voxels up to a threshold are zero; each voxel has its own threshold.

    Attributes
    ----------
    volumes
        The volumes as they were read.
    threshold
        0 where all voxels above zero are kept, infinite where none is.
    """

    volumes: Readable
    threshold: Float32[np.ndarray, "d h w"]

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        return self.volumes.space

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.threshold).tobytes()).hexdigest()

    def name(self, index: int) -> str:
        """Return the volume's name for messages."""
        return name_of(self.volumes, index)

    def identity(self, index: int) -> str | None:
        """Return what the cleaned voxels depend on; None where it is not known."""
        original = identity_of(self.volumes, index)
        return None if original is None else f"zero up to {self._digest}: {original}"

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "d h w"]:
        return self._cleaned(self.volumes[index])

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        for volume in self.volumes:
            yield self._cleaned(volume)

    def _cleaned(self, volume: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
        return np.where(volume > self.threshold, volume, np.float32(0))


Volume: TypeAlias = Float32[np.ndarray, "d h w"]


@dataclass(frozen=True)
class Drawn:
    """Volumes in memory, read like those of a cohort."""

    space: Space
    volumes: Sequence[Volume]

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> Volume:
        return self.volumes[index]

    def __iter__(self) -> Iterator[Volume]:
        return iter(self.volumes)
