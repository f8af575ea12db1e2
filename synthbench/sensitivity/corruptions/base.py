"""The definition of a corruption: a kind of known damage, with its doses and unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from synthbench.metrics.metric import VolumeSource
from synthbench.volumes.grid import Space

Volume = Float32[np.ndarray, "d h w"]
Spacing = tuple[float, float, float]
Axes = tuple[int, ...]
Factors = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


class GridVolumes(VolumeSource, Protocol):
    """Volumes read one by one, on a known grid."""

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        ...


@dataclass(frozen=True)
class Corruption:
    """A kind of damage, with doses to give it in.

    Attributes
    ----------
    name
        The key in a record and on the command line.
    label
        The name in a table.
    unit
        The unit of a dose.
    words
        A clause with a place for the dose: "blurred by {dose} mm (FWHM)".
    doses
        Ascending, above zero; dose zero is no damage.
    does
        One sentence on what is done.
    """

    name: str
    label: str
    unit: str
    words: str
    doses: tuple[float, ...]
    does: str

    def sentence(self, dose: float | str) -> str:
        """Return the clause for a dose, which is a number or words.

        >>> blur = Corruption("blur", "blur", "mm", "blurred by {dose} mm (FWHM)", (1, 2), "")
        >>> blur.sentence(1.4), blur.sentence("more than 2")
        ('blurred by 1.4 mm (FWHM)', 'blurred by more than 2 mm (FWHM)')
        """
        return in_words(self.words, dose)


def in_words(words: str, dose: float | str) -> str:
    """Return a corruption's clause with a dose; a number has no trailing zeros."""
    return words.format(dose=dose if isinstance(dose, str) else f"{dose:g}")


@dataclass(frozen=True)
class VolumeCorruption(Corruption):
    """A corruption that changes each volume separately.

    Attributes
    ----------
    apply
        From (volume, dose, space, rng) to the damaged volume, float32. Values may leave [0, 1];
        `Corrupted` brings them back.
    """

    apply: Callable[[Volume, float, Space, np.random.Generator], Volume]


@dataclass(frozen=True)
class Pick:
    """The volume at one place of a corrupted set.

    Attributes
    ----------
    index
        Its index in the set, or in the training set.
    training
        True where it is a copy of a training volume.
    mirrored
        True where left and right are exchanged.
    """

    index: int
    training: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class SetCorruption(Corruption):
    """A corruption that changes which volumes are in the set.

    Attributes
    ----------
    choose
        From (volumes, share in %, rng, number of training volumes) to the places of the set.
    needs_training
        True where it copies training volumes.
    """

    choose: Callable[[GridVolumes, float, np.random.Generator, int], tuple[Pick, ...]]
    needs_training: bool = False
