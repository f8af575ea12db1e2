"""The search for a watermark in the volumes of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.listing import list_cohort
from synthbench.cohorts.volume_file import read
from synthbench.errors import SynthbenchError, UsageError
from synthbench.sampling.watermark import THRESHOLD, WatermarkKey, most_likely, statistic


@dataclass(frozen=True)
class Searched:
    """What was found in one volume.

    Attributes
    ----------
    file
        Its name, relative to the folder.
    z
        How well it agrees with the key: mean 0 and sd 1 over keys where there is no mark.
    p
        The share of keys that would agree as well with this volume, at most.
    """

    file: str
    z: float
    p: float

    @property
    def found(self) -> bool:
        """Whether the mark of the key is found."""
        return self.z > THRESHOLD


def find_watermark(
    volumes: Path | CohortFiles,
    key: str,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Searched]:
    """Look for the mark of a key in each volume, and return what was found.

    Volumes may have any grid, scale and format. Each lies where its header says.

    Parameters
    ----------
    volumes
        A folder, or a CSV or TSV manifest.
    key
        The key, or `@FILE` that holds it.
    progress
        Called with (done, total, text) after each volume.

    Raises
    ------
    SynthbenchError
        The key cannot be used, there are no volumes, or one of them cannot be read.
    """
    of = WatermarkKey.parse(key)
    listing = list_cohort(volumes, "volumes")
    searched = []
    for done, (file, _) in enumerate(listing.files, 1):
        name = listing.name_of(file)
        try:
            volume = read(file, None)
            z = statistic(volume.data, volume.grid, of)
        except SynthbenchError as error:
            raise UsageError(f"{name}: {error}") from error
        searched.append(Searched(name, z, most_likely(z)))
        if progress:
            progress(done, len(listing.files), name)
    return searched
