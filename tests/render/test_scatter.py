from __future__ import annotations

import numpy as np

from synthbench.render.scatter import Cloud, scatter


def test_points_are_numbered_in_order_and_names_are_escaped():
    real = Cloud("real", np.array([[0.0, 0.0], [1.0, 1.0]]), ["a", "<b>"])
    synth = Cloud("synth", np.array([[0.5, 0.5]]), ['"c"'])
    svg = scatter("label", "x", "y", [real, synth])
    assert [f'data-point="{i}"' in svg for i in range(4)] == [True, True, True, False]
    assert svg.count('class="dot real"') == 2
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg


def test_one_point_has_a_place():
    svg = scatter("label", "x", "y", [Cloud("synth", np.zeros((1, 2)), ["only"])])
    assert "nan" not in svg
