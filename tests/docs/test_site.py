"""The pages of the site that are made from the code, and the check of a built site."""

from __future__ import annotations

import importlib.util
import inspect
import io
import re
import sys
from pathlib import Path
from types import FunctionType

import pytest
from docutils.core import publish_doctree

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "site"


def module(name: str):
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


pages = module("pages")


def test_every_command_has_a_page_with_its_options():
    found = dict(pages.commands())
    assert {"score", "train", "data-atlas", "benchmark-init"} <= set(found)
    assert "| `--real <path>` | Real cohort" in found["score"]


def test_every_page_of_docs_is_in_a_section():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    sections = dict(pages.sections(index))
    assert list(sections) == ["tutorial", "how-to", "reference", "explanation"]
    every = "\n".join(sections.values())
    missing = [
        file.name
        for file in sorted((ROOT / "docs").glob("*.md"))
        if file.name != "README.md" and f"\n../{file.stem}\n" not in every
    ]
    assert missing == []


def test_every_name_of_the_reference_is_public():
    text = pages.api("synthbench.metrics")
    assert ".. autofunction:: fid\n" in text
    assert ".. autofunction:: local_copying\n" in text


# Napoleon reads the sections, so only what docutils says of the words is judged here.
METHODS = (FunctionType, classmethod, staticmethod, property)
INLINE = re.compile(r"start-string without|Undefined substitution|Unknown target name")


def complaints(text: str) -> list[str]:
    """What docutils says of markup in the words of a docstring."""
    said = io.StringIO()
    words = re.sub(r"(?m)^\*\*(?=\w+$)", "", inspect.cleandoc(text))  # a parameter, **settings
    publish_doctree(words, settings_overrides={"warning_stream": said, "report_level": 1})
    return [line for line in said.getvalue().splitlines() if INLINE.search(line)]


def docstrings():
    """The docstrings of the reference, with those of the members of its classes."""
    for module_name in pages.PUBLIC:
        found = importlib.import_module(module_name)
        for name in pages.PUBLIC[module_name].split():
            value = getattr(found, name)
            if not callable(value):
                continue
            yield name, value.__doc__ or ""
            if inspect.isclass(value):
                for member, held in vars(value).items():
                    if not member.startswith("_") and isinstance(held, METHODS):
                        yield f"{name}.{member}", held.__doc__ or ""


def test_docstrings_of_the_reference_hold_no_markup_by_accident():
    """`|x|` is a substitution there, and `make docs` fails on it, minutes later."""
    assert complaints("Within |x| of zero.") != []
    found = [f"{name}: {line}" for name, text in docstrings() for line in complaints(text)]
    assert found == []


def write(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"<html><body>{body}</body></html>", encoding="utf-8")


@pytest.fixture
def check():
    pytest.importorskip("bs4")
    return module("check")


def test_a_site_whose_links_lead_somewhere_is_right(check, tmp_path):
    write(tmp_path, "a.html", '<a href="b.html#there">b</a> <a href="https://x.org/">out</a>')
    write(tmp_path, "b.html", '<p id="there"><img src="b.png"></p>')
    assert [*check.elsewhere(tmp_path), *check.broken(tmp_path)] == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<a href="c.html">c</a>', "a.html: no page c.html"),
        ('<a href="#here">c</a>', "a.html: no place #here"),
        ('<script src="//cdn.org/x.js"></script>', "a.html: loads //cdn.org/x.js"),
        ('<img src="https://x.org/p.png">', "a.html: loads https://x.org/p.png"),
    ],
)
def test_what_is_wrong_with_a_site_is_said(check, tmp_path, body, said):
    write(tmp_path, "a.html", body)
    assert [*check.elsewhere(tmp_path), *check.broken(tmp_path)] == [said]


def test_a_style_that_loads_from_elsewhere_is_found(check, tmp_path):
    (tmp_path / "s.css").write_text("@import 'https://x.org/s.css';", encoding="utf-8")
    assert list(check.elsewhere(tmp_path)) == ["s.css: loads https://x.org/s.css"]
    assert "site_check" not in sys.modules


@pytest.mark.parametrize("there", [True, False])
def test_a_site_without_pages_is_not_right(check, tmp_path, there, monkeypatch, capsys):
    site = tmp_path if there else tmp_path / "docs"
    monkeypatch.setattr(sys, "argv", ["check.py", str(site)])
    with pytest.raises(SystemExit) as stopped:
        check.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().out == f"{site}: no page; was it built?\n"
