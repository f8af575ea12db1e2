"""`memorizer`: its volumes are close to training volumes."""

from __future__ import annotations

import numpy as np

from synthbench.cohorts.reading import read_cohort
from tests.generators.fitting import drawn, fitted


def test_memorizer_stays_close_to_one_training_volume(make_cohort, tmp_path):
    """Each sample is nearer to its source than any two training volumes are to one another."""
    folder = make_cohort("real", n=5)
    data = np.stack(list(read_cohort(folder).volumes()))
    apart = min(np.square(data[i] - data[j]).mean() for i in range(5) for j in range(5) if i != j)
    run = fitted("memorizer", folder, tmp_path, "warp=0.05")
    for sample in drawn(run, 6):
        assert min(np.square(sample - volume).mean() for volume in data) < apart / 4
