"""The list of corruptions, and a set of volumes under a dose of one.

A corruption has doses in physical units, from barely visible to very strong, so a dose means the
same on any grid. A corruption of volumes changes every volume (blur, noise, a shift); one of the
set changes which volumes are in it (duplicates, dropped modes, copies of training images).

`Corrupted` computes each volume when it is read, so memory stays bounded. Volume `index` draws
from `numpy.random.default_rng([seed, index, *name])`, and a set from `default_rng([seed, *name])`.
The draws do not depend on the dose: a larger dose is more of the same damage, and a larger share
includes the volumes that a smaller one flips or replaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synthbench.errors import UsageError, near_miss
from synthbench.runtime.parallel import read_ahead
from synthbench.sensitivity.corruptions.base import (
    Corruption,
    GridVolumes,
    Pick,
    SetCorruption,
    Volume,
    VolumeCorruption,
)
from synthbench.sensitivity.corruptions.of_sets import (
    copy_training,
    drop_modes,
    duplicate_some,
    mirror_some,
)
from synthbench.sensitivity.corruptions.of_volumes import (
    add_background_noise,
    add_noise,
    blur,
    direction,
    enlarge_ventricles,
    misalign_slices,
    shade,
    shift,
    warp,
)
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import Intensity, to_unit


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A set of volumes under a dose of a corruption, computed as it is read.

    Indexing gives `Float32[d h w]` in [0, 1]; iterating reads ahead with `workers` threads.
    Background (zero, outside the head) stays exactly zero, except where the anatomy moves or the
    background is what is damaged. Dose 0 gives the volumes themselves, bit for bit.

    Attributes
    ----------
    volumes
        The undamaged set.
    corruption, dose, seed
        The corruption, its dose in its unit, and the seed of its draws.
    training
        Training volumes of a generator, where the corruption copies them.
    intensity
        How a damaged volume is brought back to [0, 1]: "unit" clips it; "percentile" scales it
        again, as reading the volume from a file by that rule would. Use the protocol's rule.
    workers
        Threads that read ahead.

    Raises
    ------
    UsageError
        The dose or the seed is negative, or a corruption that copies training volumes has none,
        or none on this grid. On reading: the dose is too large for the set.
    """

    volumes: GridVolumes
    corruption: Corruption
    dose: float
    seed: int
    training: GridVolumes | None = None
    intensity: Intensity = "unit"
    workers: int = 2

    def __post_init__(self) -> None:
        name = self.corruption.name
        if not 0 <= self.dose < math.inf:
            raise UsageError(
                f"{name}: the dose must be 0 {self.corruption.unit} or more; found {self.dose}. "
                f"Its doses are {', '.join(f'{d:g}' for d in self.corruption.doses)}."
            )
        if self.seed < 0:
            raise UsageError(f"{name}: the seed must be 0 or more; found {self.seed}.")
        if isinstance(self.corruption, SetCorruption) and self.corruption.needs_training:
            if self.training is None:
                raise UsageError(
                    f"{name}: it copies training volumes, and there are none. "
                    "Name training volumes, or leave this corruption out."
                )
            if not self.training.space.same_grid(self.volumes.space):
                raise UsageError(
                    f"{name}: the training volumes must lie on the set's grid, "
                    f"{self.volumes.space}; found {self.training.space}. Read both in one space."
                )

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        return self.volumes.space

    @cached_property
    def picks(self) -> tuple[Pick, ...]:
        """The volume at each place of the set."""
        if self.dose == 0 or not isinstance(self.corruption, SetCorruption):
            return tuple(Pick(i) for i in range(len(self.volumes)))
        rng = np.random.default_rng([self.seed, *self.corruption.name.encode()])
        available = 0 if self.training is None else len(self.training)
        return self.corruption.choose(self.volumes, self.dose, rng, available)

    def __len__(self) -> int:
        return len(self.picks)

    def __getitem__(self, index: int) -> Volume:
        place = range(len(self))[index]
        pick = self.picks[place]
        if pick.training:
            assert self.training is not None
            return self.training[pick.index]
        volume = self.volumes[pick.index]
        if pick.mirrored:
            return np.ascontiguousarray(volume[::-1])
        if self.dose == 0 or not isinstance(self.corruption, VolumeCorruption):
            return volume
        rng = np.random.default_rng([self.seed, place, *self.corruption.name.encode()])
        damaged = self.corruption.apply(volume, self.dose, self.space, rng)
        name = f"volume {place}, {self.corruption.sentence(self.dose)}"
        return _to_range(damaged, self.intensity, name)

    def __iter__(self) -> Iterator[Volume]:
        return read_ahead(self.__getitem__, range(len(self)), self.workers)


