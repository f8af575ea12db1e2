"""MMD^2 of two large sets: kernel sums over tiles of pairs, which are never all in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from synthbench.metrics.inference import sections
from synthbench.metrics.inference.pairs import ratio, subject_sums, variance_of_mean
from synthbench.metrics.inference.resampling import GROUP_ROWS
from synthbench.metrics.inference.tiles import Images, Tile, digest, rectangle, triangle
from synthbench.metrics.kernels import subject_means
from synthbench.metrics.metric import Weights, ones
from synthbench.metrics.subjects import n_subjects

Kernel = Callable[[Float64[np.ndarray, "k d"], Float64[np.ndarray, "l d"]], np.ndarray]
"""A function of two matrices of rows to the matrix of their kernel."""


class Sums(NamedTuple):
    """What one pass over all tiles gives, under each row of weights.

    Attributes
    ----------
    within_real, within_synth, across
        The three mean kernels.
    terms
        For each role, each image's mean kernel with its own set minus that with the other set.
    """

    within_real: Float64[np.ndarray, " b"]
    within_synth: Float64[np.ndarray, " b"]
    across: Float64[np.ndarray, " b"]
    terms: Mapping[str, Float64[np.ndarray, "b n"]]


class MeanKernels(ABC):
    """What follows from the three mean kernels of MMD^2, however they are computed."""

    @abstractmethod
    def mean_kernels(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The mean kernel within the real set, within the synthetic set, and between them."""

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The weighted U-statistic: pairs of one subject, and so of one image, are left out."""
        within_real, within_synth, across = self.mean_kernels(weights)
        u: Float64[np.ndarray, " b"] = within_real + within_synth - 2 * across
        return u

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum |A| + |B| + 2 |C| of the three mean kernels in MMD^2 = A + B - 2 C."""
        a, b, c = (np.abs(mean) for mean in self.mean_kernels(weights))
        terms: Float64[np.ndarray, " b"] = a + b + 2 * c
        return terms


class Squares(NamedTuple):
    """What the variance under relabelling needs, from a pass over the pairs of subjects.

    Attributes
    ----------
    rows
        For each role, each subject's sum of mean kernels with all other subjects, minus `origin`.
    total
        The sum of squares of (mean kernel - origin), over ordered pairs of distinct subjects.
    """

    rows: Mapping[str, Float64[np.ndarray, " _"]]
    total: float


ROLES = ("real", "synth")
ORIGIN_IMAGES = 64
"""Images of each set whose mean kernel is the origin of squares."""


