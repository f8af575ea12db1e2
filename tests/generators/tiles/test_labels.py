"""Labels: one class per combination, intervals of numbers, none where a value is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthbench.cohorts.conditions import Conditions, Row
from synthbench.errors import RunError, UsageError
from synthbench.generators.tiles.labels import Labels, labels_of
from synthbench.generators.tiles.pictures import Pixels
from synthbench.generators.tiles.settings import DiTTilesSettings
from synthbench.generators.tiles.sources import TiledVolumes
from synthbench.generators.tiles.tiling import tiling_of
from synthbench.runs.folder import Run

AGES = np.linspace(20, 80, 40)
ROWS: list[Row] = [{"sex": "FM"[i % 2], "age": float(age)} for i, age in enumerate(AGES)]
LABELS = Labels(Conditions.fit(ROWS, ["sex", "age"]), 4, 10)


def test_each_combination_has_a_label_of_its_own():
    """Two sexes and four intervals of age, at the quartiles."""
    assert LABELS.count == 8
    found = LABELS.rows(ROWS, len(ROWS)).ravel()
    quarter = np.minimum(np.arange(40) // 10, 3)
    assert found.tolist() == (4 * (np.arange(40) % 2) + quarter).tolist()


def test_values_beyond_training_fall_into_the_outer_intervals():
    assert LABELS.of({"sex": "F", "age": 5.0}) == 0
    assert LABELS.of({"sex": "M", "age": 120.0}) == 7


@pytest.mark.parametrize("row", [{"sex": "F"}, {"age": 30.0}, {"sex": None, "age": 30.0}, {}])
def test_a_row_that_lacks_a_value_has_no_label(row):
    assert LABELS.of(row) == 10


def test_what_is_no_label_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no level 'X'"):
        LABELS.of({"sex": "X", "age": 30.0})
    with pytest.raises(UsageError, match="no condition 'height'"):
        LABELS.rows([{"height": 1.8}], 1)
    with pytest.raises(UsageError, match="0 rows for 2 volumes"):
        LABELS.rows(None, 2)
    run = Run(tmp_path)
    run.update(conditions=LABELS.conditions.as_json())
    named = {"steps": 1, "conditions": ("sex", "age")}
    with pytest.raises(UsageError, match="make 8 labels, and the network has 6 classes"):
        labels_of(DiTTilesSettings(**named, classes=6), run)
    with pytest.raises(RunError, match="its record holds"):
        labels_of(DiTTilesSettings(steps=1), run)
    assert labels_of(DiTTilesSettings(**named, classes=8), run).none == 8


class Volumes:
    """A source of 4,000 tiny volumes; volume i has the value i / 4000."""

    def __len__(self):
        return 4000

    def batch(self, items, draws):
        return (torch.tensor(items).float().reshape(-1, 1, 1, 1, 1).expand(-1, 1, 2, 2, 4) / 4000,)


def test_a_label_is_hidden_once_with_its_probability_and_by_its_own_draws():
    """A share of 0.25 of 4,000: its standard deviation is 0.007."""
    labels = np.full((4000, 1), 3, np.float32)
    pixels = Pixels(tiling_of((2, 2, 4), 2))
    draws = [torch.Generator().manual_seed(i) for i in range(4000)]
    source = TiledVolumes(Volumes(), pixels, labels, 10, 0.25)  # type: ignore[arg-type]
    clean, found = source.batch(range(4000), draws)
    assert set(found.unique().tolist()) == {3.0, 10.0}
    assert abs(float((found == 10).float().mean()) - 0.25) < 0.028
    assert not (labels == 10).any()
    assert torch.allclose(clean[:, 0, 0, 0, 0], torch.arange(4000) / 2000 - 1)
    back, given = pixels.decode(clean), Volumes().batch(range(4000), None)[0]
    assert torch.allclose(back, given, atol=1e-6)
    alone = source.batch([7], [torch.Generator().manual_seed(7)])[1]
    assert torch.equal(alone, found[7:8])
    unlabelled = TiledVolumes(Volumes(), pixels, np.zeros((4000, 0), np.float32), 10)  # type: ignore[arg-type]
    assert len(unlabelled.batch([1], draws[:1])) == 1
