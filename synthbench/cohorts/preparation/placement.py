"""Where the template's brain may lie in a head: all shifts of many turns and sizes.

For each turn and size, the correlation of template and head over the template's brain and rim is
computed for all shifts at once, by Fourier transforms (Padfield 2012, IEEE Transactions on Image
Processing 21(5), doi:10.1109/TIP.2011.2181402). So no guess of the brain's middle is needed, which
would depend on how much of the neck was scanned.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import fft, ndimage

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.settings import Registration

CENTRE_MM = (0.0, -18.0, 8.0)
"""The middle of the template's brain."""
PLACE_MM = 50.0
"""Placements whose middles are nearer than this are at one place."""
_RADIUS_MM = 110.0  # of a ball around the middle that holds brain and rim, at size 1
_LEAST_VARIANCE = 1e-3  # of the head's own: what is more even is air, and correlates by chance


@dataclass(frozen=True)
class Placement:
    """One position of the template in a head.

    Attributes
    ----------
    correlation
        Of template and head over the template's brain and rim, on coarse voxels.
    linear
        From MNI152 millimetres to the scanner's: a turn and one size for all axes.
    middle_mm
        Where the middle of the template's brain lies, in the scanner's millimetres.
    """

    correlation: float
    linear: Float64[np.ndarray, "3 3"]
    middle_mm: Float64[np.ndarray, " 3"]

    @property
    def size(self) -> float:
        """The cube root of the volume to which 1 mm3 of the template grows."""
        return float(np.cbrt(np.linalg.det(self.linear)))

    def apart_mm(self, other: Placement) -> float:
        """Return the RMS distance of two placements over the surface of a ball of 70 mm."""
        turned = 70.0**2 / 3 * ((self.linear - other.linear) ** 2).sum()
        return float(np.sqrt(turned + self.shifted_mm(other) ** 2))

    def shifted_mm(self, other: Placement) -> float:
        """Return the distance of the middles of two placements."""
        return float(np.linalg.norm(self.middle_mm - other.middle_mm))


def placements(
    template: Image, compared: Image, head: Image, settings: Registration
) -> list[Placement]:
    """Return the best shifts for each turn and size, the best first.

    There are as many shifts as `settings.places`, so far apart that each is another place: a
    shoulder in the dark may look more like a coarse brain than the brain does.

    Parameters
    ----------
    template
        The T1-weighted template.
    compared
        Its brain and rim: 1 inside, 0 outside; on the template's grid.
    head
        The scan, on isotropic voxels. Beyond its edge it counts as 0.
    """
    search = _Shifts.of(head, max(settings.scales))
    found = []
    for pitch, roll, yaw, size in itertools.product(
        settings.pitches_deg, settings.rolls_deg, settings.yaws_deg, settings.scales
    ):
        linear = size * rotation(pitch, roll, yaw)
        found += search.best(template, compared, linear, settings.places)
    return sorted(found, key=lambda placement: -placement.correlation)


def candidates(found: list[Placement], settings: Registration) -> list[Placement]:
    """Return the first placements that differ: so many at each of the first places."""
    places: list[list[Placement]] = []
    for placement in found:
        near = next((p for p in places if placement.shifted_mm(p[0]) < PLACE_MM), None)
        if near is None:
            if len(places) < settings.places:
                places.append([placement])
        elif len(near) < settings.candidates and all(
            placement.apart_mm(other) >= settings.apart_mm for other in near
        ):
            near.append(placement)
    return [placement for place in places for placement in place]


def poses(found: list[Placement], settings: Registration) -> list[Placement]:
    """Return the first placements that differ in turn or place, whatever their sizes."""
    kept: list[Placement] = []
    for placement in found:
        turn = placement.linear / placement.size
        if len(kept) < settings.poses and all(
            placement.shifted_mm(other) >= PLACE_MM
            or Placement(0.0, other.size * turn, other.middle_mm).apart_mm(other)
            >= settings.apart_mm
            for other in kept
        ):
            kept.append(placement)
    return kept


