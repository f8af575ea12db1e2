"""Label maps of the embedded cohort."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from synthbench.cohorts.reading import read_cohort
from synthbench.simulation.cohort import atlas_cohort
from synthbench.simulation.subject import draw
from synthbench.simulation.template import LABELS

SHAPE = (24, 28, 24)


def test_labels_are_the_brain_and_ordered_by_brightness():
    """White matter is brightest and fluid darkest; outside the brain there is no label."""
    subject = draw(0, 0, SHAPE)
    np.testing.assert_array_equal(subject.labels > 0, subject.volume > 0)
    means = {name: subject.volume[subject.labels == i].mean() for i, name in LABELS.items()}
    assert means["white matter"] > means["grey matter"] > means["sulcal fluid"]
    assert means["white matter"] > means["grey matter"] > means["lateral ventricles"]


def test_written_maps_lie_beside_the_volumes_and_are_no_volumes_of_the_cohort(tmp_path):
    plain = atlas_cohort(2, tmp_path / "plain", shape=SHAPE)
    labelled = atlas_cohort(2, tmp_path / "labelled", shape=SHAPE, labels=True)
    cohort = read_cohort(labelled)
    assert cohort.fingerprint == read_cohort(plain).fingerprint
    for entry in cohort.entries:
        file = entry.path.with_name(entry.path.name.replace("_T1w.", "_dseg."))
        index = int(entry.subject.removeprefix("sub-"))
        np.testing.assert_array_equal(
            np.asarray(nib.load(file).dataobj), draw(0, index, SHAPE).labels
        )
    table = (labelled / "dseg.tsv").read_text().splitlines()
    assert table == ["index\tname", *(f"{i}\t{name}" for i, name in LABELS.items())]
    assert atlas_cohort(2, labelled, shape=SHAPE, labels=True) == labelled
