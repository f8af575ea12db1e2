"""The verb `doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from synthbench.cli.console import answer
from synthbench.errors import CheckFailed

if TYPE_CHECKING:
    from synthbench.report.doctor import Check


def doctor() -> None:
    """Look at this machine: versions, threads, GPU, disk, weights; say what to fix."""
    from synthbench.report.doctor import checks

    found = checks()
    answer([asdict(check) for check in found], lambda: _table(found))
    problems = [check.name for check in found if check.state == "problem"]
    if problems:
        raise CheckFailed(f"{len(problems)} problems: {', '.join(problems)}.")


def _table(found: list[Check]) -> Any:
    from rich.console import Group

    from synthbench.render.terminal import Table, Text

    table = Table("", "", "found")
    for check in found:
        table.add_row({"ok": "ok", "note": "note", "problem": "FIX"}[check.state], check.name,
                      check.found)  # fmt: skip
    advice = [Text(f"{check.name}: {check.fix}") for check in found if check.fix]
    return Group(table, *advice)
