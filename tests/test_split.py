import pandas as pd
import pytest

from synthbench.cohort import read_cohort
from synthbench.errors import UsageError
from synthbench.split import split


@pytest.fixture
def cohort(make_cohort, tmp_path):
    """Twelve volumes of eight subjects, four of whom have two scans."""
    make_cohort("c", n=12)
    owners = [f"p{i % 8}" for i in range(12)]
    table = pd.DataFrame(
        {"path": [f"c/sub-{i:03d}.nii.gz" for i in range(12)], "participant_id": owners,
         "age": [20 + i % 8 for i in range(12)]}
    )  # fmt: skip
    table.to_csv(tmp_path / "m.csv", index=False)
    return tmp_path / "m.csv"


def test_all_scans_of_a_subject_stay_together(cohort, tmp_path):
    parts = split(cohort, {"train": 5, "reference": 3}, tmp_path / "split")
    read = {name: read_cohort(file) for name, file in parts.items()}
    owners = {name: {e.subject for e in c.entries} for name, c in read.items()}
    assert {name: len(o) for name, o in owners.items()} == {"train": 5, "reference": 3}
    assert not owners["train"] & owners["reference"]
    assert sum(len(c) for c in read.values()) == 12
    assert read["train"].participants["age"].between(20, 27).all()


def test_the_split_depends_on_the_seed_alone(cohort, tmp_path):
    texts = [
        split(cohort, {"train": 4}, tmp_path / name, seed=seed)["train"].read_text()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_impossible_sizes_and_existing_splits_are_refused(cohort, tmp_path):
    with pytest.raises(UsageError, match="at most 8 subjects"):
        split(cohort, {"train": 5, "reference": 4}, tmp_path / "s")
    split(cohort, {"train": 5}, tmp_path / "s")
    with pytest.raises(UsageError, match="drawn once"):
        split(cohort, {"train": 5}, tmp_path / "s")
