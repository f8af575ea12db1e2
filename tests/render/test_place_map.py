"""Views of a value per place."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.render.place_map import CELL, FAINTEST, views


def test_each_view_shows_the_largest_value_behind_a_cell():
    """Places of a grid with a step of 3; two lie behind each other, seen from above."""
    places = np.array([[1, 1, 1], [1, 1, 4], [4, 1, 1], [1, 7, 1]])
    above, front, left = views(places, np.array([0.0, 0.4, 0.2, -0.1]), 3)
    assert (above.title, front.title, left.title) == (
        "from above",
        "from the front",
        "from the left",
    )
    assert (above.width, above.height) == (2 * CELL, 3 * CELL)
    assert (front.width, front.height) == (2 * CELL, 2 * CELL)
    assert (left.width, left.height) == (3 * CELL, 2 * CELL)
    seen = {(square.x // CELL, square.y // CELL): square.opacity for square in above.squares}
    # The lowest row of a picture has the smallest y of the brain. A value below zero is zero.
    assert seen == {
        (0, 2): 1.0,
        (1, 2): pytest.approx((1 + FAINTEST) / 2, abs=0.01),
        (0, 0): FAINTEST,
    }


def test_a_map_without_copies_is_faint():
    squares = views(np.array([[0, 0, 0], [2, 0, 0]]), np.zeros(2), 2)[0].squares
    assert [square.opacity for square in squares] == [FAINTEST, FAINTEST]
