"""What volumes are called on the page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from synthbench.cohorts.pseudonyms import Pseudonyms
from synthbench.report.album.at_hand import AtHand


def cohort(*names) -> Any:
    return SimpleNamespace(entries=[SimpleNamespace(name=name) for name in names])


@pytest.mark.parametrize(
    ("names", "identifiers", "called"),
    [
        (("../../scans/sub-1/sub-1_T1w.nii", "../../scans/sub-2/sub-2_T1w.nii"), True,
         "sub-1_T1w.nii"),
        (("../sub-1/T1w.nii", "../sub-2/T1w.nii"), True, "../sub-1/T1w.nii"),
        (("../sub-1/T1w.nii", "../sub-2/T1w.nii"), False, "real-1"),
    ],
    ids=["file", "files of one name", "pseudonym"],
)  # fmt: skip
def test_a_picture_is_captioned_by_the_file_without_its_folders(names, identifiers, called):
    sides: Any = SimpleNamespace(real=cohort(*names), synth=cohort("out/a.nii"), train=None)
    card: Any = None
    at_hand = AtHand(card, sides, 0, names=Pseudonyms(identifiers))
    assert at_hand.title("real", 0) == called
    assert at_hand.title("synth", 0) == "a.nii"
