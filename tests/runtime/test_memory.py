"""The memory of the machine, with limits of containers, and the limit for what is read."""

from __future__ import annotations

import pytest

from synthbench.errors import UsageError
from synthbench.runtime.memory import (
    available_memory,
    beyond_limit,
    machine_memory,
    memory_limit,
    parsed,
)

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


# ---------------------------------------------------------------- the limit


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("4G", 4 * 2**30), ("4 GB", 4 * 2**30), ("1.5m", 3 * 2**19), ("7", 7),
     ("2TiB", 2 * 2**40), ("64KB", 2**16), (" 1g ", 2**30)],
)  # fmt: skip
def test_an_amount_is_read_in_powers_of_1024(text, size):
    assert parsed(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "4X", "GiB", "1e9", "nan", "4GiBs", "½G", "0.1"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(UsageError, match="--max-memory: an amount such as 4GiB"):
        parsed(text)


def test_the_limit_is_half_of_the_machine_unless_one_is_set(monkeypatch):
    monkeypatch.delenv("SYNTHBENCH_MAX_MEMORY", raising=False)
    assert memory_limit() == machine_memory() // 2
    assert beyond_limit(memory_limit()) is None
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "2GiB")
    assert beyond_limit(2 * 2**30) is None
    words = beyond_limit(5 * 2**30 + 1)
    assert words is not None
    assert "needs 5 GiB" in words
    assert "at most 2 GiB" in words
    assert "--max-memory 6GiB" in words


def test_a_container_has_the_memory_that_it_is_given(tmp_path):
    """A group of 3 MiB within a machine that has more."""
    proc, group = tmp_path / "proc" / "self", tmp_path / "cgroup" / "job"
    proc.mkdir(parents=True)
    group.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/job\n", encoding="ascii")
    (group / "memory.max").write_text(f"{3 * 2**20}\n", encoding="ascii")
    (group / "memory.current").write_text("1\n", encoding="ascii")
    assert machine_memory(tmp_path / "proc", tmp_path / "cgroup") == 3 * 2**20
