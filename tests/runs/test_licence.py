"""The licence of weights and samples."""

from __future__ import annotations

import pytest

from synthbench.runs import licence
from tests.runs.conftest import ADNI, OPEN, make_run

# ---------------------------------------------------------------- what a card says


@pytest.mark.parametrize(
    ("sources", "word"),
    [([OPEN], "cc-by-sa-3.0"), ([ADNI], "adni-data-use-agreement"), ([], None),
     ([OPEN, ADNI], "adni-data-use-agreement-and-cc-by-sa-3.0")],
)  # fmt: skip
def test_samples_are_bound_by_the_terms_of_the_training_scans(tmp_path, sources, word):
    assert licence.licence(make_run(tmp_path / "run", sources=sources).record) == word
