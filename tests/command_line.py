"""The command line, run within the test's own process.

A process of its own costs seconds, as it imports torch anew. So only the tests of what a process
alone can show start one: that the command is installed, signals, locale, imports.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from synthbench.cli import app


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> Finished:
    """Run `synthbench ARGUMENTS` in a folder, with additions to the environment."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        chdir(cwd or Path.cwd()),
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", ["synthbench", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int), code
    return Finished(code, out.getvalue(), err.getvalue())
