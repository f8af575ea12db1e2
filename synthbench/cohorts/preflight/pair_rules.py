"""The rules of preflight on two sets; docs/preflight.md gives the reason of each threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64

from synthbench.cohorts.cohort import (
    BACKGROUND_MARGIN_MM,
    Entry,
    of_shared_persons,
    within_margin,
)
from synthbench.cohorts.inspection import correlation
from synthbench.cohorts.preflight import alignment
from synthbench.cohorts.preflight.findings import Finding, if_any, of_set
from synthbench.cohorts.preflight.near_identity import near_identical_across
from synthbench.cohorts.preflight.set_rules import CONTRADICTION, MIN_SCALE_FACTOR, is_centred
from synthbench.cohorts.preflight.survey import MIN_TURN_AGREEMENT, MIN_TURN_GAIN, Survey
from synthbench.cohorts.reading import PREPARE
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.intensity import BACKGROUND

MIN_SET_SHIFT_MM = 1.5
MIN_SHIFT_FIT = 0.9
"""The least correlation of displaced mean brains, after the shift, for nothing else to be wrong."""
MAX_SMALL_SHIFT_MM = 20.0
"""The largest displacement that `alignment.displacements` estimates well."""
MARGIN_CELLS = 12
"""Cells around the real grid in which a displaced brain is looked for: 72 mm."""
MIN_SIZE_RATIO = 2.3
MAX_LEVEL = 0.05
MIN_STRAY = 0.0005
MAX_STRAY_FACTOR = 3.0
SATURATED_LEVEL = 0.9

_ROLES = ("synth", "holdout", "real", "validation", "train")
"""The order of the roles: of two sets, the first is the one to fix."""

DRAWN = (
    "These volumes are as synthbench drew them, on the grid of their run (the sidecars say so): no "
    "header is wrong. The generator draws them so, or it learnt from volumes that were prepared in "
    "another way than the real ones. They are scored as they are."
)
"""What is said in place of a fix where the volumes cannot have been damaged on the way."""

_FIX_SHARED = {
    "synth": "If the generator copies, that is a result. If the folder is the wrong one, name "
    "another.",
    "holdout": "Draw the sides with synthbench data split.",
    "validation": "Draw the sides with synthbench data split.",
    "real": "Scores against training volumes are too good for a generator that copies: score "
    "against volumes that it never saw.",
}


class Pair:
    """The real set and another one, and comparisons of both.

    Attributes
    ----------
    real, other, role
        The two sets, and the role of the other.
    drawn
        True where a run of synthbench drew the other set, and it lies on the run's grid. Then a
        difference in anatomy is the generator's, and a warning.
    """

    def __init__(self, real: Survey, other: Survey, role: str, *, drawn: bool = False) -> None:
        self.real, self.other, self.role, self.drawn = real, other, role, drawn

    def differ(self, rule: str, what: str, fix: str) -> list[Finding]:
        """Return the finding that the anatomy of both sets differs, with what to do about it."""
        if self.drawn:
            return [of_set(rule, "warning", self.role, f"{what}. {DRAWN}")]
        return [of_set(rule, "error", self.role, f"{what}{fix}")]

    @property
    def comparable(self) -> bool:
        """True where the volumes of both can be compared."""
        return self.real.comparable and self.other.comparable

    def placed(self, volume: Float32[np.ndarray, "a b c"]) -> Float32[np.ndarray, "d e f"]:
        """Return a volume of the other set on the real one's coarse grid."""
        return resample(volume, self.other.coarse_grid, self.real.coarse_grid)

    @cached_property
    def stray(self) -> tuple[float, float] | None:
        """Shares of foreground among the voxels outside the real brains, of real and the other.

        The real brains are the cells that are foreground in half of the real volumes or more, with
        the margin of a scoring. None where the sets cannot be compared, or nothing lies outside.
        """
        if not (self.real.on_one_grid and self.other.on_one_grid):
            return None
        if self.turn != alignment.Turn():
            return None
        brains = self.real.occupied >= 0.5
        grid = self.real.coarse_grid
        if not brains.any():
            return None
        outside = ~within_margin(brains, grid, BACKGROUND_MARGIN_MM)
        if not outside.any():
            return None
        shares = (self.real.occupied, self.placed(self.other.occupied))
        return float(shares[0][outside].mean()), float(shares[1][outside].mean())

    @cached_property
    def similar(self) -> bool:
        """True where the other set looks like the real one, perhaps after a turn.

        Otherwise the generator failed, and its background is no mistake of preparation.
        """
        if not self.comparable:
            return True
        moved = self.placed(self.turn(self.other.mean))
        return bool(correlation(moved, self.real.mean) >= MIN_TURN_AGREEMENT)

    @cached_property
    def turn(self) -> alignment.Turn:
        """The turn after which the other set fits the real one; `Turn()` where it fits as it is."""
        if not self.comparable:
            return alignment.Turn()
        # Voxels are turned within their own field of view, as a mistake would turn them.
        agreements = {
            turn: correlation(self.placed(turn(self.other.mean)), self.real.mean)
            for turn in alignment.turns(self.other.mean.shape)
        }
        turn = alignment.best_turn(agreements, MIN_TURN_GAIN, MIN_TURN_AGREEMENT)
        if turn != alignment.Turn() and alignment.is_shift(
            self._around(), self._around(turn), self._real_around, MIN_TURN_GAIN
        ):
            turn = alignment.Turn()
        # With less than four deviations between the two, the sign of the asymmetry is not certain.
        if agreements[turn] < MIN_TURN_AGREEMENT or self.real.power.separation < 4:
            return turn
        moved = (self.placed(turn(volume)) for volume in self.other.copies)
        scores = alignment.asymmetry_scores(moved, against=self.real.upright)
        if np.median(scores) < -self.real.power.median / 2:
            return alignment.Turn(turn.order, (0, *turn.reversed_axes))
        return turn

    @cached_property
    def shift(self) -> tuple[tuple[float, float, float], float]:
        """The displacement in mm after which the mean brains correlate best, and how well then."""
        return alignment.shifted_fit(
            self._around(), self._real_around, self.real.coarse_grid.spacing
        )

    @cached_property
    def is_displaced(self) -> bool:
        """True where a shift alone brings the other set, which is elsewhere, onto the real one."""
        if not self.comparable or self.turn != alignment.Turn():
            return False
        as_they_are = correlation(self.placed(self.other.mean), self.real.mean)
        fit = self.shift[1]
        return fit >= MIN_SHIFT_FIT and fit > as_they_are + MIN_TURN_GAIN

    def fits(self) -> str:
        """Return how well the mean brains fit under each explanation, for a message."""
        if not self.comparable:
            return ""
        mean, real = self.other.mean, self.real.mean
        ways = {"as they are": correlation(self.placed(mean), real)}
        ways["displaced by {:+.0f} {:+.0f} {:+.0f} mm".format(*self.shift[0])] = self.shift[1]
        others = [turn for turn in alignment.turns(mean.shape) if turn != alignment.Turn()]
        best = max(others, key=lambda turn: correlation(self.placed(turn(mean)), real))
        cells = self.real.coarse_grid.spacing
        both = alignment.shifted_fit(self._around(best), self._real_around, cells)
        ways[str(best)] = correlation(self.placed(best(mean)), real)
        ways["{} and displaced by {:+.0f} {:+.0f} {:+.0f} mm".format(best, *both[0])] = both[1]
        listed = ", ".join(f"{way} {fit:.2f}" for way, fit in ways.items())
        return f" (correlation of the mean brains: {listed})"

    def _around(self, turn: alignment.Turn | None = None) -> Float32[np.ndarray, "d e f"]:
        """Return the other mean, turned, on the real grid and the space around it."""
        grid = self.real.coarse_grid
        corner = grid.matrix.copy()
        corner[:3, 3] -= corner[:3, :3] @ np.full(3, MARGIN_CELLS)
        wide = Space.of(tuple(side + 2 * MARGIN_CELLS for side in grid.shape), corner)
        mean = self.other.mean if turn is None else turn(self.other.mean)
        return resample(mean, self.other.coarse_grid, wide)

    @cached_property
    def _real_around(self) -> Float32[np.ndarray, "d e f"]:
        return np.pad(self.real.mean, MARGIN_CELLS)


