"""A benchmark that names a network file, from its freezing to a scorecard."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import nn

from synthbench.metrics.extractors.weights import FOLDER_VARIABLE
from synthbench.records.scorecard import Scorecard
from tests.command_line import run
from tests.metrics.extractors.mixers import SLICES, Mixer, saved

pytestmark = pytest.mark.slow


class Other(Mixer):
    """The same shapes with other weights: a file that somebody has put in its place."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.ones_(self.mix.weight)


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """The folder in which a benchmark's network is looked for, with one network."""
    folder = tmp_path / "networks"
    folder.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    (folder / "net.pt2").write_bytes(saved(Mixer().eval()))
    (folder / "net.yaml").write_text(yaml.safe_dump({**SLICES, "output": "maps"}), encoding="utf-8")
    return folder


def test_only_the_network_that_is_allowed_runs(networks, make_cohort, tmp_path, monkeypatch):
    real, synth = make_cohort("real", n=8), make_cohort("synth", n=8, seed=50)
    frozen = run(
        "benchmark", "init", "b", "--folder", tmp_path, "--real", real, "--m", 8,
        "--extractor", f"slices:{networks / 'net.pt2'}", "--metric", "mmd2",
    )  # fmt: skip
    assert frozen.returncode == 0, frozen.stderr
    out = tmp_path / "card.json"

    def scored(*allowed):
        return run(
            "score", "--benchmark", tmp_path / "b", "--real", real, "--synth", synth,
            "--out", out, *(part for file in allowed for part in ("--allow-network", file)),
        )  # fmt: skip

    opened = []
    load = torch.export.load

    def watched(*given, **options):
        opened.append(given)
        return load(*given, **options)

    monkeypatch.setattr(torch.export, "load", watched)
    other = tmp_path / "other.pt2"
    other.write_bytes(saved(Other().eval()))
    for allowed in ((), (other,)):
        refused = scored(*allowed)
        assert refused.returncode == 2
        assert "--allow-network FILE" in refused.stderr
        assert not out.exists()
    assert opened == []  # refused before a byte of it is run
    finished = scored(networks / "net.pt2")
    assert finished.returncode == 0, finished.stderr
    values = {value.metric: value.value for value in Scorecard.load(out).values}
    assert values["mmd2"] is not None
    # The file is exchanged: the one that was allowed is not the one that would run.
    allowed = tmp_path / "allowed.pt2"
    (networks / "net.pt2").rename(allowed)
    (networks / "net.pt2").write_bytes(other.read_bytes())
    assert scored(allowed).returncode == 2
    # Allowed all the same, it is not the network of the protocol.
    exchanged = scored(other)
    assert exchanged.returncode == 2
    assert "net" in exchanged.stderr