def rotation(pitch: float, roll: float, yaw: float) -> Float64[np.ndarray, "3 3"]:
    """Return the turn by these degrees about x, then y, then z."""
    turn = np.eye(3)
    for axis, degrees in enumerate((pitch, roll, yaw)):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        step = np.eye(3)
        step[one, one] = step[other, other] = cosine
        step[one, other], step[other, one] = -sine, sine
        turn = step @ turn
    return turn


@dataclass(frozen=True)
class _Shifts:
    """A head's Fourier transforms, and those of its squares, with room around it."""

    head: Image
    shape: tuple[int, ...]
    first: np.ndarray
    second: np.ndarray
    least: float

    @classmethod
    def of(cls, head: Image, largest: float) -> _Shifts:
        volume = head.volume.astype(np.float64)
        reach = _reach(largest, head.space.spacing[0])
        shape = tuple(fft.next_fast_len(side + reach, real=True) for side in volume.shape)
        first, second = (fft.rfftn(values, shape) for values in (volume, volume**2))
        return cls(head, shape, first, second, _LEAST_VARIANCE * float(volume.var()))

    def best(
        self,
        template: Image,
        compared: Image,
        linear: Float64[np.ndarray, "3 3"],
        number: int,
    ) -> list[Placement]:
        """Return the shifts of the highest correlation for one turn and size, of other places."""
        spacing = self.head.space.spacing[0]
        reach = _reach(Placement(0.0, linear, np.zeros(3)).size, spacing)
        offsets = np.indices((2 * reach + 1,) * 3).reshape(3, -1) - reach
        mm = self.head.space.matrix[:3, :3] @ offsets
        points = np.linalg.solve(linear, mm) + np.array(CENTRE_MM)[:, None]
        side = (2 * reach + 1,) * 3
        inside = (_sampled(compared, points) >= 0.5).reshape(side).astype(np.float64)
        values = _sampled(template, points).reshape(side)
        voxels = inside.sum()
        values = np.where(inside > 0, values - (values * inside).sum() / voxels, 0.0)
        # Correlation is convolution with the mirrored patch: the conjugate.
        mask, patch = (np.conj(fft.rfftn(part, self.shape)) for part in (inside, values))
        total, squares, product = (
            self._central(one * other, reach)
            for one, other in ((self.first, mask), (self.second, mask), (self.first, patch))
        )
        variance = squares / voxels - (total / voxels) ** 2
        scale = np.sqrt(np.maximum(variance, self.least) * voxels * (values**2).sum())
        correlation = product / scale
        matrix = self.head.space.matrix
        width = int(PLACE_MM / spacing)
        peaks = []
        for _ in range(number):
            at = np.unravel_index(int(correlation.argmax()), correlation.shape)
            middle = matrix[:3, :3] @ np.array(at) + matrix[:3, 3]
            peaks.append(Placement(float(correlation[at]), linear, middle))
            correlation[tuple(slice(max(0, i - width), i + width + 1) for i in at)] = -1.0
        return peaks

    def _central(self, spectrum: np.ndarray, reach: int) -> np.ndarray:
        """Return the sums for a patch whose middle lies on each voxel of the head."""
        sums = fft.irfftn(spectrum, self.shape)
        moved: np.ndarray = np.roll(sums, (reach,) * 3, axis=(0, 1, 2))
        return moved[tuple(slice(side) for side in self.head.volume.shape)]


def _reach(size: float, spacing_mm: float) -> int:
    """Return the voxels from the middle of a patch to its edge."""
    return int(np.ceil(size * _RADIUS_MM / spacing_mm))


def _sampled(image: Image, points: Float64[np.ndarray, "3 n"]) -> Float64[np.ndarray, " n"]:
    """Return an image's values at points in millimetres: linear, 0 outside."""
    back = np.linalg.inv(image.space.matrix)
    voxels = back[:3, :3] @ points + back[:3, 3:]
    values: np.ndarray = ndimage.map_coordinates(image.volume, voxels, order=1, output=np.float64)
    return values
