"""Optimisation of one placement: the highest correlation of template and head near a start.

Both are centred and scaled to norm 1. Then half their squared distance is 1 minus their Pearson
correlation, which Gauss-Newton steps raise (Evangelidis and Psarakis 2008, IEEE Transactions on
Pattern Analysis and Machine Intelligence 30(10), doi:10.1109/TPAMI.2008.113). The steps are damped
(Levenberg and Marquardt): one that would lower the correlation is tried again, shorter. So a start
is never left for something worse, as happens with gradient descent of a fixed step length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64
from scipy import ndimage
from scipy.spatial.transform import Rotation

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.placement import CENTRE_MM, Placement

_RADIUS_MM = 70.0  # of a brain: parameters in mm of its surface have one unit
_LEAST_INSIDE = 0.5  # of the compared points: with fewer in the scan nothing can be said
_DAMPING = (1e-4, 1e-2)  # the least and the first, as shares of the Hessian's diagonal
_EVEN = 1e-6  # what varies less than this share of its values is even
_LONGEST_LOG_SIZE = 0.2  # of one step


class _Compared(NamedTuple):
    """Template and head at one placement; n are the compared points inside the scan."""

    correlation: float
    difference: Float64[np.ndarray, " n"]
    head: Float64[np.ndarray, " n"]
    gradient: Float64[np.ndarray, "3 n"]
    points: Float64[np.ndarray, "3 n"]


@dataclass(frozen=True)
class Alignment:
    """The compared voxels of the template, and a head.

    Attributes
    ----------
    points
        The voxels' millimetres in MNI152, from the middle of the template's brain.
    template
        Its values there.
    head
        The scan.
    slopes
        The head's differences per voxel, along each axis.
    """

    points: Float64[np.ndarray, "3 n"]
    template: Float64[np.ndarray, " n"]
    head: Image
    slopes: tuple[Float32[np.ndarray, "d h w"], ...]

    @classmethod
    def of(cls, template: Image, compared: Image, head: Image) -> Alignment:
        """Return the alignment of a template, over its mask of compared voxels, with a head."""
        voxels = np.argwhere(compared.volume > 0).T
        matrix = template.space.matrix
        points = _times(matrix[:3, :3], voxels) + (matrix[:3, 3] - CENTRE_MM)[:, None]
        values = template.volume[tuple(voxels)].astype(np.float64)
        slopes = tuple(
            np.gradient(head.volume, axis=axis) if side > 1 else np.zeros_like(head.volume)
            for axis, side in enumerate(head.volume.shape)
        )
        return cls(points, values, head, slopes)

    def optimise(
        self, start: Placement, iterations: int, within_mm: float, *, affine: bool
    ) -> Placement | None:
        """Return the placement of the highest correlation near a start.

        Parameters
        ----------
        start
            Where to begin; its correlation is not used.
        iterations
            The most placements that are compared.
        within_mm
            Steps shorter than this, on the brain's surface, end the optimisation.
        affine
            All 12 parameters; else turn, one size, and shift.

        Returns
        -------
        The placement; None where less than half of the compared points lie inside the scan, or
        where the scan is even.
        """
        now = self._compared(start)
        if now is None:
            return None
        best = Placement(now.correlation, start.linear, start.middle_mm)
        damping = _DAMPING[1]
        for _ in range(iterations):
            changes = _changes(now, best.linear, affine)
            hessian = np.einsum("in,jn->ij", changes, changes)
            slope = (changes * now.difference).sum(axis=1)
            # The trace keeps a parameter that changes nothing from a division by 0.
            damped = np.diag(hessian) + 1e-12 * np.trace(hessian) + 1e-300
            step = np.linalg.solve(hessian + damping * np.diag(damped), slope)
            there = _moved(best, step, affine)
            found = self._compared(there)
            better = found is not None and found.correlation > best.correlation
            if found is not None and better:
                now = found
                best = Placement(found.correlation, there.linear, there.middle_mm)
                damping = max(damping / 4, _DAMPING[0])
            else:
                damping *= 4
            if np.linalg.norm(step) < within_mm:
                break
        return best

    def _compared(self, at: Placement) -> _Compared | None:
        """Return template and head at a placement; None where they overlap too little."""
        back = np.linalg.inv(self.head.space.matrix)
        linear = back[:3, :3] @ at.linear
        origin = back[:3, :3] @ at.middle_mm + back[:3, 3]
        voxels = _times(linear, self.points) + origin[:, None]
        last = np.array(self.head.volume.shape)[:, None] - 0.5
        inside = ((voxels >= -0.5) & (voxels <= last)).all(axis=0)
        if inside.mean() < _LEAST_INSIDE:
            return None
        template, voxels = self.template[inside], voxels[:, inside]
        template = template - template.mean()
        template /= np.sqrt((template**2).sum())
        head = _at(self.head.volume, voxels)
        squares = (head**2).sum()
        head -= head.mean()
        norm = np.sqrt((head**2).sum())
        if norm <= _EVEN * np.sqrt(squares):
            return None
        head /= norm
        slopes = np.stack([_at(slope, voxels) for slope in self.slopes]) / norm
        gradient = _times(back[:3, :3].T, slopes)
        return _Compared(float((template * head).sum()), template - head, head, gradient,
                         self.points[:, inside])  # fmt: skip


def _changes(
    now: _Compared, linear: Float64[np.ndarray, "3 3"], affine: bool
) -> Float64[np.ndarray, "p n"]:
    """Return how the head's scaled values change with each parameter, per mm."""
    if affine:
        parts = [slope * now.points / _RADIUS_MM for slope in now.gradient]
    else:
        turned = _times(linear.T, now.gradient)
        (x, y, z), (right, front, top) = now.points, turned
        turns = np.stack([y * top - z * front, z * right - x * top, x * front - y * right])
        size = (turned * now.points).sum(axis=0)[None]
        parts = [turns / _RADIUS_MM, size / _RADIUS_MM]
    raw = np.concatenate([*parts, now.gradient])
    # Mean and norm stay 0 and 1, so what would change them is taken out.
    raw -= raw.mean(axis=1, keepdims=True)
    along = (raw * now.head).sum(axis=1)
    changes: np.ndarray = raw - along[:, None] * now.head
    return changes


def _moved(start: Placement, step: Float64[np.ndarray, " p"], affine: bool) -> Placement:
    """Return the placement after a step in mm on the brain's surface."""
    parameters = step[:-3] / _RADIUS_MM
    if affine:
        linear = start.linear + parameters.reshape(3, 3)
    else:
        size = np.exp(np.clip(parameters[3], -_LONGEST_LOG_SIZE, _LONGEST_LOG_SIZE))
        linear = size * start.linear @ Rotation.from_rotvec(parameters[:3]).as_matrix()
    return Placement(np.nan, linear, start.middle_mm + step[-3:])


def _times(
    matrix: Float64[np.ndarray, "3 3"], points: Float64[np.ndarray, "3 n"]
) -> Float64[np.ndarray, "3 n"]:
    """Return the points after a matrix: not by BLAS, whose digits depend on its threads."""
    product: np.ndarray = np.einsum("ij,jn->in", matrix, points)
    return product


def _at(
    volume: Float32[np.ndarray, "d h w"], voxels: Float64[np.ndarray, "3 n"]
) -> Float64[np.ndarray, " n"]:
    values: np.ndarray = ndimage.map_coordinates(
        volume, voxels, order=1, mode="nearest", output=np.float64
    )
    return values
