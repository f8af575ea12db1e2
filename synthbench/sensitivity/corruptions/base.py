"""What a corruption is: a kind of known damage, with its doses and unit."""

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
        Words for a table.
    unit
        What a dose is measured in.
    words
        A clause with a place for the dose: "blurred by {dose} mm (FWHM)".
    doses
        Ascending, above zero; dose zero is no damage.
    does
        One sentence: what is done.
    """

    name: str
    label: str
    unit: str
    words: str
    doses: tuple[float, ...]
    does: str

    def sentence(self, dose: float | str) -> str:
        """The clause for a dose, a number or words.

        >>> from synthbench.sensitivity.corruptions.corrupted import CORRUPTIONS
        >>> CORRUPTIONS["blur"].sentence(1.4)
        'blurred by 1.4 mm (FWHM)'
        >>> CORRUPTIONS["flip"].sentence("more than 50")
        'with more than 50% of the volumes mirrored'
        """
        return in_words(self.words, dose)


def in_words(words: str, dose: float | str) -> str:
    """Fill a dose into a corruption's clause: words as they are, a number as short as it goes."""
    return words.format(dose=dose if isinstance(dose, str) else f"{dose:g}")


@dataclass(frozen=True)
class VolumeCorruption(Corruption):
    """A corruption of each volume by itself.

    Attributes
    ----------
    apply
        Maps (volume, dose, space, rng) to the damaged volume, float32. Values may leave [0, 1]:
        `Corrupted` brings them back.
    """

    apply: Callable[[Volume, float, Space, np.random.Generator], Volume]


@dataclass(frozen=True)
class Pick:
    """One place in a corrupted set: which volume stands there.

    Attributes
    ----------
    index
        Its index in the set, or in the training set.
    training
        Whether it is a copy of a training volume.
    mirrored
        Whether left and right are exchanged.
    """

    index: int
    training: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class SetCorruption(Corruption):
    """A corruption of which volumes make up the set.

    Attributes
    ----------
    choose
        Maps (volumes, share in %, rng, number of training volumes) to the places of the set.
    needs_training
        Whether it copies training volumes.
    """

    choose: Callable[[GridVolumes, float, np.random.Generator, int], tuple[Pick, ...]]
    needs_training: bool = False
