"""The dataset card: seeds, sampler, time, and volumes of another run."""

from __future__ import annotations

import pytest

from synthbench.errors import UsageError
from synthbench.runs import dataset_card
from tests.runs.conftest import cells


def test_a_dataset_card_tells_seeds_sampler_and_seconds(run, sampled):
    """Of 2, 3, 4 and 5 s the median is 3.5."""
    table = cells(
        dataset_card.write_dataset_card(sampled[0].parent, run, sampled).read_text(encoding="utf-8")
    )
    assert table["seeds"] == "0 to 2, 7"
    assert (table["sampler"], table["denoising steps"]) == ("ddim", "25")
    assert table["time per volume"] == "median 3.5 s, from 2 to 5 s"
    assert "cleaned" not in table


# ---------------------------------------------------------------- volumes that do not fit


def test_volumes_must_be_of_the_run(run, sampled):
    out = sampled[0].parent
    with pytest.raises(UsageError, match="at least one volume"):
        dataset_card.write_dataset_card(out, run, [])
    run.update(weights_sha256="0" * 64)
    with pytest.raises(UsageError, match="sampled from weights abababababab, the run has 000"):
        dataset_card.write_dataset_card(out, run, sampled)
    sampled[0].with_name("synth-000000.json").unlink()
    with pytest.raises(UsageError, match=r"has no sidecar synth-000000\.json"):
        dataset_card.write_dataset_card(out, run, sampled)
