"""What the analysis says in words, and the demo, which runs all of it."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from synthbench.cli import readers_demo
from synthbench.errors import UsageError
from synthbench.readers.results import KAPPA, Analysis, Answered, Compared
from synthbench.readers.table import analysis_table, sentences
from synthbench.records.readers import Estimated
from tests.command_line import run


def compared(group, value, low, high, verdict, control=False):
    share = Estimated(value=value, low=low, high=high)
    return Compared(group=group, control=control, readers=5, cases=20, answers=100, accuracy=share,
                    d_prime=share, equivalence_p=0.5, verdict=verdict,
                    per_reader={"reader-1": value})  # fmt: skip


def analysis(*rows, answered=10):
    return Analysis(margin=0.1, readers={"reader-1": Answered(answered=answered, asked=10)},
                    compared=rows, real_fingerprint="", study="5" * 64,
                    fingerprints={})  # fmt: skip


def test_the_trap_of_kappa_is_said_wherever_something_is_compared():
    assert KAPPA in sentences(analysis(compared("a", 0.5, 0.4, 0.6, "unsure")))
    assert "near zero" in KAPPA
    assert sentences(analysis()) == []


def test_a_control_that_fails_is_named():
    good = analysis(
        compared("blurred", 0.9, 0.8, 0.97, "told", True),
        compared("real", 0.5, 0.4, 0.6, "unsure", True),
    )
    bad = analysis(
        compared("blurred", 0.6, 0.4, 0.8, "unsure", True),
        compared("real", 0.7, 0.6, 0.8, "told", True),
    )
    assert len(sentences(good)) == 1
    words = " ".join(sentences(bad))
    assert "did not find the blurred control" in words
    assert "Real against real is off 50%" in words


def test_readers_who_are_not_finished_are_named():
    assert "reader-1" in " ".join(sentences(analysis(answered=9)))


def test_names_of_generators_are_text():
    shown = analysis_table(analysis(compared("[red]a\x1b[31m", 0.5, None, None, "unsure")))
    console = Console(width=200, markup=True)
    with console.capture() as captured:
        console.print(shown)
    assert "[red]a\\u001b[31m" in captured.get()
    assert "50 [too few]" in captured.get()


@pytest.mark.slow
def test_the_demo_runs_a_study_from_volumes_to_what_readers_saw(tmp_path, monkeypatch):
    monkeypatch.setattr(readers_demo, "REAL", 30)
    monkeypatch.setattr(readers_demo, "TRAINING", 5)
    monkeypatch.setattr(readers_demo, "VOLUMES", 4)
    out = tmp_path / "demo"
    said: list[str] = []
    found = readers_demo.run_readers_demo(out, shape=(16, 18, 16), log=said.append)
    groups = ["pca-gaussian", "mixup", "blurred", "memorizer", "real"]
    assert [one.group for one in found.compared] == groups
    assert all(one.answered == one.asked for one in found.readers.values())
    assert Analysis.load(out / "analysis.json") == found
    assert "synthbench readers serve" in said[-1]
    with pytest.raises(UsageError, match="not empty"):
        readers_demo.run_readers_demo(out)

    ended = run("readers", "analyse", out / "study", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["compared"][0]["group"] == "pca-gaussian"
    ended = run(
        "readers", "init", tmp_path / "other", "--real", out / "real", "--synth",
        out / "synth/mixup", "--cases", 3, "--controls", 1, "--practice", 1, "--json",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    made = json.loads(ended.stdout)
    assert (made["readers"], made["cases"]) == (5, 3)
    assert 0 <= made["power"] < 0.5
    assert (tmp_path / "other.key.json").is_file()
