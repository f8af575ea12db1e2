"""A scorecard of hostile names, and its pages, which several test files look at."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.report.html import render_report, report
from synthbench.scoring import scoring
from tests.report.pages import HOSTILE, HOSTILE_FILE


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Real, synthetic and training volumes; names and a covariate of the data are hostile."""
    import nibabel as nib

    from tests.conftest import AFFINE, blob

    root = tmp_path_factory.mktemp("cohorts")
    for seed, (role, width) in enumerate({"real": 1.0, "synth": 0.9, "train": 1.0}.items()):
        (root / role).mkdir()
        for i in range(12 if role == "real" else 6):
            volume = blob(100 * seed + i, width=width)
            hostile = i == 0 and role != "real"
            name = HOSTILE_FILE if hostile else f"sub-{role}{i:02d}.nii.gz"
            nib.save(nib.Nifti1Image(volume, AFFINE), root / role / name)
    # One synthetic volume is a training volume, a little darker.
    copied = nib.load(root / "train" / "sub-train03.nii.gz").get_fdata(dtype=np.float32)
    near = nib.Nifti1Image(copied * np.float32(0.97), AFFINE)
    nib.save(near, root / "synth" / "sub-synth05.nii.gz")
    rows = ["participant_id\tsex\tsite"]
    for i in range(12):
        rows.append(f"sub-real{i:02d}\t{'FM'[i % 2]}\t<b>{'x' if i < 3 else 'y'}")
    (root / "real" / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {role: root / role for role in ("real", "synth", "train")}


@pytest.fixture(scope="session")
def card(folders):
    scored_card = scoring.score(
        folders["real"], folders["synth"], train=folders["train"], name=HOSTILE,
        extractors=["random-resnet10"], metrics=["mmd2", "fid", "intensity"], resamples=100,
    )  # fmt: skip
    return scored_card.model_copy(update={"notes": (HOSTILE,), "software": {HOSTILE: HOSTILE}})


@pytest.fixture(scope="session")
def card_file(card, tmp_path_factory):
    file = tmp_path_factory.mktemp("cards") / "card.json"
    card.save(file)
    return file


@pytest.fixture(scope="session")
def full(card_file, folders):
    return report(
        [card_file], real=folders["real"], synths=[folders["synth"]], train=folders["train"]
    )


@pytest.fixture(scope="session")
def plain(card):
    return render_report([card])
