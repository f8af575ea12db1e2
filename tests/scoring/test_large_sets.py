"""What a scoring of large sets freezes, and what it computes on some of the volumes."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.metrics.inference import resampling
from synthbench.report.local_copying import parts_lines
from synthbench.report.memorization import copies_lines
from synthbench.scoring import freeze, protocol, scoring
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.memorization import VOXELS
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.statistics import SAMPLED_IMAGES, Sample
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Drawn, identity_of, name_of

CONTEXT = Context(cache=None)
SETTINGS = ScoringSettings(
    extractors=("voxels",), metrics=("mmd_linear", "spectrum", "kid"), resamples=50
)


def sample(n=20, role="real"):
    volumes = [np.full((2, 2, 2), i, np.float32) for i in range(n)]
    space = Space.of((2, 2, 2), np.eye(4))
    subjects = np.arange(n) // 2
    return Sample(role, Drawn(space, volumes), subjects, features={"f": np.arange(n)[:, None]})


def test_a_drawn_sample_has_the_rows_of_its_volumes():
    whole = sample()
    some = whole.drawn(7, seed=3)
    shown = [int(volume[0, 0, 0]) for volume in some.volumes]
    assert shown == sorted(set(shown))
    assert len(shown) == len(some) == 7
    assert some.features["f"][:, 0].tolist() == shown
    same = whole.subjects[shown]
    assert ((same[:, None] == same) == (some.subjects[:, None] == some.subjects)).all()
    assert name_of(some.volumes, 1) == name_of(whole.volumes, shown[1])
    assert identity_of(some.volumes, 1) is None
    assert whole.drawn(20, seed=3) is whole


def test_a_draw_depends_on_seed_and_role_only():
    def drawn(role="real", seed=3):
        return sample(role=role).drawn(7, seed=seed).features["f"].tolist()

    assert drawn() == drawn()
    assert drawn(role="synth") != drawn() != drawn(seed=4)


def floors_of(card):
    return {row.metric: row.floor for row in card.values if row.floor is not None}


@pytest.fixture
def large(monkeypatch):
    """Sets of more than five volumes are large."""
    for module in (protocol, resampling):
        monkeypatch.setattr(module, "LARGE_SET", 5)


@pytest.mark.slow
def test_a_large_scoring_says_so_in_protocol_and_notes(make_cohort, large):
    real, synth = make_cohort("real", n=8, seed=1), make_cohort("synth", n=7, seed=2)
    how = {"accept": ["few"], "context": CONTEXT, **dict(SETTINGS)}
    card = scoring.score(real, synth, **how)
    frozen = card.protocol
    assert (frozen.floor_splits, frozen.permutations) == (40, 200)
    assert frozen.settings["mmd_linear"][SAMPLED_IMAGES] == 5
    assert SAMPLED_IMAGES not in frozen.settings["spectrum"]
    assert any(note.startswith("mmd_linear: of pairs of volumes") for note in card.notes)
    floors = floors_of(card)
    assert floors["mmd_linear"].n == 2
    assert floors["spectrum"].n == 4
    assert floors["kid"].minimum_detectable_effect is None
    assert scoring.score(real, synth, **how).values == card.values


@pytest.mark.slow
def test_a_benchmark_of_a_large_set_freezes_the_floors_of_its_entries(make_cohort, large):
    real, synth = make_cohort("real", n=8, seed=1), make_cohort("synth", n=7, seed=2)
    frozen = freeze.freeze(real, "b", SETTINGS, CONTEXT, n_synth=7, primary="kid")
    sides = {floor.metric: floor.n for floor in frozen.floors}
    assert (sides["mmd_linear"], sides["spectrum"]) == (2, 4)
    card = scoring.score(real, synth, benchmark=frozen, accept=["few"], context=CONTEXT)
    means = {floor.metric: floor.mean for floor in frozen.floors}
    floors = floors_of(card)
    for name in ("mmd_linear", "spectrum"):
        assert floors[name].mean == means[name]


def test_a_small_scoring_is_as_it_was(make_cohort):
    real = make_cohort("real", n=6, seed=1)
    frozen = freeze.freeze(real, "b", SETTINGS, CONTEXT, n_synth=2000, primary="kid").protocol
    assert (frozen.floor_splits, frozen.permutations) == (200, 1000)
    assert SAMPLED_IMAGES not in frozen.settings["mmd_linear"]
    above = freeze.freeze(real, "b", SETTINGS, CONTEXT, n_synth=2001, primary="kid").protocol
    assert (above.floor_splits, above.permutations) == (40, 200)


@pytest.mark.slow
def test_voxels_of_large_sets_are_compared_on_some_volumes(make_cohort, large, monkeypatch):
    """Sets of 8, 7 and 6 volumes, of which 5 are drawn; features of all are compared."""
    real, synth = make_cohort("real", n=8, seed=1), make_cohort("synth", n=7, seed=2)
    train = make_cohort("train", n=6, seed=3, subject="t")
    settings = ScoringSettings(
        extractors=("random-resnet10",), metrics=("memorization", "local_copying"), resamples=50
    )
    cohorts = CohortSet.read(real, synth, train=train)
    found = scoring.score_cohorts(cohorts, settings, accept=["few"], context=CONTEXT)
    card = found.card
    assert card.not_assessed is None
    features, voxels = card.memorization
    assert (features.n, features.sampled) == (6, None)
    assert (voxels.space, voxels.n, voxels.sampled) == (VOXELS, 5, 5)
    assert card.local_copying is not None
    assert (card.local_copying.n_train, card.local_copying.sampled) == (5, 5)
    words = "of 5 random volumes of each set that has more"
    assert [words in line for line in (*copies_lines(card), *parts_lines(card))] == [0, 1, 1]
    again = scoring.score_cohorts(cohorts, settings, accept=["few"], context=CONTEXT)
    assert again.card.memorization == card.memorization
    assert again.neighbours == found.neighbours
    monkeypatch.setattr(resampling, "LARGE_SET", 8)
    all_volumes = scoring.score_cohorts(cohorts, settings, accept=["few"], context=CONTEXT)
    some, every = (
        {(row.mirrored, row.synth): row for row in scored.neighbours if row.space == VOXELS}
        for scored in (found, all_volumes)
    )
    assert (len(some), len(every)) == (2 * 5, 2 * 7)
    same = [key for key, row in some.items() if row.train == every[key].train]
    assert same
    for key in some:
        distance, least = some[key].train_distance, every[key].train_distance
        assert distance == pytest.approx(least, rel=1e-9) if key in same else distance > least
