"""The command line, and what a person reads; where it says so, as it was installed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from synthbench import registry
from synthbench.cli import app
from synthbench.sampling import sampling
from tests.command_line import run

COMMAND = str(Path(sys.executable).with_name("synthbench"))


def installed(*arguments, cwd=None):
    """Run the command that pip installed, in a process of its own."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False,
        timeout=300, encoding="utf-8", errors="replace"
    )  # fmt: skip


def test_help_names_every_verb():
    result = installed("--help")
    assert result.returncode == 0
    for verb in ("train", "sample", "score", "leaderboard", "benchmark", "data", "list", "fetch"):
        assert verb in result.stdout


def test_version():
    from synthbench import __version__

    assert installed("--version").stdout == f"synthbench {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [("list", "layouts"), ("--help",), ("list", "layouts", "--json")]
)
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments):
    """As `synthbench list layouts | head -0`: 128 + SIGPIPE, and not a word."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [COMMAND, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_file_that_could_not_be_written_is_named_with_what_to_do(number, monkeypatch):
    def full() -> None:
        raise OSError(number, os.strerror(number), "runs/x/weights.safetensors")

    monkeypatch.setattr(app, "app", full)
    ended = run("train")
    assert ended.returncode == 2
    assert f"runs/x/weights.safetensors: {os.strerror(number)}. " in ended.stderr
    assert ("Name a folder" if number == errno.EROFS else "Make room") in ended.stderr


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("thirdparty.net", "the generator 'echo' of the package an unknown package failed, not"),
        ("synthbench.training.training", "this is a defect of synthbench"),
    ],
)
def test_a_crash_is_blamed_on_the_package_whose_code_failed(module, words, monkeypatch):
    echo = EntryPoint(name="echo", value="thirdparty:Echo", group="synthbench.generators")
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group: [echo] if group == echo.group else []
    )
    crash = {"__name__": module}
    exec("def crash(): 1 / 0", crash)  # code of a module of that name
    monkeypatch.setattr(app, "app", crash["crash"])
    ended = run("train")
    assert ended.returncode == 2
    assert "ZeroDivisionError" in ended.stderr
    assert words in ended.stderr


@pytest.mark.slow
def test_the_story_from_training_to_leaderboard(make_cohort, tmp_path):
    """Train, sample, freeze, score, render, check: every verb once, every exit code 0."""
    real = make_cohort("real", n=6)
    steps = [
        ("train", "noise", "--real", real, "--out", "run", "--json"),
        ("sample", "run", "--n", 5, "--out", "synth", "--json"),
        ("benchmark", "init", "b", "--real", real, "--m", 5, "--extractor", "random-resnet10",
         "--scales", 2),
        ("score", "--benchmark", "leaderboards/b", "--real", real, "--synth", "synth", "--out",
         "leaderboards/b/entries/noise.json"),
        ("leaderboard",),
        ("leaderboard", "--check"),
    ]  # fmt: skip
    outputs = []
    for step in steps:
        result = run(*step, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
        outputs.append(result)
    assert json.loads(outputs[0].stdout)["finished"] is True
    assert json.loads(outputs[1].stdout) == [f"synth/synth-{i:06d}.nii.gz" for i in range(5)]
    table = outputs[3].stdout
    assert "written: leaderboards/b/entries/noise.json" in outputs[3].stderr
    assert "noise | real 6 | synth 5 | random-resnet10@" in table
    labels = (
        "value (n=3)",
        "95% confidence interval",
        "floor (n=3)",
        "verdict",
        "MMD² (RBF)",
        "FID ",
    )
    for words in labels:
        assert words in table
    card = json.loads((tmp_path / "leaderboards/b/entries/noise.json").read_text(encoding="utf-8"))
    assert card["protocol_hash"] in table
    page = tmp_path / "leaderboards/b/README.md"
    page.write_text(page.read_text(encoding="utf-8") + "edited by hand\n", encoding="utf-8")
    stale = run("leaderboard", "--check", cwd=tmp_path)
    assert stale.returncode == 1
    assert "is stale: render with synthbench leaderboard" in stale.stderr


def test_the_installed_command_exits_2_without_a_traceback():
    """By a command that needs no torch, whose import takes seconds."""
    result = installed("data", "split", "d", "--part", "train", "--out", "o")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert "NAME=SUBJECTS" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "ddmp3d"), "did you mean 'ddpm3d'?"),
        (("train",), "name a generator"),
        (("train", "noise", "--preset", "tiny"), "noise has no presets"),
        (("train", "ddpm3d", "--preset", "papr"), "did you mean 'paper'?"),
        (("train", "ddpm3d", "--preset", "tiny", "--set", "chanels=3"), "did you mean 'channels'?"),
        (("train", "ddpm3d", "--preset", "tiny", "--set", "steps"), "write it as key=value"),
        (("train", "ddpm3d", "--preset", "tiny", "--set", "steps=-1"), "steps: "),
        (("train", "noise", "--real", "nowhere"), "no such path"),
        (("train", "--resume"), "name the run folder with --out"),
        (("sample", "nowhere", "--n", "1", "--out", "s"), "no run folder"),
        (("score", "--real", "nowhere", "--synth", "nowhere"), "real: nowhere: no such path"),
        (("score", "--real", "r", "--synth", "s", "--assume-grid", "x"), "'real' or a voxel size"),
        (("score", "--real", "r", "--synth", "s", "--neighbours", "n"), "n: nearest training"),
        (
            ("score", "--benchmark", "b", "--real", "r", "--synth", "s", "--seed", "3"),
            "leave out --seed",
        ),
        (("leaderboard", "nowhere"), "no benchmark here"),
        (("benchmark", "init", "../b", "--real", "r", "--m", "5"), "--folder says where"),
        (("fetch", "medicalnet"), "did you mean 'medicalnet-resnet"),
        (("data", "split", "d", "--part", "train", "--out", "o"), "NAME=SUBJECTS"),
    ],
)
def test_wrong_arguments_exit_2_with_the_next_step(arguments, words, tmp_path):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


def test_ctrl_c_is_not_silent(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "run_sampling", interrupted)
    monkeypatch.setattr(sys, "argv", ["synthbench", "sample", "run", "--n", "1", "--out", "s"])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert stopped.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_no_progress_bar_where_standard_error_is_no_terminal(
    make_cohort, tmp_path, monkeypatch, capfd
):
    """Both streams are files here, down to the descriptors."""
    arguments = ["train", "noise", "--real", make_cohort("real", n=4), "--out", tmp_path / "run"]
    monkeypatch.setattr(sys, "argv", ["synthbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code in (0, None)
    shown = capfd.readouterr().err
    assert "run" in shown
    assert "━" not in shown
    assert "\x1b" not in shown


def test_help_is_quick_and_imports_nothing_heavy():
    """The budget is 0.4 s on an idle machine; here only that nothing heavy is imported."""
    code = (
        "import sys, runpy; sys.argv = ['synthbench', '--help']\n"
        "try: runpy.run_module('synthbench', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch','monai','diffusers','numpy','pandas') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
        errors="replace",
    )
    assert result.stdout.strip().endswith("[]")
