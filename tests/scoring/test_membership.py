"""Membership inference in a scorecard: who is attacked, and which people are the reference."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.records.scorecard import Scorecard
from synthbench.report.membership import membership_lines
from synthbench.scoring import scoring
from tests.conftest import blob
from tests.scoring.test_scoring import save

pytestmark = pytest.mark.slow

SIZES = {"real": 21, "train": 12, "holdout": 20, "synth": 13}
EXTRACTOR = "voxels"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """People of one population, and samples that are training images with a little noise."""
    root = tmp_path_factory.mktemp("people")
    for k, (role, n) in enumerate(SIZES.items()):
        (root / role).mkdir()
        for i in range(n):
            seed = 500 + i % SIZES["train"] if role == "synth" else 500 * k + i
            volume = blob(seed, width=0.8 + 0.4 * np.random.default_rng(seed).random())
            if role == "synth":
                noise = np.random.default_rng(i).normal(0, 0.01, volume.shape)
                volume = np.where(volume > 0, np.clip(volume + noise, 0, 1), 0).astype(np.float32)
            save(volume, root / role / f"sub-{role}{i:02}.nii.gz")
    return {role: root / role for role in SIZES}


def scored(folders, *roles, **settings):
    named = {role: folders[role] for role in roles}
    return scoring.score(
        folders["real"], folders["synth"], metrics=["membership_inference"],
        extractors=[EXTRACTOR], resamples=50, **named, **settings,
    )  # fmt: skip


def test_a_card_has_the_attack_and_keeps_it_in_its_file(folders, tmp_path):
    card = scored(folders, "train", "holdout")
    (found,) = card.membership
    assert (found.extractor, found.verdict) == (EXTRACTOR, "told")
    assert (found.n_train, found.n_holdout, found.n_reference) == (12, 20, 21)
    assert card.protocol.settings["membership_inference"]["dimensions"] == 16
    assert Scorecard.load(card.save(tmp_path / "card.json")) == card
    (line,) = membership_lines(card)
    assert "training subjects can be told from others" in line


def test_without_a_hold_out_the_real_volumes_are_halved(folders):
    (found,) = scored(folders, "train").membership
    assert (found.n_holdout, found.n_reference) == (21, 10)


def test_without_training_volumes_the_card_says_why(folders):
    card = scored(folders)
    assert card.membership == ()
    assert "--train" in card.not_assessed
