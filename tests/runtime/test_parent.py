"""Worker processes end with the process that started them, and with them what they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_workers_of_a_killed_process_end_and_the_tools_that_they_run():
    """A worker that is at work in C, and a program that it waits for."""
    worker = (
        "import subprocess\n"
        "from synthbench.runtime.parent import end_with_parent\n"
        "end_with_parent(); end_with_parent()\n"
        "tool = subprocess.Popen(['sleep', '600'])\n"
        "import os; print(os.getpid(), tool.pid, flush=True)\n"
        "tool.wait()\n"
    )
    program = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1]])\n"
    )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", program, worker], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        started = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(started) == 2
        parent.kill()
        deadline = time.monotonic() + 20
        while any(runs(pid) for pid in started):
            assert time.monotonic() < deadline, [pid for pid in started if runs(pid)]
            time.sleep(0.05)
