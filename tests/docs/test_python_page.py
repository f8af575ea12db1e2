from __future__ import annotations

import matplotlib
import pytest

from tests.docs.pages import run_page


@pytest.mark.slow
def test_the_examples_of_the_python_page_run_and_give_what_it_says(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    assert run_page("python.md") >= 9
    assert (tmp_path / "card.png").stat().st_size > 1000
