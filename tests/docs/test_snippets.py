"""What the documentation tells to type: every command is one that the command line takes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer import Context

from synthbench.cli.app import app

ROOT = Path(__file__).parents[2]
ROOT_COMMAND = typer.main.get_command(app)
PAGES = sorted(
    [
        *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("leaderboards/*/notes.md"),
        *ROOT.glob("tests/data/*/README.md"), *ROOT.glob("docs/examples/*.py"),
    ]
)  # fmt: skip
FENCE = re.compile(
    r"^( *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^\1```", re.DOTALL | re.MULTILINE
)
PROGRAMS = {"python", "py"}
WORD = re.compile(r"(?:^|[;&|(]\s*|\$ )(?:[A-Z_]+=\S* )*(synthbench(?= ).*)")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    for found in FENCE.finditer(page.read_text(encoding="utf-8")):
        yield found["language"], found["text"]


def commands(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if found := WORD.search(line.strip()):
            yield found[1]


def words_of(command: str) -> list[str]:
    """Return the words of the first command of a line of the shell."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.wordchars += "$=:,+%@^[]{}²"
    every = list(lexer)
    end = next((i for i, word in enumerate(every) if set(word) <= set("|&;<>()")), len(every))
    return every[:end]


def parse(command: str) -> None:
    """Parse a command as the command line does, without running it."""
    every = words_of(command)[1:]
    # "..." stands for options that the text around it names: then some may be missing.
    words = [word for word in every if word not in {"...", "…"}]
    partial = len(words) < len(every)
    if "--config" in words:  # it is read at once, and is not there
        place = words.index("--config")
        words = words[:place] + words[place + 2 :]
    group = ROOT_COMMAND
    context = Context(group, info_name="synthbench")
    while hasattr(group, "commands") and words and not words[0].startswith("-"):
        group = group.commands[words.pop(0)]
        context = Context(group, parent=context, info_name=group.name)
    group.make_context(group.name, words, parent=context.parent, resilient_parsing=partial)


def typed() -> list[tuple[str, str]]:
    return [
        (page.relative_to(ROOT).as_posix(), command)
        for page in PAGES
        for language, text in blocks(page)
        if language not in PROGRAMS | {"yaml", "toml", "json", "text"}
        for command in commands(text)
        if "-completion" not in command  # the shell's own files would be written
    ]


def test_every_command_in_the_documentation_is_taken_by_the_command_line():
    wrong = []
    for page, command in typed():
        try:
            parse(command)
        except (Exception, SystemExit) as error:
            wrong.append(f"{page}: {command}: {getattr(error, 'message', error)!r}")
    assert not wrong, "\n".join(wrong)


def test_these_are_all_commands_of_many_pages():
    found = typed()
    assert len(found) > 140
    assert len({page for page, _ in found}) > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_program_in_the_documentation_is_python(page):
    for language, text in blocks(page):
        if language in PROGRAMS:
            ast.parse(text)


@pytest.mark.parametrize("wrong", ["score --reel x --synth y", "scores --real x", "train --n 3"])
def test_a_command_that_it_does_not_take_is_found(wrong):
    with pytest.raises((Exception, SystemExit)):
        parse(f"synthbench {wrong}")
