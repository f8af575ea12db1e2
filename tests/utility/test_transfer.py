"""Pretraining on one label, fine-tuning on another."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthbench.errors import SynthbenchError, UsageError
from synthbench.utility.network import NetworkSettings
from synthbench.utility.record import BOTH, REAL, SYNTHETIC
from synthbench.utility.study import utility
from synthbench.utility.transfer import Transfer
from tests.utility.spheres import ACCEPT, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("transfer", "words"),
    [
        (("sexx", "other"), "--label sexx: transfer: "),
        (("sex", "nowhere"), "transfer: "),
        (("sex", "real"), "transfer: 12 of 12 volumes are of subjects in the training cohort"),
        (("sex", "synth"), "synth: 14 volumes are exactly transfer volumes"),
    ],
)
def test_what_cannot_be_fine_tuned_on_is_refused_before_anything_is_trained(
    folders, tmp_path, monkeypatch, transfer, words
):
    monkeypatch.setattr(
        "synthbench.utility.arms.compare_arms", lambda *_, **__: pytest.fail("trained")
    )
    label, name = transfer
    data = write(tmp_path / "other", 8, 9) if name == "other" else folders.get(name, Path(name))
    with pytest.raises(SynthbenchError, match=words):
        utility(
            folders["real"], folders["synth"], folders["test"], "sex", ratios=(), model="cnn",
            network=NetworkSettings(seeds=1, epochs=1), accept=ACCEPT,
            transfer=Transfer(label, data),
        )  # fmt: skip


def test_a_network_is_trained_from_each_seed_and_fine_tuned(tmp_path):
    """Eighteen trainings of one step, of as few volumes as two classes of four need."""
    real, synth, test = (
        write(tmp_path / role, 8, seed) for seed, role in enumerate(("real", "synth", "test"), 1)
    )
    other = write(tmp_path / "other", 12, 9)
    found = utility(
        real, synth, test, "sex", ratios=(), model="cnn", accept=ACCEPT,
        network=NetworkSettings(seeds=2, epochs=1, batch_size=16),
        transfer=Transfer("sex", other),
    )  # fmt: skip
    assert set(found.differences[0].values["auc"].variance) == {
        "test subjects", "training seeds", "training seeds of the other arm"
    }  # fmt: skip
    assert [arm.name for arm in found.transfer_arms] == ["from scratch", REAL, SYNTHETIC, BOTH]
    assert found.transfer is not None
    assert found.transfer.n_test == 6


def test_transfer_is_read_from_the_command_line():
    assert Transfer.parse("label=dx,data=a,b") == Transfer("dx", Path("a,b"))
    with pytest.raises(UsageError, match="write it as label=NAME,data=DIR"):
        Transfer.parse("dementia")