@dataclass(frozen=True)
class BlockedDiscrepancy(MeanKernels):
    """MMD^2 of two sets as a function of weights, from their rows.

    Its numbers are those of `synthbench.metrics.mmd.KernelDiscrepancy`, up to rounding. A pass
    computes all kernels once, a tile at a time, and multiplies each tile with all rows of weights:
    time O((n + m)^2 (d + b)), memory O((n + m) b) beside the features and one tile. Kernels within
    a set are symmetric, so that half of the tiles are enough; where both sets are one, as for a
    floor, one triangle serves all three terms.

    Attributes
    ----------
    real, synth
        One row per image.
    kernel
        The kernel between rows.
    subjects
        For each role, the subject index of each image.
    origin
        What is subtracted from each row before the kernel; None: nothing.
    """

    real: Float[np.ndarray, "n d"]
    synth: Float[np.ndarray, "m d"]
    kernel: Kernel
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    origin: Float64[np.ndarray, " d"] | None = None
    _known: dict[bytes, Sums] = field(default_factory=dict, repr=False, compare=False)

    @property
    def numbers_per_row(self) -> int:
        """The weights and their sums within subjects, and the terms of a section and of all."""
        return 4 * (len(self.real) + len(self.synth))

    def ahead(self, weights: Weights) -> None:
        """Compute the sums under weights of one, and under some rows that will be asked for.

        One pass gives all of them. A call with one of these rows or with all of them needs no other
        pass.
        """
        both = {role: np.vstack([w, weights[role]]) for role, w in ones(self).items()}
        sums, squares = self._whole_pass(both, squares=True)
        self.__dict__["_at_ones"] = _rows_of(sums, slice(0, 1)), squares
        self._known[_name(weights)] = _rows_of(sums, slice(1, None))

    def mean_kernels(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The mean kernel within the real set, within the synthetic set, and between them."""
        sums = self._sums(weights)
        return sums.within_real, sums.within_synth, sums.across

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image, as `KernelDiscrepancy.contributions`."""
        return {role: 2 * terms for role, terms in self._sums(weights).terms.items()}

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = 4 var(g)/n + 4 var(h)/m, the variance of the U-statistic's first-order term."""
        return self.value_and_variance(weights)[1]

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The value and the variance, from one pass."""
        sums = self._sums(weights)
        variance = np.zeros(len(sums.across))
        for role, terms in sums.terms.items():
            w, index = weights[role], self.subjects[role]
            for start in range(0, len(w), GROUP_ROWS):  # its temporary matrices are many
                rows = slice(start, start + GROUP_ROWS)
                variance[rows] += variance_of_mean(2 * terms[rows], w[rows], index)
        return sums.within_real + sums.within_synth - 2 * sums.across, variance

    def null_variance(self) -> float:
        """The variance under relabelling of subjects, as `KernelDiscrepancy.null_variance`.

        The square of a centred kernel k - r_s - r_t + mean is expanded, so that the pass which
        gives the row means r also gives the squares. All terms are relative to a kernel `c` near
        the mean: so they are of the size of the result, and no digits are lost.
        """
        squares, c = self._squares, self._square_origin
        n, m = (n_subjects(self.subjects[role]) for role in ROLES)
        others = n + m - 1
        sums = np.concatenate([squares.rows[role] for role in ROLES])
        rows = sums / others + c
        shifts = rows - (c + float(rows.mean())) / 2
        square = (
            squares.total
            - 4 * float(shifts @ sums)
            + 2 * (others - 1) * float(shifts @ shifts)
            + 2 * float(shifts.sum()) ** 2
        )
        return 2 * (1 / n + 1 / m) ** 2 * square / ((n + m) * others)

    @cached_property
    def _images(self) -> dict[str, Images]:
        real = Images(self.real, self.subjects["real"], self.origin)
        if self._one_set:
            return {"real": real, "synth": real}
        return {"real": real, "synth": Images(self.synth, self.subjects["synth"], self.origin)}

    @cached_property
    def _one_set(self) -> bool:
        """True where both roles hold one set, as for a floor."""
        return self.real is self.synth and np.array_equal(
            self.subjects["real"], self.subjects["synth"]
        )

    @cached_property
    def _square_origin(self) -> float:
        few = [self._images[role].block(slice(0, ORIGIN_IMAGES)) for role in ROLES]
        return float(self.kernel(*few).mean())

    def _sums(self, weights: Weights) -> Sums:
        """Return the sums under each row of weights; those at weights of one are kept."""
        if len(weights["real"]) == 1 and all((w == 1).all() for w in weights.values()):
            return self._at_ones[0]
        if self._known and (found := self._known.get(_name(weights))):
            return found
        return self._pass(weights)

    @cached_property
    def _at_ones(self) -> tuple[Sums, Squares | None]:
        # A floor needs no squares, and one triangle is enough without them.
        return self._whole_pass(ones(self), squares=not self._one_set)

    @property
    def _squares(self) -> Squares:
        squares = self._at_ones[1]
        if squares is None:
            squares = self._whole_pass(ones(self), squares=True)[1]
            assert squares is not None
        return squares

    def _pass(self, weights: Weights) -> Sums:
        return self._whole_pass(weights, squares=False)[0]

    def _whole_pass(self, weights: Weights, *, squares: bool) -> tuple[Sums, Squares | None]:
        """Return the sums under each row of weights, and the squares of kernels where wanted."""
        images = self._images
        work = _Work(
            images,
            {role: images[role].in_order(weights[role]) for role in ROLES},
            self.kernel,
            self._square_origin if squares else None,
        )
        one_set = self._one_set and not squares
        tiles = (
            [(ROLES, tile) for tile in triangle(images["real"].ranges)]
            if one_set
            else [
                (roles, tile)
                for roles in (("real", "real"), ROLES, ("synth", "synth"))
                for tile in (
                    rectangle(*(images[role].ranges for role in roles))
                    if roles == ROLES
                    else triangle(images[roles[0]].ranges)
                )
            ]
        )
        compute = work.of_one_set if one_set else work.of_two_sets
        named = partial(self._depends_on, weights, squares)
        total: dict[str, np.ndarray] = {}
        for found in sections.in_sections(_kernel_name(self.kernel), named, tiles, compute):
            for name, part in found.items():
                if name in total:
                    total[name] += part
                else:
                    total[name] = np.array(part)  # not the keeper's own
        n, m = (w.sum(axis=1) for w in work.weights.values())
        sums = Sums(
            ratio(total["within real"], work.pairs("real")),
            ratio(total["within synth"], work.pairs("synth")),
            ratio(total["across"], n * m),
            {role: images[role].as_given(total[role]) for role in ROLES},
        )
        if not squares:
            return sums, None
        rows = {role: total[f"rows {role}"] for role in ROLES}
        return sums, Squares(rows, float(total["squares"][0]))

    def _depends_on(
        self, weights: Weights, squares: bool
    ) -> Sequence[np.ndarray | str | float | bytes]:
        images = self._images
        return [
            *(images[role].digest for role in ROLES),
            _kernel_name(self.kernel),
            *(value for value in _kernel_settings(self.kernel)),
            *(weights[role] for role in ROLES),
            repr(squares),
        ]


@dataclass(frozen=True)
class _Work:
    """A pass over tiles: what is added of each of them.

    Attributes
    ----------
    images
        Those of each role.
    weights
        In the order of the subjects.
    kernel
        The kernel between rows.
    origin
        Squares are of the kernel minus this; None: there are none.
    """

    images: Mapping[str, Images]
    weights: Weights
    kernel: Kernel
    origin: float | None

    def pairs(self, role: str) -> Float64[np.ndarray, " b"]:
        """Return the weight of all ordered pairs of distinct subjects of a role."""
        w = self.weights[role]
        squares: Float64[np.ndarray, " b"] = (self._of_subjects[role] ** 2).sum(axis=1)
        pairs: Float64[np.ndarray, " b"] = w.sum(axis=1) ** 2 - squares
        return pairs

    @cached_property
    def _of_subjects(self) -> dict[str, Float64[np.ndarray, "b s"]]:
        return {role: subject_sums(w, self.images[role].index) for role, w in self.weights.items()}

    @cached_property
    def _totals(self) -> dict[str, Float64[np.ndarray, "b 1"]]:
        return {role: w.sum(axis=1, keepdims=True) for role, w in self.weights.items()}

    def of_two_sets(self, tiles: Sequence[tuple[tuple[str, str], Tile]]) -> dict[str, np.ndarray]:
        """Return the sums over tiles within and between two sets."""
        sums = self._zeros()
        for (left, right), tile, kernel in self._kernels(tiles):
            if left == right:
                self._without_subjects(left, tile, kernel)
                self._add_within(sums, left, tile, kernel)
            else:
                self._add_across(sums, tile, kernel)
            if self.origin is not None:
                self._add_squares(sums, (left, right), tile, kernel)
        return sums

    def of_one_set(self, tiles: Sequence[tuple[tuple[str, str], Tile]]) -> dict[str, np.ndarray]:
        """Return the sums over the tiles of one set, which has both roles."""
        sums = self._zeros()
        for _, tile, kernel in self._kernels(tiles):
            self._add_across(sums, tile, kernel)
            if tile.on_diagonal:
                self._without_subjects("real", tile, kernel)
            else:
                self._add_across(sums, Tile(tile.columns, tile.rows), kernel.T)
            for role in ROLES:
                self._add_within(sums, role, tile, kernel)
        return sums

    def _zeros(self) -> dict[str, np.ndarray]:
        b = len(self.weights["real"])
        sums: dict[str, np.ndarray] = {role: np.zeros(w.shape) for role, w in self.weights.items()}
        sums |= {name: np.zeros(b) for name in ("within real", "within synth", "across")}
        if self.origin is not None:
            sums["squares"] = np.zeros(1)
            for role in ROLES:
                sums[f"rows {role}"] = np.zeros(n_subjects(self.images[role].index))
        return sums

    def _kernels(
        self, tiles: Sequence[tuple[tuple[str, str], Tile]]
    ) -> Iterator[tuple[tuple[str, str], Tile, Float64[np.ndarray, "k l"]]]:
        """Yield each tile with its kernels. Neighbouring tiles have the same rows."""
        held: tuple[str, slice] | None = None
        rows = np.zeros((0, 0))
        for (left, right), tile in tiles:
            if held != (left, tile.rows):
                held, rows = (left, tile.rows), self.images[left].block(tile.rows)
            same = tile.on_diagonal and self.images[left] is self.images[right]
            columns = rows if same else self.images[right].block(tile.columns)
            yield (left, right), tile, self.kernel(rows, columns)

    def _without_subjects(self, role: str, tile: Tile, kernel: Float64[np.ndarray, "k l"]) -> None:
        """Set pairs within a subject to zero. Only tiles on the diagonal have such pairs."""
        if tile.on_diagonal:
            index = self.images[role].index[tile.rows]
            kernel[index[:, None] == index] = 0.0

    def _add_within(
        self, sums: dict[str, np.ndarray], role: str, tile: Tile, kernel: Float64[np.ndarray, "k l"]
    ) -> None:
        """Add a tile of pairs of one set, and its transpose."""
        w = self.weights[role]
        row_sums = _product(w[:, tile.columns], kernel)
        times = 1 if tile.on_diagonal else 2
        sums[f"within {role}"] += times * (row_sums * w[:, tile.rows]).sum(axis=1)
        sums[role][:, tile.rows] += ratio(row_sums, self._others(role, tile.rows))
        if not tile.on_diagonal:
            column_sums = _product(w[:, tile.rows], kernel.T)
            sums[role][:, tile.columns] += ratio(column_sums, self._others(role, tile.columns))

    def _others(self, role: str, rows: slice) -> Float64[np.ndarray, "b k"]:
        """Return the weight of all images of other subjects, for some images."""
        index = self.images[role].index[rows]
        others: Float64[np.ndarray, "b k"] = self._totals[role] - self._of_subjects[role][:, index]
        return others

    def _add_across(
        self, sums: dict[str, np.ndarray], tile: Tile, kernel: Float64[np.ndarray, "k l"]
    ) -> None:
        """Add a tile of pairs of both sets."""
        w, v = self.weights["real"], self.weights["synth"]
        to_synth = _product(v[:, tile.columns], kernel)
        sums["across"] += (to_synth * w[:, tile.rows]).sum(axis=1)
        sums["real"][:, tile.rows] -= ratio(to_synth, self._totals["synth"])
        to_real = _product(w[:, tile.rows], kernel.T)
        sums["synth"][:, tile.columns] -= ratio(to_real, self._totals["real"])

    def _add_squares(
        self,
        sums: dict[str, np.ndarray],
        roles: tuple[str, str],
        tile: Tile,
        kernel: Float64[np.ndarray, "k l"],
    ) -> None:
        """Add squares and row sums of mean kernels over the pairs of subjects of a tile.

        A tile within a set stands for its transpose too, and one between the sets for both orders.
        """
        (left, right), spans = roles, (tile.rows, tile.columns)
        (first, rows), (start, columns) = (
            (int(index[0]), index - index[0])
            for index in (self.images[r].index[s] for r, s in zip(roles, spans, strict=True))
        )
        within = left == right and tile.on_diagonal
        means = subject_means(kernel, rows, columns)
        means -= self.origin
        if within:
            np.fill_diagonal(means, 0.0)
        sums["squares"] += (1 if within else 2) * np.vdot(means, means)
        sums[f"rows {left}"][first : first + len(means)] += means.sum(axis=1)
        if not within:
            sums[f"rows {right}"][start : start + means.shape[1]] += means.sum(axis=0)


def _product(
    w: Float64[np.ndarray, "b n"], kernel: Float64[np.ndarray, "k n"]
) -> Float64[np.ndarray, "b k"]:
    """Return w K', some rows at a time, so that a row rounds alike whatever their number."""
    groups = range(0, len(w), GROUP_ROWS)
    return np.concatenate([w[start : start + GROUP_ROWS] @ kernel.T for start in groups])


def _rows_of(sums: Sums, rows: slice) -> Sums:
    """Return copies of the sums under some rows of weights."""
    return Sums(
        sums.within_real[rows], sums.within_synth[rows], sums.across[rows],
        {role: terms[rows].copy() for role, terms in sums.terms.items()},
    )  # fmt: skip


def _name(weights: Weights) -> bytes:
    return digest(*(weights[role] for role in ROLES))


def _kernel_name(kernel: Kernel) -> str:
    of = kernel.func if isinstance(kernel, partial) else kernel
    return str(getattr(of, "__name__", type(of).__name__))


def _kernel_settings(kernel: Kernel) -> list[float]:
    return list(kernel.keywords.values()) if isinstance(kernel, partial) else []
