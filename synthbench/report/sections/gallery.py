"""Galleries: volumes that are shown together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from synthbench.render.png import Picture, within_budget
from synthbench.report.sections.at_hand import AtHand
from synthbench.scoring.statistics import Sample

PICTURED = 4
"""Volumes in each row of pictures."""


@dataclass(frozen=True)
class Shown:
    """A volume in a gallery: its title, a description and its picture."""

    title: str
    words: str
    picture: Picture


@dataclass(frozen=True)
class Gallery:
    """Volumes that are shown together, with common slice positions.

    `pairs` is True where they are pairs: each is followed by the one that belongs to it.
    """

    title: str
    words: str
    volumes: tuple[Shown, ...]
    pairs: bool = False


@dataclass(frozen=True)
class Chosen:
    """A volume to be pictured: its cohort's role, its index, its title and a description."""

    role: str
    index: int
    title: str
    words: str


@dataclass(frozen=True)
class Plan:
    """A gallery whose volumes are not read yet."""

    title: str
    words: str
    volumes: list[Chosen] = field(default_factory=list)
    pairs: bool = False


def examples(at_hand: AtHand) -> Plan:
    """Return volumes of each side, chosen at random."""
    seed = at_hand.seed
    plan = Plan(
        "Examples",
        f"Chosen at random (seed {seed})."
        + ("" if at_hand.shows_real else " Pictures of real volumes were left out."),
    )
    for role in ("real", "synth") if at_hand.shows_real else ("synth",):
        cohort = at_hand.sides[role]
        rng = np.random.default_rng(seed)
        for index in np.sort(rng.permutation(len(cohort))[:PICTURED]):
            words = "real" if role == "real" else "synthetic"
            title = at_hand.title(role, int(index))
            plan.volumes.append(Chosen(role, int(index), title, words))
    return plan


def pictured(
    planned: Sequence[Plan], samples: Mapping[str, Sample], budget: int
) -> tuple[Gallery, ...]:
    """Return the galleries of plans: each volume is read once, and all share the budget."""
    wanted = list(dict.fromkeys((v.role, v.index) for plan in planned for v in plan.volumes))
    # A volume in two galleries takes its characters in the page twice.
    repeats = sum(len(plan.volumes) for plan in planned) / len(wanted)
    grid = next(iter(samples.values())).volumes.space
    volumes = [samples[role].volumes[index] for role, index in wanted]
    pictures = dict(zip(wanted, within_budget(volumes, grid, int(budget / repeats)), strict=True))
    return tuple(
        Gallery(
            plan.title, plan.words,
            tuple(Shown(v.title, v.words, pictures[v.role, v.index]) for v in plan.volumes),
            plan.pairs,
        )
        for plan in planned
    )  # fmt: skip
