"""What reaches a terminal or a log: visible text, in every locale, and no command."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import pytest

from synthbench.runtime.text import for_every_locale, one_line, printed, visible

PACKAGE = Path(__file__).parents[2]


def test_control_characters_are_written_out():
    assert visible("a\x1b[31m\x07\u202e\u200b") == "a\\u001b[31m\\u0007\\u202e\\u200b"
    assert one_line("a\r\n\tb\x85") == "a\\r\\n\\tb\\u0085"
    assert visible("é²→ 漢字") == "é²→ 漢字"


@pytest.mark.parametrize(
    "line", ["::error::x", "  ::warning file=a::x", "\t::stop-commands::x", "a ##[error]b"]
)
def test_no_line_is_a_command_of_a_runner(line):
    """The runner trims a line before it looks for "::", and finds "##[" anywhere in it."""
    text = printed(f"found:\n{line}")
    assert not any(one.strip().startswith("::") for one in text.splitlines())
    assert "##[" not in text
    assert printed("a::b\n\tc") == "a::b\n\tc"


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"MMD^2 -> \\xe9\\u6f22 \\udcff"),
        ("iso-8859-1", b"MMD\xb2 -> \xe9\\u6f22 \\udcff"),
    ],
)
def test_a_stream_writes_what_its_encoding_lacks_in_words(encoding, written, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for_every_locale()
    sys.stdout.write("MMD² → é漢 \udcff")
    sys.stdout.flush()
    assert raw.getvalue() == written


def _names_its_encoding(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    named = {keyword.arg for keyword in call.keywords}
    # `read_text(file, ...)` is synthbench's own, which reads UTF-8; `file.read_text()` is Path's.
    if name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute):
        return "encoding" in named
    # A process whose output is text.
    return (
        "text" not in named or name not in ("run", "Popen", "check_output") or ("encoding" in named)
    )


@pytest.mark.parametrize("folder", ["synthbench", "generators", "metrics"])
def test_every_text_file_names_its_encoding(folder):
    """Ruff's PLW1514 sees only calls whose object it knows to be a Path."""
    for file in (PACKAGE / folder).rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            assert _names_its_encoding(call), f"{file}:{call.lineno}"
