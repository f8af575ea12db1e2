"""The command line, run within the test's own process.

A process of its own costs seconds, as it imports torch anew. So only the tests of what a process
alone can show start one: that the command is installed, signals, locale, imports.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tempfile
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
        # Under `python -m pytest` click would take the command's name from the package pytest.
        patch.object(sys.modules["__main__"], "__package__", None),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int), code
    return Finished(code, out.getvalue(), err.getvalue())


def run_as_two(*arguments: object) -> Finished:
    """Run `synthbench ARGUMENTS` as two processes, as `accelerate launch` would start them.

    The launcher imports torch itself, for seconds; tests/sampling has a test that goes through it.
    Both processes write into one file, which is returned as standard output.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile() as said:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "synthbench", *map(str, arguments)],
                stdout=said,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
                },
            )
            for rank in range(2)
        ]  # fmt: skip
        try:
            codes = [process.wait(timeout=240) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
        said.seek(0)
        output = said.read().decode(errors="replace")
    return Finished(max(map(abs, codes)), output, "")
