"""Patches of volumes: the real subjects that each synthetic patch is nearest to.

A patch is a cube of voxels around a place. It is compared with the patches of real images at the
same place, so all images must be registered to one grid. Places lie on a regular grid inside the
mask, and only voxels inside the mask count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.metric import VolumeSource
from synthbench.metrics.subjects import n_subjects

BLOCK_BYTES = 2**28
"""Bytes of the part of the grid that is read of all volumes at once. It is no share of the memory:
the order of the places, and so the last digits of a sum over them, must not depend on that."""

_ROWS = 512  # synthetic patches that are compared at a time with all real ones

MOST_REAL = 100
"""Training and hold-out images, per side, between which distances are taken."""


Patches = tuple[Float64[np.ndarray, "m v"], Float64[np.ndarray, "n v"], Float64[np.ndarray, "n v"]]
"""The synthetic, the real and the mirrored real patches of a place, one row per image."""


@dataclass(frozen=True)
class Rule:
    """What is compared, and when a patch counts as a copy.

    Attributes
    ----------
    sides
        Sides of the cubes, in voxels; odd numbers.
    places
        Largest number of places.
    ratio
        A patch is a copy of a subject where its distance to that subject is smaller than this
        ratio times the distance to every other real subject.
    floor
        Smaller distances are set to this. The unit is the median distance of a real patch to the
        nearest one of another subject, at the same place.
    """

    sides: tuple[int, ...]
    places: int
    ratio: float
    floor: float


@dataclass(frozen=True)
class Found:
    """The nearest real subjects of patches of one side.

    Attributes
    ----------
    nearest
        The real subject whose patch is nearest, training subjects first; -1 at places where real
        patches are equal. Where subjects have
        several scans there are several rounds; each represents a subject by one of its scans.
    copied
        True where the patch is a copy of that subject.
    gaps
        Mean over places of log(d_H / d_T) of each synthetic image, at equal numbers of subjects.
    by_chance
        For each place, the share of real patches that are copies of another real subject, by the
        same rule: a coincidence, since no real patch is a copy.
    """

    nearest: Int64[np.ndarray, "k m p"]
    copied: Bool[np.ndarray, "k m p"]
    gaps: Float64[np.ndarray, " m"]
    by_chance: Float64[np.ndarray, " p"]

    def shares(self, n: int) -> Float64[np.ndarray, " s"]:
        """Return, for each of n real subjects, the share of all patches that are its copies."""
        return _shares(self.nearest[self.copied], n, self.nearest.size)

    def nearest_shares(self, n: int) -> Float64[np.ndarray, " s"]:
        """Return, for each of n real subjects, the share of all patches that it is nearest to."""
        return _shares(self.nearest[self.nearest >= 0], n, self.nearest.size)


def _shares(subjects: Int64[np.ndarray, " q"], n: int, size: int) -> Float64[np.ndarray, " s"]:
    shares: Float64[np.ndarray, " s"] = np.bincount(subjects, minlength=n) / size
    return shares


@dataclass(frozen=True)
class Search:
    """The result of comparing patches.

    `arrays` has all of it, and `of_arrays` makes it again from there.

    Attributes
    ----------
    places
        The voxel at the centre of each place's patches.
    stride
        Voxels between neighbouring places, along each axis.
    found
        By the side of the cubes in voxels.
    between_real
        Mean distance between real images, over places and sides, in units of the median distance
        to the nearest one; one image per subject, as many of training as of the hold-out.
    """

    places: Int64[np.ndarray, "p 3"]
    stride: int
    found: Mapping[int, Found]
    between_real: Float64[np.ndarray, "r r"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        named = {
            f"{name} {side}": array
            for side, found in self.found.items()
            for name, array in vars(found).items()
        }
        whole = {"places": self.places, "stride": np.array(self.stride)}
        return {**whole, "between_real": self.between_real, **named}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], sides: Sequence[int]) -> Search:
        """Return the result with these arrays, for cubes of these sides."""
        found = {
            side: Found(**{field.name: arrays[f"{field.name} {side}"] for field in fields(Found)})
            for side in sides
        }
        return cls(arrays["places"], int(arrays["stride"]), found, arrays["between_real"])


def search(
    sources: Mapping[str, VolumeSource],
    index: Mapping[str, Int64[np.ndarray, " n"]],
    mask: Bool[np.ndarray, "d h w"],
    rule: Rule,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> Search:
    """Compare each synthetic patch with the real patches at its place, as they are and mirrored.

    Memory: `BLOCK_BYTES`, the patches of one place, distances of 512 of them, and 9 bytes for each
    cube of each synthetic image. Each volume is read once for each block of the grid.

    Parameters
    ----------
    sources
        "synth", "train" and "holdout": volumes on one grid in RAS+, so that axis 0 is left-right.
    index
        The subject of each image, by the same names.
    mask
        The voxels that are compared.
    rule
        The cubes, the places, and what a copy is.
    rng
        Draws the real images between which distances are taken, where there are too many.
    progress
        Called with the number of places done and the number of all places.

    Raises
    ------
    MetricError
        The mask is empty, a volume is on another grid or not finite, or real patches of different
        subjects are equal at every place.
    """
    places, stride = grid_places(mask, rule.places)
    n_train = n_subjects(index["train"])
    real = np.concatenate([index["train"], n_train + index["holdout"]])
    rounds = scans_by_round(real)
    pool = _matched(n_train, n_subjects(real), rng)
    shape = (len(rounds), len(sources["synth"]), len(places))
    found = {
        side: Found(
            np.full(shape, -1), np.zeros(shape, np.bool_), np.zeros(shape[1]), np.zeros(shape[2])
        )
        for side in rule.sides
    }
    between = np.zeros((len(pool), len(pool)))
    compared = 0
    for done, (place, side, (synth, of_real, mirrored)) in enumerate(
        patches(sources, mask, places, rule.sides)
    ):
        if progress is not None and done % len(rule.sides) == 0:
            progress(done // len(rule.sides) + 1, len(places))
        own = distances_between(of_real[rounds[0][pool]], of_real[rounds[0][pool]])
        np.fill_diagonal(own, np.inf)
        unit = float(np.median(own.min(axis=1)))
        if unit == 0:  # equal patches, as in an even background: nothing to compare
            continue
        _, alike = nearest_subject(np.log(own.clip(min=rule.floor * unit)), rule.ratio)
        found[side].by_chance[place] = alike.mean()
        np.fill_diagonal(own, 0)
        between += own / unit
        compared += 1
        for start in range(0, len(synth), _ROWS):
            some = slice(start, start + _ROWS)
            to_real = np.minimum(
                distances_between(synth[some], of_real), distances_between(synth[some], mirrored)
            )
            for k, scans in enumerate(rounds):
                logs = np.log(to_real[:, scans].clip(min=rule.floor * unit))
                nearest, copied = nearest_subject(logs, rule.ratio)
                found[side].nearest[k, some, place] = nearest
                found[side].copied[k, some, place] = copied
                found[side].gaps[some] += contrast(logs, n_train) / (len(rounds) * len(places))
    if compared == 0:
        raise MetricError(
            "local_copying: real patches of different subjects are equal at every place inside "
            "the mask. Remove duplicates from the training set and the hold-out.",
            "equal images",
        )
    return Search(places, stride, found, between / compared)


def patches(
    sources: Mapping[str, VolumeSource],
    mask: Bool[np.ndarray, "d h w"],
    places: Int64[np.ndarray, "p 3"],
    sides: Sequence[int],
) -> Iterator[tuple[int, int, Patches]]:
    """Yield the index of a place, the side of its cubes, and the patches, side after side.

    Parameters
    ----------
    sources, mask
        As in `search`.
    places
        The voxels at which cubes are centred.
    sides
        Sides of the cubes, in voxels.
    """
    for block, inside in _blocks(sources, mask, places, max(sides) // 2):
        for place in inside:
            for side in sides:
                yield int(place), side, block.patches(places[place], side)


def nearest_subject(
    logs: Float64[np.ndarray, "m s"], ratio: float
) -> tuple[Int64[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """Return the nearest subject of each patch, and whether the patch is a copy of it.

    Parameters
    ----------
    logs
        Log distance of each patch from each subject.
    ratio
        A patch is a copy where its distance is less than this times that to all other subjects.
    """
    two = np.argpartition(logs, 1, axis=1)[:, :2]
    first, second = np.take_along_axis(logs, two, axis=1).T
    return two[:, 0], first < second + np.log(ratio)


def grid_places(mask: Bool[np.ndarray, "d h w"], most: int) -> tuple[Int64[np.ndarray, "p 3"], int]:
    """Return the finest regular grid that has at most `most` voxels inside the mask, and its step.

    Raises
    ------
    MetricError
        The mask is empty.
    """
    if not mask.any():
        raise MetricError(
            "local_copying: the mask holds no voxel. Check how it was made.", "empty mask"
        )
    stride = 0
    while True:
        stride += 1
        start = stride // 2
        inside = np.argwhere(mask[start::stride, start::stride, start::stride])
        if 0 < len(inside) <= most:
            return inside * stride + start, stride
        if len(inside) == 0:  # a mask that falls between the places of every coarser grid
            inside = np.argwhere(mask)
            return inside[:: -(-len(inside) // most)], stride


def scans_by_round(index: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " s"]]:
    """Return, for each round, the image that represents each subject.

    Round k takes scan k of each subject, and starts again at the first scan of those who have
    fewer. So a subject with many scans is no nearer to anything by chance than one with a single
    scan, and no scan is left out.
    """
    scans = [np.flatnonzero(index == subject) for subject in range(n_subjects(index))]
    return [
        np.array([own[k % len(own)] for own in scans])
        for k in range(max(len(own) for own in scans))
    ]


def contrast(logs: Float64[np.ndarray, "m s"], n_train: int) -> Float64[np.ndarray, " m"]:
    """Return the mean log distance to the nearest hold-out minus that to the nearest training one.

    The means are over all subsets of n subjects of a side, where n is the number of subjects of
    the smaller side. The i-th nearest of N subjects (from 0) is the nearest of a random subset
    with probability C(N - 1 - i, n - 1) / C(N, n).
    """
    sides = logs[:, :n_train], logs[:, n_train:]
    n = min(side.shape[1] for side in sides)
    of_train, of_holdout = (
        np.sort(side, axis=1) @ _nearest_of_subset(side.shape[1], n) for side in sides
    )
    difference: Float64[np.ndarray, " m"] = of_holdout - of_train
    return difference


def _nearest_of_subset(size: int, n: int) -> Float64[np.ndarray, " s"]:
    """Probability that each of `size` sorted subjects is the first in a random subset of n."""
    probabilities = np.zeros(size)
    beyond = 1.0  # the probability that the subset holds none of the subjects before this one
    for i in range(size - n + 1):
        probabilities[i] = beyond * n / (size - i)
        beyond -= probabilities[i]
    return probabilities


def _matched(n_train: int, n_all: int, rng: np.random.Generator) -> Int64[np.ndarray, " r"]:
    """Return equally many subjects of both sides, training first."""
    n = min(n_train, n_all - n_train, MOST_REAL)
    of_train = rng.permutation(n_train)[:n]
    of_holdout = n_train + rng.permutation(n_all - n_train)[:n]
    return np.concatenate([of_train, of_holdout])


def distances_between(
    x: Float64[np.ndarray, "n v"], y: Float64[np.ndarray, "m v"]
) -> Float64[np.ndarray, "n m"]:
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    distances: Float64[np.ndarray, "n m"] = np.sqrt(squares.clip(min=0))
    return distances


@dataclass(frozen=True)
class _Block:
    """All images in a block of the grid, with a margin that the largest cubes may enter.

    Its box is symmetric from left to right, so that a mirrored patch lies in it too.
    """

    synth: Float32[np.ndarray, "m a b c"]
    real: Float32[np.ndarray, "n a b c"]
    mask: Bool[np.ndarray, "a b c"]
    origin: Int64[np.ndarray, " 3"]

    def patches(self, place: Int64[np.ndarray, " 3"], side: int) -> Patches:
        """Return the synthetic, real and mirrored real patches of one place."""
        half = side // 2
        first = place - self.origin - half
        here = tuple(slice(int(start), int(start) + side) for start in first)
        last = len(self.mask) - int(first[0])
        there = (slice(last - side, last), *here[1:])
        counted = self.mask[here]
        real = self.real[(slice(None), *here)][:, counted].astype(np.float64)
        mirrored = self.real[(slice(None), *there)][:, ::-1][:, counted].astype(np.float64)
        synth = self.synth[(slice(None), *here)][:, counted].astype(np.float64)
        # Distances from inner products lose digits where all images share a large mean.
        centre = real.mean(axis=0)
        return synth - centre, real - centre, mirrored - centre


def _blocks(
    sources: Mapping[str, VolumeSource],
    mask: Bool[np.ndarray, "d h w"],
    places: Int64[np.ndarray, "p 3"],
    reach: int,
) -> Iterator[tuple[_Block, Int64[np.ndarray, " q"]]]:
    """Yield blocks of the grid, with the indices of the places that lie in each."""
    corners = np.argwhere(mask | mask[::-1])
    low, high = corners.min(axis=0), corners.max(axis=0) + 1
    images = sum(len(source) for source in sources.values())
    size = high - low
    # Axis 0 stays whole: a block holds the mirrored patches too.
    while 4 * images * int(np.prod(size + 2 * reach)) > BLOCK_BYTES and max(size[1:]) > 1:
        longer = 1 + int(np.argmax(size[1:]))
        size[longer] = -(-size[longer] // 2)
    for front in range(int(low[1]), int(high[1]), int(size[1])):
        for bottom in range(int(low[2]), int(high[2]), int(size[2])):
            start = np.array([low[0], front, bottom])
            stop = np.minimum(start + size, high)
            inside = np.flatnonzero(((places >= start) & (places < stop))[:, 1:].all(axis=1))
            if len(inside) == 0:
                continue
            box = np.array([start - reach, stop + reach])
            real = {role: sources[role] for role in ("train", "holdout")}
            synth = _read({"synth": sources["synth"]}, mask.shape, box)
            yield _Block(synth, _read(real, mask.shape, box), _cut(mask, box), box[0]), inside


def _read(
    sources: Mapping[str, VolumeSource], shape: tuple[int, ...], box: Int64[np.ndarray, "2 3"]
) -> Float32[np.ndarray, "n a b c"]:
    """Return the part of all volumes of the sources that lies in a box."""
    n = sum(len(source) for source in sources.values())
    parts: Float32[np.ndarray, "n a b c"] = np.zeros((n, *(box[1] - box[0])), np.float32)
    of_all = ((role, source, i) for role, source in sources.items() for i in range(len(source)))
    for part, (role, source, i) in zip(parts, of_all, strict=True):
        volume = np.asarray(source[i], dtype=np.float32)
        if volume.shape != shape:
            raise MetricError(
                f"local_copying: volumes and mask must share one grid; found {role}[{i}] of shape "
                f"{volume.shape} where the grid is {shape}. Bring all of them to one space.",
                "another grid",
            )
        if not np.isfinite(volume).all():
            raise MetricError(
                f"local_copying: {role}[{i}] holds NaN or infinity. Remove or fix it.",
                "intensities",
            )
        part[:] = _cut(volume, box)
    return parts


def _cut(volume: np.ndarray, box: Int64[np.ndarray, "2 3"]) -> np.ndarray:
    """Return the part of a volume in a box; beyond the grid there are zeros."""
    first, last = box
    size = np.array(volume.shape)
    (x, y, z), (x_end, y_end, z_end) = first.clip(min=0), np.minimum(last, size)
    part = volume[x:x_end, y:y_end, z:z_end]
    return np.pad(part, np.stack([(-first).clip(min=0), (last - size).clip(min=0)], axis=1))
