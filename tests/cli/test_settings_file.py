"""Files of options: named, or found by a user who may not know of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from synthbench.cli.common.settings_file import NAME, find, sections_of, settings_of
from tests.command_line import run

SPLIT = "data: {split: {part: [a=2, b=2], seed: 7}}\n"


def wrote(folder: Path, text: str, name: str = NAME) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def taken(monkeypatch):
    """What `score` was called with, in place of a scoring."""
    from synthbench.scoring import scoring

    found = []

    class Stop(Exception):
        pass

    def stop(settings, accept=(), *, tables=False):
        found.append((settings, accept))
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "check_choices", stop)
    return found


def score(folder, *more):
    return run("score", "--real", "r", "--synth", "s", *more, cwd=folder)


def test_a_file_above_is_found_and_said(tmp_path, taken):
    text = "all: {seed: 3, resamples: 200}\nscore: {extractor: [voxels], seed: 4}\n"
    file = wrote(tmp_path, text)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    said = score(below, "--resamples", 300).stderr
    assert f"{file}: settings of seed, resamples, extractor, where you type no others" in said
    ((settings, _),) = taken
    assert (settings.seed, settings.resamples, settings.extractors) == (4, 300, ("voxels",))


def test_a_named_file_takes_the_place_of_the_found_one(tmp_path, taken):
    wrote(tmp_path, "all: {seed: 3}\n")
    named = wrote(tmp_path, "score: {resamples: 200}\n", "mine.yaml")
    ended = score(tmp_path, "--config", named)
    assert f"{named}: settings of resamples" in ended.stderr
    assert NAME not in ended.stderr
    assert (taken[0][0].seed, taken[0][0].resamples) == (0, 200)
    assert NAME not in score(tmp_path, "--config", os.devnull).stderr
    assert (taken[1][0].seed, taken[1][0].resamples) == (0, 1000)


def test_what_concerns_another_verb_is_checked_and_not_said(tmp_path, taken):
    wrote(tmp_path, SPLIT)
    assert NAME not in score(tmp_path).stderr
    wrote(tmp_path, SPLIT.replace("seed", "sed"))
    ended = score(tmp_path)
    assert ended.returncode == 2
    assert f"{NAME}: data split: sed: there is no such option: did you mean 'seed'?" in ended.stderr


def test_paths_are_relative_to_the_file(tmp_path):
    named = wrote(tmp_path, "data: {atlas: {n: 2, out: made}}\n")
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "made").write_text("in the way", encoding="utf-8")
    ended = run("data", "atlas", cwd=below)
    assert str(named.parent / "made") in ended.stderr.partition("\n")[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scroe: {seed: 1}", "scroe: there is no such verb: did you mean 'score'?"),
        ("data: {splot: {seed: 1}}", "data splot: there is no such verb: did you mean 'split'?"),
        ("all: {sed: 1}", "all: sed: there is no such option"),
        ("score: {alpha: 1}", "score: alpha: there is no such option"),
        ("score: {real: [a, b]}", "score: real: a text or a number is needed"),
        ("score: {cache: 3}", "score: cache: true or false is needed; found 3"),
        ("score: {seed: {a: 1}}", "score: seed: a text or a number is needed"),
        ("score: {seed: }", "score: seed: a text or a number is needed; found None"),
        ("score: {extractor: [a, true]}", "a list of them is needed"),
        ("score: 3", "score: options are needed"),
        ("- a", "holds a list, not options by verb"),
        ("score: {seed: 1, seed: 2}", "stands twice"),
        ("a: &a 1\nb: *a", "alias"),
        ("!!python/object/apply:os.system [id]", "is not valid YAML"),
        ("all: {context: 1}", "context: there is no such option"),
        ("all: {config: x}", "config: there is no such option"),
        ("score: {seed: abc}", "--seed"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(text, words, tmp_path):
    named = wrote(tmp_path, text, "mine.yaml")
    ended = score(tmp_path, "--config", named)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "mine.yaml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_values_are_those_that_would_be_typed(tmp_path):
    """A range is no number in base 60, and a seed no octal number."""
    named = wrote(tmp_path, "import: {range: -1:1}\nscore: {seed: 010}\n")
    sections = sections_of(named)
    assert settings_of(named, sections, ("import",), found=True) == {
        "value_range": ("range", "-1:1")
    }
    assert settings_of(named, sections, ("score",), found=True) == {"seed": ("seed", "010")}


def test_an_empty_file_sets_nothing(tmp_path, taken):
    wrote(tmp_path, "# nothing\n")
    assert NAME not in score(tmp_path).stderr


# ---------------------------------------------------------------- a stranger's file


@pytest.mark.parametrize(
    "text",
    [
        "score: {allow-network: [net.pt2]}",
        "score: {extractor: [net:model.pt2]}",
        "all: {extractor: 'slices:model.onnx'}",
        "score: {accept: [flip]}",
        "all: {quiet: true}",
        "all: {json: true}",
        "all: {max-memory: 1TiB}",
        "score: {identifiers: true}",
        "score: {features: f.npz}",
        "train: {track: [wandb]}",
        "train: {pretrained: monai-brain-ldm}",
        "train: {accept-licence: cc-by-nc-4.0}",
        "fetch: {sha256: '0'}",
        "data: {prepare: {brain-extraction: hd-bet}}",
        "data: {prepare: {dask: 'tcp://evil.example:1'}}",
        "sample: {slurm: true}",
        "sample: {slurm-set: ['setup=id']}",
        "data: {select: {where: \"__import__('os').system('id')\"}}",
        "utility: {transfer: 'label=x,data=/etc'}",
        "score: {out: ../card.json}",
        "score: {out: /tmp/card.json}",
        "score: {out: link/card.json}",
        "report: {out: .git/hooks/pre-commit}",
        "score: {out: .}",
        "drift: {junit: a/../../x.xml}",
    ],
)
def test_a_found_file_cannot_run_send_accept_hide_or_write_elsewhere(text, tmp_path):
    """The same file, named by the user, is read: then it is the user's choice."""
    folder = tmp_path / "download"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    file = wrote(folder, text)
    ended = run("cache", "info", cwd=folder)
    assert ended.returncode == 2, ended.stderr
    assert str(file) in ended.stderr
    assert "found" in ended.stderr
    assert f"--config {file}" in ended.stderr
    assert run("cache", "info", "--config", file, cwd=folder).returncode == 0


