"""Comparing the positions of a set's volumes: turned, mirrored left-right, moved.

All functions take coarse copies on one grid, with 0 in the background and about 1 at the brightest
(`synthbench.cohorts.inspection`). Each volume is compared with the mean of the others, so that it
is never compared with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import fft, ndimage

SMOOTHING_CELLS = 0.75
"""Sigma of the Gaussian that removes the pattern of folds, which differs between persons."""

_NOISE = 0.02  # the least standard deviation of a cell
_STEPS = 3


@runtime_checkable
class Volumes(Protocol):
    """Coarse copies `Float32[a b c]` on one grid: an array, or one that reads each at its use."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, index: int, /) -> Any: ...


def smoothed(volume: Float32[np.ndarray, "a b c"]) -> Float32[np.ndarray, "a b c"]:
    """Return a volume blurred by `SMOOTHING_CELLS`."""
    return np.asarray(ndimage.gaussian_filter(volume, SMOOTHING_CELLS, mode="constant"))


@dataclass(frozen=True)
class Turn:
    """An exchange of axes, followed by a reversal of some of them.

    Attributes
    ----------
    order
        The axes that become the first, the second and the third.
    reversed_axes
        The axes that are reversed afterwards.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    reversed_axes: tuple[int, ...] = ()

    def __call__(self, volume: Float32[np.ndarray, "a b c"]) -> Float32[np.ndarray, "d e f"]:
        """Return a volume after the turn."""
        return np.flip(volume.transpose(self.order), self.reversed_axes)

    def __str__(self) -> str:
        exchanged = [str(i + 1) for i, axis in enumerate(self.order) if i != axis]
        parts = []
        if exchanged:
            parts.append(f"with axes {', '.join(exchanged[:-1])} and {exchanged[-1]} exchanged")
        if self.reversed_axes:
            sides = (("left-right", "front-back", "up-down")[axis] for axis in self.reversed_axes)
            parts.append(f"mirrored {' and '.join(sides)}")
        return " and ".join(parts) or "as it is"


def turns(shape: tuple[int, ...]) -> list[Turn]:
    """Return the turns that keep a shape and that a brain's outline shows; first "as it is".

    Mirroring left-right is not among them, because a brain's outline hardly shows it:
    `asymmetry_scores` finds it.
    """
    return [
        Turn(order, axes)
        for order in ((0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))
        if tuple(shape[axis] for axis in order) == tuple(shape)
        for axes in ((), (1,), (2,), (1, 2))
    ]


def is_shift(
    as_it_is: Float32[np.ndarray, "a b c"],
    turned: Float32[np.ndarray, "a b c"],
    reference: Float32[np.ndarray, "a b c"],
    least_gain: float,
) -> bool:
    """Return True where a shift explains what a turn seemed to explain.

    A displaced brain may overlap better when it is turned. A shift is the cheaper explanation: the
    turned volume, which may be shifted too, must correlate better by `least_gain`.
    """
    cells = (1.0, 1.0, 1.0)
    without = shifted_fit(as_it_is, reference, cells)[1]
    return without >= shifted_fit(turned, reference, cells)[1] - least_gain


def best_turns(
    stack: Volumes,
    least_gain: float,
    least_agreement: float,
) -> list[Turn]:
    """Return the turn of each volume after which it correlates best with the mean of the others.

    A volume stays as it is unless a turn raises Pearson's correlation by `least_gain`, and to
    `least_agreement`, and no shift does (`is_shift`): a brain in another place may overlap better
    when turned, and still not fit.
    """
    total = _sum(stack)
    best = []
    for volume in stack:
        others = total - volume
        turn = best_turn(_agreements(volume, others), least_gain, least_agreement)
        if turn != Turn() and is_shift(volume, turn(volume), others, least_gain):
            turn = Turn()
        best.append(turn)
    return best


def _sum(volumes: Iterable[np.ndarray]) -> Float64[np.ndarray, "a b c"]:
    total: np.ndarray = np.zeros(())
    for volume in volumes:
        total = total + volume
    return total


def _agreements(
    volume: Float32[np.ndarray, "a b c"], others: Float64[np.ndarray, "a b c"]
) -> dict[Turn, float]:
    """Return Pearson's correlation of a volume with another after each turn.

    A turn changes neither mean nor norm, so that one product per turn is left of `correlation`.
    """
    one = volume.astype(np.float64)
    one -= one.mean()
    other = (others - others.mean()).ravel()
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return {
        turn: round(float(turn(one).ravel() @ other / size), 12) if size > 0 else 0.0
        for turn in turns(volume.shape)
    }


def best_turn(agreements: Mapping[Turn, float], least_gain: float, least_agreement: float) -> Turn:
    """Return the best turn, by the rule of `best_turns`, from the correlation after each turn."""
    turn = max(agreements, key=agreements.__getitem__)
    gain = agreements[turn] - agreements[Turn()]
    return turn if gain > least_gain and agreements[turn] >= least_agreement else Turn()


def asymmetry_scores(
    stack: Iterable[np.ndarray] | Float32[np.ndarray, "n a b c"],
    against: Iterable[np.ndarray] | Float32[np.ndarray, "m a b c"] | None = None,
) -> Float64[np.ndarray, " n"]:
    """Return how well each volume's left-right asymmetry agrees with a set's, in [-1, 1].

    A volume's asymmetry is the volume minus its mirror image. Mirroring changes its sign, so the
    two classes "as it is" and "mirrored" have means of opposite sign and one covariance, and
    Fisher's discriminant between them (1936), with a diagonal covariance, weights the mean
    asymmetry by its inverse variance. The score is the cosine between that and the volume's own:
    a mirrored volume has the same score with the opposite sign.

    Parameters
    ----------
    stack
        The volumes; without `against` they are read twice.
    against
        The set; None: the other volumes of `stack`.
    """
    total, squares, n = np.zeros(()), np.zeros(()), 0
    for volume in stack if against is None else against:
        asymmetry = _asymmetry(volume)
        total, squares, n = total + asymmetry, squares + asymmetry**2, n + 1
    scores = []
    for volume in stack:
        asymmetry = _asymmetry(volume)
        left_out = asymmetry if against is None else np.zeros_like(asymmetry)
        k = n - 1 if against is None else n
        mean = (total - left_out) / k
        variance = np.maximum((squares - left_out**2) / k - mean**2, 0) + _NOISE**2
        direction = mean / variance
        size = np.linalg.norm(direction) * np.linalg.norm(asymmetry)
        scores.append(float(asymmetry @ direction / size) if size > 0 else 0.0)
    return np.array(scores)


def _asymmetry(volume: Float32[np.ndarray, "a b c"]) -> Float64[np.ndarray, " p"]:
    """Return a blurred volume minus its mirror image: one half of it."""
    blurred = smoothed(volume)
    half = (blurred - blurred[::-1])[: volume.shape[0] // 2]
    return np.asarray(half.ravel(), dtype=np.float64)


def displacements(
    stack: Volumes,
    spacing: tuple[float, float, float],
    reference: Float64[np.ndarray, "a b c"] | None = None,
) -> Float64[np.ndarray, "n 3"]:
    """Return the displacement of each volume from a reference, in mm along each axis.

    Gauss-Newton on the squared difference to the reference, with a free gain and offset
    (Lucas and Kanade 1981), in three steps; good to about 20 mm. NaN where the volume does not
    look like the reference at all (gain below a quarter).

    Parameters
    ----------
    reference
        The volume to compare with; None: the mean of the other volumes. It is computed from the
        mean of all volumes, which makes the estimate smaller by the share 1/n; this is corrected.
    """
    n = len(stack)
    correction = 1.0 if reference is not None else n / (n - 1)
    if reference is None:
        reference = _sum(stack) / n
    reference = ndimage.gaussian_filter(reference, SMOOTHING_CELLS, mode="constant")
    slopes = [slope.ravel() for slope in np.gradient(reference)]
    design = np.stack([*slopes, reference.ravel(), np.ones(reference.size)], axis=1)
    solution = np.linalg.pinv(design)
    moves = np.array([_move(smoothed(volume), solution) for volume in stack])
    return np.asarray(-moves * np.array(spacing) * correction, dtype=np.float64)


def _move(
    volume: Float32[np.ndarray, "a b c"], solution: Float64[np.ndarray, "5 p"]
) -> Float64[np.ndarray, " 3"]:
    """Return the cells to move a volume by, from the least-squares solution of the design."""
    moved = np.zeros(3)
    for _ in range(_STEPS):
        aligned = shifted(volume, moved)
        step = solution @ aligned.ravel()
        if step[3] < 0.25 or np.abs(moved).max() > min(volume.shape) / 2:
            return np.full(3, np.nan)
        moved += step[:3] / step[3]
    return moved


def shifted(
    volume: Float32[np.ndarray, "a b c"], cells: Float64[np.ndarray, " 3"]
) -> Float32[np.ndarray, "a b c"]:
    """Return a volume moved by cells along each axis: linear, zero from outside.

    It is what `scipy.ndimage.shift` computes with order 1 and mode "constant", one axis after the
    other, in a sixth of the time.
    """
    moved = volume
    for axis, by in enumerate(cells):
        if by == 0:
            continue
        source, n = np.moveaxis(moved, axis, 0), moved.shape[axis]
        whole = int(np.floor(by))
        part = np.float32(by - whole)
        target = np.zeros_like(source)
        low, high = max(0, whole + bool(part > 0)), min(n, n + whole)
        if low < high:
            target[low:high] = (1 - part) * source[low - whole : high - whole]
            if part > 0:
                target[low:high] += part * source[low - whole - 1 : high - whole - 1]
        moved = np.moveaxis(target, 0, axis)
    return moved


def spread(values: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the median, and a robust standard deviation: 1.4826 times the MAD.

    MAD is the median absolute deviation; the factor is right for a normal distribution. NaN are
    left out.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    median = float(np.median(known))
    return median, 1.4826 * float(np.median(np.abs(known - median)))


def outlying(
    values: Float64[np.ndarray, " n"], least: float, deviations: float = 6.0
) -> Bool[np.ndarray, " n"]:
    """Return a mask of the values far from the median: by `least`, and by robust deviations.

    Six deviations keep false alarms rare also where tails are heavier than normal: at most 1.3 in
    100 for any unimodal distribution (Vysochanskij and Petunin 1980: 4 / (9 * 6^2)), 2e-9 for the
    normal one. `least` is the smallest difference that matters in use.
    """
    median, deviation = spread(values)
    with np.errstate(invalid="ignore"):
        return np.abs(values - median) > max(least, deviations * deviation)


def shifted_fit(
    moved: Float32[np.ndarray, "a b c"],
    reference: Float32[np.ndarray, "a b c"],
    spacing: tuple[float, float, float],
) -> tuple[tuple[float, float, float], float]:
    """Return the displacement in mm after whose undoing a volume correlates best, and that value.

    All displacements are tried at once, by the cross-correlation of both volumes (Fourier), which
    are zero outside the grid; the best one is refined by a parabola along each axis. The
    correlation is Pearson's over the padded grid.
    """
    padded = [a + b - 1 for a, b in zip(moved.shape, reference.shape, strict=True)]
    # More zeros change no sum. A side whose length is a large prime takes several times as long.
    shape = tuple(fft.next_fast_len(side, real=True) for side in padded)
    one, other = moved.astype(np.float64), reference.astype(np.float64)
    n = float(np.prod(padded))
    means = one.sum() / n, other.sum() / n
    size = np.sqrt(((one**2).sum() - n * means[0] ** 2) * ((other**2).sum() - n * means[1] ** 2))
    if not size > 0:
        return (0.0, 0.0, 0.0), 0.0
    axes = (0, 1, 2)
    spectrum = fft.rfftn(one, shape, axes) * np.conj(fft.rfftn(other, shape, axes))
    found = (fft.irfftn(spectrum, shape, axes) - n * means[0] * means[1]) / size
    peak = np.unravel_index(int(found.argmax()), shape)
    fit, cells = float(found[peak]), []
    for axis, side in enumerate(shape):
        beside = [found[(*peak[:axis], (peak[axis] + step) % side, *peak[axis + 1 :])]
                  for step in (-1, 1)]  # fmt: skip
        bend = beside[0] - 2 * found[peak] + beside[1]
        part = 0.0 if bend >= 0 else 0.5 * (beside[0] - beside[1]) / bend
        fit -= 0.25 * (beside[0] - beside[1]) * part
        cells.append((peak[axis] + side // 2) % side - side // 2 + part)
    x, y, z = (float(cell * mm) for cell, mm in zip(cells, spacing, strict=True))
    return (x, y, z), min(fit, 1.0)
