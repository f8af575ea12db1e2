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


WEIGHTS = {"name": "somebody/model", "licence": "cc-by-nc-4.0", "terms": "", "url": ""}
ATLAS = {"name": "synthbench atlas cohort", "licence": "", "terms": "", "url": ""}


@pytest.mark.parametrize(
    ("sources", "embedded", "word"),
    [
        ([ATLAS], True, "icbm-152-template"),
        ([ATLAS, WEIGHTS], True, "cc-by-nc-4.0-and-icbm-152-template"),
        ([ATLAS, WEIGHTS], False, "cc-by-nc-4.0"),
        ([OPEN, WEIGHTS], False, "cc-by-nc-4.0-and-cc-by-sa-3.0"),
    ],
)
def test_weights_that_a_run_started_from_bind_its_samples(tmp_path, sources, embedded, word):
    cohort = {"fingerprint": "cd", "n": 70, "subjects": 70, "embedded": embedded}
    run = make_run(tmp_path / "run", sources=sources, cohort=cohort)
    assert licence.licence(run.record) == word
