"""What every verb has: groups of options, an example, a page of docs, and ways to speak."""

from __future__ import annotations

import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from synthbench.cli import console
from synthbench.cli.app import app
from synthbench.cli.common.settings_file import KNOWN, MAY_FIND, MAY_WRITE, options_of
from synthbench.errors import UsageError
from tests.command_line import run

ROOT = Path(__file__).parents[2]
ENTRIES = ROOT / "tests/data/ixi-hh-4mm/entries"
VERBS = sorted(KNOWN)


def page_of(verb):
    page = run(*verb, "-h", COLUMNS="200", TERMINAL_WIDTH="200").stdout
    return re.sub(r"\x1b\[[0-9;]*m", "", page)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_help_of_a_verb_has_an_example_a_page_and_the_options_of_all(verb):
    page = page_of(verb)
    assert page == re.sub(r"\x1b\[[0-9;]*m", "", run(*verb, "--help", COLUMNS="200",
                                                     TERMINAL_WIDTH="200").stdout)  # fmt: skip
    for option in ("--json", "--quiet", "-q", "--verbose", "-v", "--config", "-h"):
        assert f"{option} " in page, option
    assert "Output and settings" in page
    (named,) = re.findall(r"More: docs/(\S+)", page)
    assert (ROOT / "docs" / named).is_file()
    example = " ".join(re.findall(r"Example: synthbench (.*?)\n\s*\n", page, re.DOTALL)[0].split())
    words = shlex.split(example)
    words = words[: words.index(">")] if ">" in words else words
    assert tuple(words[: len(verb)]) == verb
    command: Any = typer.main.get_command(app)
    for name in verb:
        command = command.commands[name]
    command.make_context(verb[-1], words[len(verb) :])


def test_options_are_in_groups():
    page = page_of(("score",))
    groups = ["Volumes", "Which files are read", "What is measured", "How it is scored",
              "Files that are written", "What else is read"]  # fmt: skip
    places = [page.index(f"─ {group} ─") for group in groups]
    assert places == sorted(places)
    assert page.index("─ What is measured") < page.index("--extractor") < page.index("─ How it is")


def test_the_whole_command_line_has_a_short_help_a_start_and_completion():
    page = run("-h").stdout
    for words in ("synthbench demo", "docs/README.md", "--install-completion"):
        assert words in page


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("score --metric ms_s", "ms_ssim"), ("train ddp", "ddpm3d"), ("sens", "sensitivity")],
)
def test_a_shell_completes_verbs_and_names(typed, completed):
    words = f"synthbench {typed}"
    ended = run(
        _SYNTHBENCH_COMPLETE="complete_bash", COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )  # fmt: skip
    assert completed in ended.stdout.split()


# ---------------------------------------------------------------- --json, --quiet, --verbose


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("list", "layouts"), None),
        (("cache", "info"), "folder"),
        (("cache", "clear"), "bytes"),
        (("cite", ENTRIES / "noise.json"), "table"),
        (("drift", ENTRIES / "noise.json", ENTRIES / "noise.json"), "exit_code"),
        (("fetch", "random-resnet10"), "files"),
        (("leaderboard", ROOT / "leaderboards", "--check"), "stale"),
        (("data", "select", "table.csv", "--list"), "scans"),
    ],
)
def test_json_is_the_only_thing_on_standard_output(arguments, field, tmp_path):
    (tmp_path / "a.nii").touch()
    (tmp_path / "table.csv").write_text("path,participant_id,age\na.nii,p,30\n", encoding="utf-8")
    ended = run(*arguments, "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found[0] if field is None else field in found


@pytest.mark.slow
def test_json_of_verbs_that_write(tmp_path):
    def answer(*arguments):
        ended = run(*arguments, "--json", "--quiet", cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        return json.loads(ended.stdout)

    made = answer("data", "atlas", "--n", 8, "--shape", 16, 18, 16, "--out", "real")
    assert (made["subjects"], made["shape"]) == (8, [16, 18, 16])
    (split,) = answer("data", "split", "real", "--part", "a=4", "--part", "b=4", "--out", "split")
    assert split["parts"]["a"]["subjects"] == "4"
    assert (tmp_path / split["parts"]["b"]["manifest"]).is_file()
    frozen = answer(
        "benchmark", "init", "x", "--real", "real", "--m", 4, "--metric", "intensity",
        "--primary", "intensity", "--extractor", "voxels",
    )  # fmt: skip
    assert len(frozen["protocol_hash"]) == 12
    page = answer("report", ENTRIES / "noise.json", "--out", "report.html")
    assert page["file"] == "report.html"


def test_a_quiet_verb_says_results_and_errors_only(tmp_path):
    ended = run("cache", "info", "--quiet", SYNTHBENCH_CACHE=str(tmp_path))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert run("cite", "nowhere.json", "-q").stderr.startswith("error: nowhere.json")


def test_json_has_no_number_that_is_not_finite(capsys):
    with console.speaking(json=True):
        console.answer({"a": [float("nan"), 1.5], "b": (float("inf"), "##[x]")})
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {"a": [None, 1.5], "b": [None, "##[x]"]}
    assert "##[" not in out


def test_a_quiet_verb_silences_the_library_and_leaves_it_as_it_was():
    library = logging.getLogger("synthbench")
    before = library.level, list(library.handlers)
    with console.speaking(quiet=True):
        assert not library.isEnabledFor(logging.WARNING)
        with console.progress_bar("x") as advance:
            advance(1, 2, "")
    assert (library.level, library.handlers) == before


def test_a_verbose_verb_says_what_the_library_says_and_where_an_error_was_raised(capsys):
    def verb():
        with console.speaking(verbose=True):
            logging.getLogger("synthbench").info("a sentence\n::error::x")
            raise UsageError("wrong")

    with pytest.raises(UsageError):
        verb()
    said = capsys.readouterr().err
    assert re.search(r"^ +\d\.\d s  a sentence\n\\::error::x$", said, re.MULTILINE)
    assert 'raise UsageError("wrong")' in said
    logging.getLogger("synthbench").info("not shown")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", [("score",), ("drift",)])
def test_one_name_for_metrics_and_the_other_leads_to_it(verb):
    ended = run(*verb, "--metrics", "fid", "--real", "a", "--synth", "b", COLUMNS="200")
    assert ended.returncode == 2
    assert "--metric" in ended.stderr.partition("No such option: --metrics")[2]


def test_every_option_that_a_found_file_may_set_is_one_of_a_verb():
    known = {key for verb in VERBS for key in options_of(verb)}
    assert (MAY_FIND | MAY_WRITE) - known <= {"wide"}
    never = {"allow-network", "accept", "accept-licence", "pretrained", "track", "identifiers",
             "brain-extraction", "dask", "slurm", "slurm-set", "where", "key", "new", "set",
             "init", "max-memory", "features", "neighbours", "sample-data", "quiet", "json",
             "transfer"}  # fmt: skip
    assert never <= known
    assert not never & (MAY_FIND | MAY_WRITE)