def test_a_found_file_may_name_what_lies_beside_it(tmp_path, taken):
    wrote(tmp_path, "score: {out: results/card.json}\n")
    assert "settings of out" in score(tmp_path).stderr


def test_a_file_of_another_user_is_passed_over_and_that_is_said(tmp_path, monkeypatch, capsys):
    file = wrote(tmp_path, "all: {seed: 3}\n")
    assert find(tmp_path) == file
    file.chmod(0o666)
    assert find(tmp_path) is None
    assert f"{file}: not used, because everybody can change it" in capsys.readouterr().err
    file.chmod(0o644)
    monkeypatch.setattr(os, "getuid", lambda: file.stat().st_uid + 1)
    if file.stat().st_uid != 0:
        assert find(tmp_path) is None
        assert "another user" in capsys.readouterr().err


def test_none_is_looked_for_above_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    wrote(tmp_path, "all: {seed: 3}\n")
    monkeypatch.setattr(Path, "home", lambda: home)
    assert find(home / "work") is None
    file = wrote(home, "all: {seed: 3}\n")
    assert find(home / "work") == file


def test_a_folder_of_that_name_is_no_file(tmp_path, capsys):
    (tmp_path / NAME).mkdir()
    assert find(tmp_path) is None
    assert "it is no file" in capsys.readouterr().err


# ---------------------------------------------------------------- verbs that know other files


def test_train_takes_both_kinds_of_files(tmp_path):
    generator = wrote(tmp_path, "stepz: 3\n", "settings.yaml")
    ended = run("train", "noise", "--out", "r", "--config", generator, cwd=tmp_path)
    assert "no setting 'stepz'" in ended.stderr
    options = wrote(tmp_path, "train: {preset: tiny}\n", "options.yaml")
    ended = run("train", "noise", "--out", "r", "--config", options, cwd=tmp_path)
    assert "options.yaml: settings of preset" in ended.stderr
    assert "noise has no presets" in ended.stderr


def test_what_a_benchmark_has_frozen_is_not_passed_over(tmp_path):
    wrote(tmp_path, "all: {seed: 3}\n")
    ended = score(tmp_path, "--benchmark", "b")
    assert "leave out --seed (of the settings file)" in ended.stderr


def test_a_list_of_one_fits_a_verb_that_takes_one(tmp_path):
    wrote(tmp_path, "all: {extractor: [voxels]}\n")
    ended = run("utility", "--real", "a", "--synth", "b", "--test", "c", cwd=tmp_path)
    assert "settings of extractor" in ended.stderr
    wrote(tmp_path, "all: {extractor: [voxels, qiu2022]}\n")
    ended = run("utility", "--real", "a", "--synth", "b", "--test", "c", cwd=tmp_path)
    assert "extractor: a text or a number is needed" in ended.stderr


def test_the_source_of_an_option_is_in_the_answer_of_none(tmp_path):
    """What is said of the file goes to standard error: scripts read JSON as before."""
    wrote(tmp_path, "all: {verbose: false}\n")
    ended = run(
        "cache", "info", "--json", "--config", tmp_path / NAME, cwd=tmp_path,
        SYNTHBENCH_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert json.loads(ended.stdout)["files"] == 0
