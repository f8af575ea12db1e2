"""The memory of the machine, with limits of containers, and the limit for what is read."""

from __future__ import annotations

import pytest

from synthbench.runtime.memory import available_memory

# ---------------------------------------------------------------- the machine


@pytest.fixture
def kernel(tmp_path):
    """Write the kernel's reports: 8 GiB available, and what a test says of cgroups."""

    def write(membership="", **limits):
        proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
        (proc / "self").mkdir(parents=True)
        (proc / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
        (proc / "self" / "cgroup").write_text(membership)
        for name, value in limits.items():
            file = cgroups / name.replace("__", "/").replace("DOT", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")
        return available_memory(proc, cgroups)

    return write


def test_memory_is_what_the_kernel_says_is_available(kernel):
    assert kernel() == 8 * 2**30


def test_a_limit_of_a_group_above_counts(kernel):
    """A job's own group is unlimited, the one above leaves 5 - 2 GiB (version 2)."""
    room = kernel(
        "0::/jobs/17\n",
        jobs__17__memoryDOTmax="max",
        jobs__17__memoryDOTcurrent=2**30,
        jobs__memoryDOTmax=5 * 2**30,
        jobs__memoryDOTcurrent=2 * 2**30,
    )
    assert room == 3 * 2**30


def test_limits_of_the_older_cgroups_count(kernel):
    room = kernel(
        "5:cpu,cpuacct:/job\n4:memory:/job\n",
        memory__job__memoryDOTlimit_in_bytes=4 * 2**30,
        memory__job__memoryDOTusage_in_bytes=3 * 2**30,
    )
    assert room == 2**30
