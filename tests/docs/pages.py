"""Run the examples of a page: its blocks of Python, in one namespace, from top to bottom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield the blocks of Python of a page, each with the text that it promises (empty: none).

    That text is a block `text` which follows with nothing but blank lines between.
    """
    found = list(_BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")))
    for one, following in zip(found, [*found[1:], None], strict=False):
        if one[1] != "python":
            continue
        between = following and one.string[one.end() : following.start()].strip()
        promised = following[2].strip() if following and following[1] == "text" else ""
        yield one[2], promised if between == "" else ""


def run_page(
    page: str, given: Mapping[str, Any] | None = None, left_out: Sequence[int] = ()
) -> int:
    """Run a page in the current folder and return the number of its blocks.

    `given` are names that a page takes for given, and `left_out` the numbers of blocks that are
    not run.

    The value of a block's last line is compared with the promised text, in which `...` stands
    for anything.
    """
    names: dict[str, Any] = dict(given or {})
    number = 0
    for number, (code, promised) in enumerate(blocks(page), 1):
        if number in left_out:
            continue
        tree = ast.parse(code)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{page}, block {number}", "exec"), names)
        if last is None:
            assert not promised, f"{page}, block {number} promises a value and has none"
            continue
        assert isinstance(last, ast.Expr)
        value = eval(compile(ast.Expression(last.value), page, "eval"), names)
        if promised:
            pattern = re.escape(promised).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, repr(value)), f"{page}, block {number}: {value!r}"
    return number
