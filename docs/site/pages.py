"""Pages of the site that are made from the code: the commands, from their help, and the reference.

`write_all` writes them into docs/_site, which git ignores, before Sphinx reads its sources.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import typer.main
from typer import Context
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from synthbench.cli.app import app
from tests.test_public_names import PUBLIC

SECTION = re.compile(r"^## (?P<name>[\w-]+)(?:: (?P<what>.+))?$")
LINK = re.compile(r"\]\((?!https?:|#)(?P<target>[^)]+)\)")
PAGE = re.compile(r"^\| \[[^]]+\]\((?P<page>[\w./-]+)\.md\)")
ALWAYS = {"--help", "--install-completion", "--show-completion"}
Parameter = TyperArgument | TyperOption
Command = TyperCommand | TyperGroup
ORDER = (
    "tutorial", "examples/index", "how-to", "commands", "reference", "explanation", "leaderboards",
    "project",
)  # fmt: skip
PROJECT = ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")


def write_all(root: Path) -> None:
    """Write all pages that are made, and remove those of commands that are no more.

    Parameters
    ----------
    root
        The root of the repository.
    """
    out = root / "docs" / "_site"
    for made in ("api", "commands"):
        shutil.rmtree(out / made, ignore_errors=True)
    out.mkdir(exist_ok=True)
    index = (root / "docs" / "README.md").read_text(encoding="utf-8")
    for name, text in sections(index):
        _write(out / f"{name}.md", text)
    for name, text in commands():
        _write(out / "commands" / f"{name}.md", text)
    names = sorted(file.stem for file in (out / "commands").glob("*.md"))
    _write(out / "commands.md", _command_list(names))
    boards = sorted(file.parent.name for file in (root / "leaderboards").glob("*/README.md"))
    _write(
        out / "leaderboards.md",
        _links(
            "Leaderboards",
            [f"leaderboards/{b}/{page}" for b in boards for page in ("README", "details")],
        ),
    )
    _write(out / "project.md", _links("Project", PROJECT))
    for module in PUBLIC:
        _write(out / "api" / f"{module}.md", api(module))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _links(title: str, pages: Sequence[str]) -> str:
    """Return a page that lists pages by their own titles; their paths are from the root."""
    return (
        f"# {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n"
        + "".join(f"../../{p}\n" for p in pages)
        + "```\n"
    )


# ---------------------------------------------------------------- sections


def sections(index: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of a page per section of docs/README.md.

    A section's table is the list of its pages, so a page is listed once: there.
    """
    for part in re.split(r"(?=^## )", index, flags=re.MULTILINE)[1:]:
        first, _, body = part.partition("\n")
        if not (head := SECTION.match(first)):
            raise ValueError(f"docs/README.md: a section is named '## Word: what', not {first!r}")
        name = head["name"].lower()
        pages = [f"../{found['page']}" for line in body.splitlines() if (found := PAGE.match(line))]
        if name == "reference":
            pages += [f"api/{module}" for module in PUBLIC]
            body += "\n".join(["", "| module | for |", "|---|---|", *map(_module_row, PUBLIC)])
        moved = LINK.sub(lambda link: f"]({_from_site(link['target'])})", body)
        yield name, f"# {head['name']}\n{moved}\n{_tree(pages)}"


def _from_site(target: str) -> str:
    return target if target.startswith("api/") else f"../{target}"


def _module_row(module: str) -> str:
    about = inspect.getdoc(import_module(module)) or ""
    first = about.splitlines()[0]
    return f"| [`{module}`](api/{module}.md) | {first.partition(': ')[2] or first} |"


def _tree(pages: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *pages, "```", ""])


# ---------------------------------------------------------------- commands


def commands() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of a page per command, made from its help."""
    root = typer.main.get_command(app)
    # Commands keep the names of their help option from the first context that they see.
    yield from _commands(root, Context(root, info_name="synthbench", **root.context_settings))


def _commands(command: Command, context: Context) -> Iterator[tuple[str, str]]:
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            yield from _commands(inner, Context(inner, parent=context, info_name=name))
        return
    words = context.command_path
    name = words.removeprefix("synthbench ").replace(" ", "-")
    usage = " ".join([words, *command.collect_usage_pieces(context)])
    lines = [f"# {words}", "", _text(command.help or ""), "", "```text", usage, "```", ""]
    for panel, parameters in _panels(command).items():
        lines += [f"## {panel}", "", "| option | meaning |", "|---|---|"]
        lines += [_parameter(parameter, context) for parameter in parameters]
        lines += [""]
    if command.epilog:
        lines += [_text(command.epilog), ""]
    yield name, "\n".join(lines)


def _panels(command: Command) -> dict[str, list[Parameter]]:
    found: dict[str, list[Parameter]] = {}
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or ALWAYS & set(parameter.opts):
            continue
        usual = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
        found.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(parameter)
    return found


def _parameter(parameter: Parameter, context: Context) -> str:
    record = parameter.get_help_record(context)
    assert record is not None, parameter.name
    name, said = record
    cells = [f"`{name}`", _text(said).replace("\n", " ")]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _text(help_text: str) -> str:
    return inspect.cleandoc(help_text).replace("\\[", "[").replace("<", "\\<")


def _command_list(names: list[str]) -> str:
    rows = [f"| [`synthbench {name.replace('-', ' ', 1)}`](commands/{name}.md) |" for name in names]
    pages = [f"commands/{name}" for name in names]
    return "\n".join(["# Commands", "", "| command |", "|---|", *rows, "", _tree(pages)])


# ---------------------------------------------------------------- reference


def api(module: str) -> str:
    """Return the page of a module's public names, from their docstrings."""
    lines = [f"# {module}", "", "```{eval-rst}", f".. currentmodule:: {module}", ""]
    found = import_module(module)
    for name in PUBLIC[module].split():
        value = getattr(found, name)
        if inspect.isclass(value):
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        elif callable(value):
            lines += [f".. autofunction:: {name}", ""]
        elif name != "__version__":
            lines += [f".. autodata:: {name}", ""]
    return "\n".join([*lines, "```", ""])
