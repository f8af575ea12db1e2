from __future__ import annotations

from synthbench.render.grid import rank_grid


def test_the_grid_shows_every_rank_and_escapes_names():
    """Two choices by three entries: six cells, each with its rank."""
    ranks = {"FID": [1, 2, 3], "MMD²": [1, 3, 2]}
    names = ["1. near", "2. <b>", "3. far"]
    svg = rank_grid("Ranks", ranks, names)
    assert svg == rank_grid("Ranks", ranks, names)
    assert "&lt;b&gt;" in svg
    assert svg.count('<rect class="cell"') == 6