def corruption(name: str) -> Corruption:
    """Return the corruption of a name.

    Raises
    ------
    UsageError
        There is no such corruption; the message names the nearest.
    """
    if name not in CORRUPTIONS:
        raise UsageError(f"no corruption {name!r}: {near_miss(name, CORRUPTIONS)}")
    return CORRUPTIONS[name]


def _to_range(volume: np.ndarray, intensity: Intensity, name: str) -> Volume:
    positive = np.maximum(volume, 0, dtype=np.float32)
    if intensity == "percentile":
        return to_unit(positive, intensity, name)
    return np.asarray(np.minimum(positive, 1), dtype=np.float32)


_ALL: tuple[Corruption, ...] = (
    VolumeCorruption(
        "blur", "blur", "mm (FWHM)", "blurred by {dose} mm (FWHM)",
        (1, 2, 3, 5, 8),
        "Gaussian blur within the head.",
        lambda volume, dose, space, rng: blur(volume, dose, space.spacing),
    ),
    VolumeCorruption(
        "noise", "noise", "% of the intensity scale",
        "with Rician noise of {dose}% of the intensity scale",
        (1, 2, 4, 8, 16),
        "Rician noise within the head; the intensity scale is the 99.9th percentile.",
        lambda volume, dose, space, rng: add_noise(volume, dose / 100, rng),
    ),
    VolumeCorruption(
        "background", "background noise", "% of the intensity scale",
        "with background noise of {dose}% of the intensity scale",
        (0.5, 1, 2, 4, 8),
        "Gaussian noise around the head, clipped at zero, as generators leave it.",
        lambda volume, dose, space, rng: add_background_noise(volume, dose / 100, rng),
    ),
    VolumeCorruption(
        "gamma", "gamma", "% above 1", "with a gamma {dose}% above 1",
        (5, 10, 20, 40, 80),
        "Intensities raised to the power of 1 + dose, which darkens all but the brightest.",
        lambda volume, dose, space, rng: volume ** np.float32(1 + dose / 100),
    ),
    VolumeCorruption(
        "bias", "bias field", "% peak to peak",
        "under a bias field of {dose}% peak to peak",
        (5, 10, 20, 40, 80),
        "A smooth random factor over the head, another one for each volume.",
        lambda volume, dose, space, rng: shade(volume, dose / 100, space, rng),
    ),
    VolumeCorruption(
        "shift", "shift", "mm", "shifted by {dose} mm",
        (0.5, 1, 2, 4, 8),
        "Translation in a random direction, another one for each volume: misregistration.",
        lambda volume, dose, space, rng: shift(volume, dose * direction(rng), space.spacing),
    ),
    SetCorruption(
        "flip", "left-right flip", "% of the volumes", "with {dose}% of the volumes mirrored",
        (10, 25, 50, 75, 100),
        "Left and right exchanged in a share of the volumes.",
        mirror_some,
    ),
    VolumeCorruption(
        "warp", "smooth warp", "mm (RMS)", "warped by {dose} mm (RMS)",
        (0.5, 1, 2, 3, 5),
        "A smooth random deformation, another one for each volume.",
        lambda volume, dose, space, rng: warp(volume, dose, space, rng),
    ),
    VolumeCorruption(
        "slices", "slice misalignment", "mm (SD)", "with slices misaligned by {dose} mm (SD)",
        (0.25, 0.5, 1, 2, 4),
        "Every axial slice translated at random within its plane.",
        lambda volume, dose, space, rng: misalign_slices(volume, dose, space.spacing, rng),
    ),
    VolumeCorruption(
        "ventricles", "larger ventricles", "% by volume", "with ventricles {dose}% larger",
        (10, 25, 50, 100, 200),
        "The deformation that makes the MNI152 template's lateral ventricles that much larger.",
        lambda volume, dose, space, rng: enlarge_ventricles(volume, dose, space),
    ),
    SetCorruption(
        "modes", "dropped modes", "% of the volumes",
        "without {dose}% of the volumes, the least typical",
        (10, 20, 30, 45, 60),
        "The volumes least like the most typical one are left out; the set gets smaller.",
        drop_modes,
    ),
    SetCorruption(
        "duplicates", "duplicates", "% of the volumes",
        "with {dose}% of the volumes copies of others",
        (5, 10, 20, 40, 60),
        "A share of the volumes replaced by copies of others in the set.",
        duplicate_some,
    ),
    SetCorruption(
        "copies", "training copies", "% of the volumes",
        "with {dose}% of the volumes copied from training",
        (5, 10, 20, 40, 60),
        "A share of the volumes replaced by training volumes, each at most once.",
        copy_training,
        needs_training=True,
    ),
)  # fmt: skip

CORRUPTIONS: dict[str, Corruption] = {c.name: c for c in _ALL}
