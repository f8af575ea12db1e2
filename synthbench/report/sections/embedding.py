"""The section on features in two dimensions: each volume as a point, with a small picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from synthbench.render.png import data_uri, png, three_planes
from synthbench.render.scatter import Cloud, scatter
from synthbench.report.album.at_hand import AtHand, FeatureSpace
from synthbench.report.sections.section import Page, Section

SIDE = 56
"""Pixels of the longest side of a small picture."""


@dataclass(frozen=True)
class Sprite:
    """Small pictures of all points, row by row, as one picture."""

    picture: str
    columns: int
    width: int
    height: int


def _build(page: Page) -> Mapping[str, Any] | None:
    cards = [
        _card(page.names[index], at_hand, at_hand.features)
        for index, at_hand in page.at_hand.items()
        if not isinstance(at_hand.features, str)
    ]
    return {"cards": cards, "several": page.several} if cards else None


def _card(name: str, at_hand: AtHand, space: FeatureSpace) -> Mapping[str, Any]:
    roles = ("real", "synth") if at_hand.shows_real else ("synth",)
    places, shares = principal(space.rows(space.real), space.rows(space.synth))
    clouds = []
    for role in roles:
        n = len(places[role])
        # Real volumes are not named here: a pseudonym for each would say nothing.
        own = ["real"] * n if role == "real" else [at_hand.title(role, i) for i in range(n)]
        clouds.append(Cloud(role, places[role], own))
    axes = [
        f"{which} principal component ({share:.0%} of the variance)"
        for which, share in zip(("first", "second"), shares, strict=True)
    ]
    counts = " and ".join(f"{len(c.points)} {_WORDS[c.style]}" for c in clouds)
    words = (
        f"The features of {space.extractor} of {counts} volumes on their first two principal "
        "components, those of all real and synthetic volumes together."
        + ("" if at_hand.shows_real else " Points of real volumes were left out.")
    )
    label = f"{words} Focus it and press the left and right arrow keys to go from point to point."
    return {
        "name": name,
        "words": words,
        "svg": scatter(label, axes[0], axes[1], clouds),
        "sprite": _sprite(at_hand, roles),
        "both": at_hand.shows_real,
    }


_WORDS = {"real": "real", "synth": "synthetic"}


def principal(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"]
) -> tuple[dict[str, Float64[np.ndarray, "k 2"]], tuple[float, float]]:
    """Return both sets on the first two principal components of all rows together.

    Returns
    -------
    The coordinates of each role, and the shares of the total variance. The sign of a component is
    the one with which its largest loading is positive, so that the same rows give the same points.
    Components that do not exist are 0.
    """
    rows = np.concatenate([real, synth])
    centred = rows - rows.mean(axis=0)
    _, sizes, loadings = np.linalg.svd(centred, full_matrices=False)
    loadings = loadings[:2]
    largest = np.abs(loadings).argmax(axis=1)
    signs = np.sign(loadings[np.arange(len(loadings)), largest])
    points = np.zeros((len(rows), 2))
    points[:, : len(loadings)] = centred @ (loadings * signs[:, None]).T
    variances = np.zeros(2)
    total = float((sizes**2).sum())
    if total > 0:
        variances[: len(loadings)] = sizes[:2] ** 2 / total
    found = {"real": points[: len(real)], "synth": points[len(real) :]}
    return found, (float(variances[0]), float(variances[1]))


def _sprite(at_hand: AtHand, roles: tuple[str, ...]) -> Sprite:
    """Return an axial slice of each volume, in the order of the points."""
    small: list[UInt8[np.ndarray, "a b"]] = []
    for role in roles:
        volumes = at_hand.samples[role].volumes
        d, h, _ = volumes.space.shape
        across, up = (n * mm for n, mm in zip((d, h), volumes.space.spacing[:2], strict=True))
        scale = SIDE / max(across, up)
        size = (max(1, round(across * scale)), max(1, round(up * scale)))
        for volume in volumes:
            axial = three_planes(volume, volumes.space)[:, :d]
            above = (len(axial) - h) // 2
            image = Image.fromarray(axial[above : above + h])
            small.append(np.asarray(image.resize(size, Image.Resampling.BOX)))
    columns = math.ceil(math.sqrt(len(small)))
    high, wide = small[0].shape
    sheet = np.zeros((math.ceil(len(small) / columns) * high, columns * wide), np.uint8)
    for i, slice_ in enumerate(small):
        row, column = high * (i // columns), wide * (i % columns)
        sheet[row : row + high, column : column + wide] = slice_
    return Sprite(data_uri(png(sheet)), columns, wide, high)


SECTION = Section("embedding", "Features", "Features in two dimensions", 75, _build)