def shared(surveys: Mapping[str, Survey]) -> list[Finding]:
    """Return findings on volumes and persons that are in two sets."""
    found = []
    roles = [role for role in _ROLES if role in surveys]
    for i, one in enumerate(roles):
        for other in roles[i + 1 :]:
            found += _shared_volumes(surveys[one].entries, surveys[other].entries, one, other)
            if one != "synth":
                found += _shared_persons(surveys[one].entries, surveys[other].entries, one, other)
    if len(roles) > 1:
        found += near_identical_across(surveys, roles, _FIX_SHARED)
    return found


def _shared_volumes(
    one: Sequence[Entry], other: Sequence[Entry], role: str, with_role: str
) -> list[Finding]:
    digests = {entry.digest for entry in other}
    names = [(entry.name, "") for entry in one if entry.digest in digests]
    # A few are copies, which the copying test counts. A set that is half real is a wrong folder.
    by_mistake = role != "synth" or 2 * len(names) >= len(one)
    return if_any(
        "identical-across", "error" if by_mistake else "warning", role, names,
        f"{len(names)} of {len(one)} {role} volumes are identical to volumes of {with_role}",
        _FIX_SHARED[role],
    )  # fmt: skip


def _shared_persons(
    one: Sequence[Entry], other: Sequence[Entry], role: str, with_role: str
) -> list[Finding]:
    names = [(entry.name, entry.subject) for entry in of_shared_persons(one, other)]
    return if_any(
        "subjects", "error", role, names,
        f"{len(names)} of {len(one)} {role} volumes are of persons in {with_role}",
        "Split by subject with synthbench data split. If these are different persons with one "
        "name, give them different names in a manifest (participant_id).",
    )  # fmt: skip


