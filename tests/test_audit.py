"""The check of known holes: it fails for a hole, and says by name that it was skipped."""

from __future__ import annotations

import io
import json
import subprocess
import types
import urllib.error
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KNOWS = b'{"vulnerabilities": [{"id": "CVE-2019-10906"}]}'
NO_MODULE = "python: No module named pip_audit"


@pytest.fixture
def audit(monkeypatch):
    """Return a function: exit status for an index's answer and for what pip-audit writes."""
    module = types.ModuleType("audit")
    module.__file__ = str(ROOT / ".ci" / "audit")
    code = SourceFileLoader("audit", module.__file__).get_source("audit")
    exec(compile(str(code), module.__file__, "exec"), module.__dict__)

    def run(answer, written=None, stderr=""):
        def asked(*arguments, **options):
            if isinstance(answer, Exception):
                raise answer
            return io.BytesIO(answer)

        def called(command, **options):
            assert str(ROOT / "constraints.txt") in command
            if written is not None:
                Path(command[command.index("--output") + 1]).write_text(
                    json.dumps(written), encoding="utf-8"
                )
            return subprocess.CompletedProcess(command, 1, "", stderr)

        monkeypatch.setattr("urllib.request.urlopen", asked)
        monkeypatch.setattr(subprocess, "run", called)
        return module.main()

    return run


def package(*holes):
    return {"name": "jinja2", "version": "2.10", "vulns": list(holes)}


@pytest.mark.parametrize(
    ("answer", "written", "stderr", "status", "words"),
    [
        (urllib.error.URLError("no network"), None, "", 0, "skipped"),
        (b'{"vulnerabilities": []}', None, "", 0, "skipped"),
        (b"a page of a hotel", None, "", 0, "skipped"),
        (b"[]", None, "", 0, "skipped"),
        (
            KNOWS,
            None,
            "ConnectionError: gone",
            0,
            "skipped, as no index of known holes answers: Co",
        ),
        (KNOWS, {"dependencies": [package()]}, "", 0, "0 known holes in 1 packages"),
        (
            KNOWS,
            {"dependencies": [package({"id": "CVE-2019-10906", "fix_versions": ["2.10.1"]})]},
            "",
            1,
            "jinja2 2.10: CVE-2019-10906; fixed in 2.10.1",
        ),
    ],
)
def test_only_a_known_hole_fails(audit, capsys, answer, written, stderr, status, words):
    assert audit(answer, written, stderr) == status
    assert words in capsys.readouterr().out


def test_a_missing_pip_audit_is_no_pass(audit, capsys):
    assert audit(KNOWS, None, NO_MODULE) == 2
    assert "make install" in capsys.readouterr().err
