"""What LaTeX would do with a text, told without LaTeX."""

from __future__ import annotations

import re

# Each prints one sign: a name may hold as many of them as it likes.
SIGNS = {
    "ae", "AE", "o", "O", "oe", "OE", "l", "L", "ss", "textbackslash", "textasciitilde",
    "textasciicircum", "textless", "textgreater", "textbar", "textasciigrave", "textendash",
    "textdagger", "textsuperscript", "u", "v", "H", "c", "r",
}  # fmt: skip
_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|[{}$&#^_~%]", re.DOTALL)


def structure_of_latex(text: str) -> list[str]:
    """Return the commands, groups and special signs of a text that are not printed as they are.

    Raises
    ------
    AssertionError
        LaTeX would stop: braces, mathematics or environments are not balanced, a row has other
        cells than its header, or a special sign stands where it is not allowed.
    """
    found: list[str] = []
    open_environments: list[str] = []
    depth, mathematics = 0, False
    lines = text.splitlines()
    for line in lines:
        kept = re.sub(r"(?<!\\)%.*", "", line)
        for token in _TOKEN.findall(kept):
            mathematics ^= token == "$"
            depth += {"{": 1, "}": -1}.get(token, 0)
            assert depth >= 0, line
            in_file = open_environments[-1:] == ["filecontents*"]
            assert token not in "#~" or token == "~", line
            assert token not in "^_" or mathematics or in_file, line
            if not (token[:1] == "\\" and (token[1:] in SIGNS or not token[1].isalpha())):
                found.append(token)
        for what, name in re.findall(r"\\(begin|end)\{(.*?)\}", kept):
            if what == "begin":
                open_environments.append(name)
            else:
                assert open_environments.pop() == name, line
        assert not mathematics, f"mathematics goes on after the line: {line}"
    assert (depth, open_environments) == (0, [])
    for table in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        for row in re.findall(r"^(.*) \\\\$", table[1], re.MULTILINE):
            assert len(re.findall(r"(?<!\\)&", row)) == len(table[0]) - 1, row
    # Braces of signs and accents come and go with them.
    return [token for token in found if token not in "{}$"]