def _voxel_size_mismatch(pair: Pair) -> list[Finding]:
    real, other, role = pair.real, pair.other, pair.role
    shapes = [{tuple(sorted(i.grid.shape)) for i in s.inspections} for s in (real, other)]
    views = [np.median([np.prod(i.extent_mm) for i in s.inspections]) for s in (real, other)]
    foregrounds = [np.median([p.foreground_ml for p in s.placements]) for s in (real, other)]
    view, foreground = views[1] / views[0], foregrounds[1] / max(foregrounds[0], 1e-9)
    # A generator that fails draws another brain, in the same field of view. A crop leaves the brain
    # as it is. A wrong voxel size changes both.
    same_array = shapes[0] == shapes[1] and not 1 / 1.1 < view < 1.1
    both = min(view, foreground) > MIN_SIZE_RATIO or max(view, foreground) < 1 / MIN_SIZE_RATIO
    if not (same_array or both):
        return []
    sizes = [" x ".join(f"{mm:.3g}" for mm in s.inspections[0].grid.spacing) for s in (real, other)]
    message = (
        f"real voxels are {sizes[0]} mm with brains of {foregrounds[0]:.0f} mL, {role} voxels "
        f"{sizes[1]} mm with brains of {foregrounds[1]:.0f} mL: a voxel size was lost. Write the "
        "volumes with the affine of the data that they were made from; if their voxels lie as in "
        "the real files, add --assume-grid real."
    )
    return [of_set("voxel-size-mismatch", "error", role, message)]


def _skull_mismatch(pair: Pair) -> list[Finding]:
    real, other, role = pair.real, pair.other, pair.role
    states = real.most(lambda p: p.stripped), other.most(lambda p: p.stripped)
    if None in states or states[0] is states[1]:
        return []
    label = {True: "skull-stripped", False: "not skull-stripped"}
    what = (
        f"the {role} volumes are {label[bool(states[1])]}, the real ones {label[bool(states[0])]}"
    )
    fix = f". Prepare both in the same way; whole heads: {PREPARE}"
    return pair.differ("skull-mismatch", what, fix)


def _registered_mismatch(pair: Pair) -> list[Finding]:
    real, other, role = pair.real, pair.other, pair.role
    states = real.most(lambda p: p.registered), other.most(lambda p: p.registered)
    # Turned and displaced volumes are not in their place either: other findings report them.
    if None in states or states[0] is states[1] or pair.turn != alignment.Turn():
        return []
    if pair.is_displaced:
        return []
    means = [np.nanmedian([p.agreement for p in s.placements]) for s in (other, real)]
    what = (
        f"correlation with MNI152, in the place that the affines give: {role} {means[0]:.2f}, real "
        f"{means[1]:.2f}{pair.fits()}"
    )
    fix = (
        ". One side is registered to it and the other is not: resample both to one space, or write "
        f"the synthetic volumes with the affine of the training data; whole heads: {PREPARE}"
    )
    return pair.differ("registered-mismatch", what, fix)


def _range_mismatch(pair: Pair) -> list[Finding]:
    real, other, role = pair.real, pair.other, pair.role
    centred = [is_centred(survey) for survey in (real, other)]
    lows, highs = (
        [float(np.median([getattr(i, end) for i in s.inspections])) for s in (real, other)]
        for end in ("low", "high")
    )
    ranges = f"real {lows[0]:.3g} to {highs[0]:.3g}, {role} {lows[1]:.3g} to {highs[1]:.3g}"
    if centred[0] != centred[1]:
        message = (
            f"one side is centred on zero and the other is not (typical range: {ranges}). Undo the "
            "centring, for example (x + 1) / 2."
        )
        return [of_set("range-mismatch", "error", role, message)]
    scales = [float(np.median([i.scale for i in s.inspections])) for s in (real, other)]
    if min(scales) <= 0 or max(scales) < MIN_SCALE_FACTOR * min(scales):
        return []
    message = (
        f"the sets' intensities differ by a factor (typical range: {ranges}). With --intensity "
        "percentile each volume has its own scale, and the factor does no harm."
    )
    return [of_set("range-mismatch", "note", role, message)]


