"""Galleries: volumes that are shown together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from synthbench.render.png import Picture, within_budget
from synthbench.report.album.at_hand import AtHand

PICTURED = 4
"""Volumes in each row of pictures."""


@dataclass(frozen=True)
class Member:
    """A volume in a gallery: its title, a description and its picture.

    `key` is its name in the page. A volume that is in two galleries has one key.
    """

    title: str
    words: str
    picture: Picture
    key: str


@dataclass(frozen=True)
class Gallery:
    """Volumes that are shown together, with common slice positions.

    `pairs` is True where they are pairs: each is followed by the one that belongs to it.
    """

    title: str
    words: str
    volumes: tuple[Member, ...]
    pairs: bool = False


@dataclass(frozen=True)
class Chosen:
    """A volume to be pictured: its cohort's role, its index, its title and a description."""

    role: str
    index: int
    title: str
    words: str


@dataclass(frozen=True)
class Neighbour:
    """The nearest real volume of a synthetic one: its index, and a sentence on its distance."""

    index: int
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


@dataclass(frozen=True)
class Slices:
    """All slices of one volume: they are in the page once, however often it is shown.

    Attributes
    ----------
    key, role, title
        Its name in the page, its cohort's role, and what it is called.
    picture
        The mosaic of its slices.
    nearest
        Of a synthetic volume: the key of the nearest real one; empty where that is not shown.
    words
        On that neighbour.
    """

    key: str
    role: str
    title: str
    picture: Picture
    nearest: str = ""
    words: str = ""


@dataclass(frozen=True)
class Album:
    """The galleries of one scorecard, and the slices of all volumes in them."""

    galleries: tuple[Gallery, ...]
    volumes: tuple[Slices, ...]


def pictured(
    planned: Sequence[Plan],
    at_hand: AtHand,
    prefix: str,
    neighbours: Mapping[int, Neighbour] = MappingProxyType({}),
) -> Album:
    """Return the galleries of plans: each volume is read once, and all share the budget.

    Parameters
    ----------
    planned
        The galleries, whose volumes are not read yet.
    at_hand
        The cohorts, and the characters that all pictures may take.
    prefix
        Start of the keys, so that those of several scorecards differ.
    neighbours
        The nearest real volume of synthetic ones, by their index.
    """
    samples = at_hand.samples
    titles = {(v.role, v.index): v.title for plan in planned for v in plan.volumes}
    for near in neighbours.values():
        titles.setdefault(("real", near.index), at_hand.title("real", near.index))
    # Numbered in the order of the page: places in a cohort would tell which file is meant.
    keys = {which: f"{prefix}-{i}" for i, which in enumerate(titles, 1)}
    grid = next(iter(samples.values())).volumes.space
    volumes = [samples[role].volumes[index] for role, index in titles]
    pictures = dict(zip(titles, within_budget(volumes, grid, at_hand.budget), strict=True))
    galleries = tuple(
        Gallery(
            plan.title, plan.words,
            tuple(
                Member(v.title, v.words, pictures[v.role, v.index], keys[v.role, v.index])
                for v in plan.volumes
            ),
            plan.pairs,
        )
        for plan in planned
    )  # fmt: skip
    found = []
    for (role, index), title in titles.items():
        beside = neighbours.get(index) if role == "synth" else None
        found.append(
            Slices(
                keys[role, index], role, title, pictures[role, index],
                keys["real", beside.index] if beside else "", beside.words if beside else "",
            )
        )  # fmt: skip
    return Album(galleries, tuple(found))