def _flip_mismatch(pair: Pair) -> list[Finding]:
    role = pair.role
    if pair.turn == alignment.Turn():
        return []
    what = f"{pair.turn}, the {role} volumes fit the real ones better{pair.fits()}"
    fix = (
        f". {CONTRADICTION}: write the volumes with the affine of the training data, or undo the "
        "turn."
    )
    return pair.differ("flip-mismatch", what, fix)


def _shift_mismatch(pair: Pair) -> list[Finding]:
    moved = pair.shift[0] if pair.is_displaced and _elsewhere(pair) else _small_shift(pair)
    if moved is None:
        return []
    what = (
        "the mean {} brain is displaced by {:+.1f} {:+.1f} {:+.1f} mm (right, front, top) from "
        "the mean real one"
    ).format(pair.role, *moved) + pair.fits()
    fix = (
        ". The affine's origin is wrong, or a resize lost half a voxel: write the volumes with the "
        "grid that they were made on. Where nobody knows that grid, as of imported arrays, accept "
        "it: metrics that compare voxels then see the shift too."
    )
    if all(inspection.assumed for inspection in pair.other.inspections):
        fix = (
            ". Their grid was assumed, with its middle at 0 mm: do not turn them. Bring them in "
            "with synthbench import --like REAL --orientation RAS --spacing MM, which puts it in "
            "the middle of the real grid."
        )
    return pair.differ("shift-mismatch", what, fix)


def _elsewhere(pair: Pair) -> bool:
    """Return True where the other set is not in the place of the template, and the real one is."""
    placed = [s.most(lambda p: p.registered) for s in (pair.real, pair.other)]
    return placed == [True, False] or float(np.linalg.norm(pair.shift[0])) > MAX_SMALL_SHIFT_MM


def _small_shift(pair: Pair) -> Float64[np.ndarray, " 3"] | None:
    """Return the displacement in mm of a set that is in its place but for some millimetres."""
    real, other = pair.real, pair.other
    placed = [s.most(lambda p: p.registered) for s in (real, other)]
    if placed != [True, True] or not pair.comparable:
        return None
    # These move the foreground too, and other findings report them.
    if pair.turn != alignment.Turn() or is_centred(real) != is_centred(other):
        return None
    mean = pair.placed(other.mean)[None]
    moved = alignment.displacements(mean, real.coarse_grid.spacing, real.mean.astype(np.float64))[0]
    centres = [np.nanmedian([p.centre_mm for p in s.placements], axis=0) for s in (real, other)]
    # Both must move: the pattern of tissue, which a poor generator may lack (NaN where the means do
    # not look similar), and the outline, which another brain mask moves.
    off = min(np.linalg.norm(moved), np.linalg.norm(centres[1] - centres[0]))
    return moved if off > MIN_SET_SHIFT_MM else None


def _background_mismatch(pair: Pair) -> list[Finding]:
    real, other, role = pair.real, pair.other, pair.role
    levels, noises = (
        [float(np.median([getattr(i, name) for i in s.inspections])) for s in (real, other)]
        for name in ("background_level", "background_noise")
    )
    # A level below zero is centring, which another finding reports. A saturated level leaves no
    # brain above it: the generator failed.
    offset = [MAX_LEVEL < level < SATURATED_LEVEL and noise < level / 2
              for level, noise in zip(levels, noises, strict=True)]  # fmt: skip
    if offset[0] != offset[1] and pair.similar:
        what = (
            f"the background is an even {max(levels):.2g} of the scale on one side, and zero on "
            "the other"
        )
        fix = ". An offset was added in preparation: subtract it."
        return pair.differ("background-mismatch", what, fix)
    stray = pair.stray
    if stray is None or max(stray) <= max(MIN_STRAY, MAX_STRAY_FACTOR * min(stray)):
        return []
    message = (
        f"voxels above {BACKGROUND:g} of the scale more than {BACKGROUND_MARGIN_MM:g} mm outside "
        f"the real brains: {stray[1]:.2%} of the voxels there in {role}, {stray[0]:.2%} in real. "
        "Today's protocols set these voxels to zero before they compute features; protocols "
        "without the field background do not, and there they can decide FID and MMD². If they "
        "are not a result of the generator, mask both sides in the same way."
    )
    return [of_set("background-mismatch", "warning", role, message)]


BETWEEN: tuple[Callable[[Pair], list[Finding]], ...] = (
    _voxel_size_mismatch, _skull_mismatch, _registered_mismatch, _range_mismatch, _flip_mismatch,
    _shift_mismatch, _background_mismatch,
)  # fmt: skip
