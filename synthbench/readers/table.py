"""The analysis of a study as tables and sentences for a terminal."""

from __future__ import annotations

from rich.console import Group

from synthbench.readers.results import KAPPA, Analysis, Compared, Estimated
from synthbench.render.numbers import number, p_text
from synthbench.render.terminal import Table, Text

WORDS = {
    "blurred": "blurred real (control)",
    "memorizer": "memorizer (control)",
    "real": "real against real (control)",
}
VERDICTS = {
    "told": "told from real",
    "reversed": "taken for real more often than real ones",
    "equivalent": "not told: equivalent to chance",
    "unsure": "not sure: more readers or cases",
}


def cell(found: Estimated | None, *, scale: float = 1.0, sign: str = "", digits: int = 2) -> str:
    """Return a value with its interval as text.

    >>> cell(Estimated(value=0.512, low=0.45, high=0.57), scale=100, digits=0)
    '51 [45, 57]'
    """
    if found is None:
        return "-"
    value = f"{scale * found.value:{sign}.{digits}f}"
    if found.low is None or found.high is None:
        return f"{value} [too few]"
    low, high = (f"{scale * end:{sign}.{digits}f}" for end in (found.low, found.high))
    return f"{value} [{low}, {high}]"


def analysis_table(found: Analysis) -> Group:
    """Return all tables of an analysis, with the sentences that go with them."""
    parts: list[Table | Text] = [Text(line) for line in sentences(found)]
    for table in (_compared(found), _rated(found), _differences(found), _repeated(found)):
        if table.row_count:
            parts += [Text(), table]
    return Group(*parts)


def sentences(found: Analysis) -> list[str]:
    """Return what the readers saw, in words."""
    lines = [_sentence(one, found.margin) for one in found.compared if not one.control]
    lines += [line for one in found.compared if one.control for line in _of_control(one)]
    if found.bias is not None:
        left = found.bias.left
        lines.append(f"Readers said left in {cell(left, scale=100, digits=0)}% of the comparisons.")
    drift = found.drift
    if drift is not None and drift.accuracy is not None:
        first, second = drift.seconds
        lines.append(
            f"Second half of the session less the first: accuracy "
            f"{cell(drift.accuracy, scale=100, sign='+', digits=0)} points; {first:.0f} s, then "
            f"{second:.0f} s per trial."
        )
    open_ = [name for name, one in found.readers.items() if one.answered < one.asked]
    if open_:
        lines.append(f"Not finished: {', '.join(open_)}. The numbers are of the answers so far.")
    if found.compared:
        lines.append(KAPPA)
    return lines


def _sentence(one: Compared, margin: float) -> str:
    share = cell(one.accuracy, scale=100, digits=0)
    what = f"{one.group}: readers found the real one in {share}% of the pairs"
    if one.verdict == "told":
        return f"{what}: they can tell these volumes from real ones."
    if one.verdict == "reversed":
        return f"{what}: they took these volumes for real more often than real ones."
    if one.verdict == "equivalent":
        return f"{what}: they cannot tell them, within 50 +- {100 * margin:.0f} points."
    return f"{what}: too uncertain to say whether they can tell."


def _of_control(one: Compared) -> list[str]:
    """Return what is wrong with a control, if anything."""
    if one.group == "blurred" and one.verdict != "told":
        return [
            "Readers did not find the blurred control: they did not look closely, or could not "
            "(small pictures, a coarse grid). What they did not see elsewhere means little."
        ]
    low, high = one.accuracy.low, one.accuracy.high
    if one.group == "real" and low is not None and high is not None and not low <= 0.5 <= high:
        return ["Real against real is off 50%: chance, or the procedure tells. Look into it."]
    return []


def _compared(found: Analysis) -> Table:
    table = Table("which is real?", "accuracy, %", "d'", "p equivalent", "readers x pairs", "")
    for one in found.compared:
        name = WORDS.get(one.group, one.group) if one.control else one.group
        table.add_row(
            name, cell(one.accuracy, scale=100, digits=0), cell(one.d_prime),
            p_text(one.equivalence_p), f"{one.readers} x {one.cases}", VERDICTS[one.verdict],
        )  # fmt: skip
    return table


def _rated(found: Analysis) -> Table:
    groups = list(dict.fromkeys(group for one in found.rated for group in one.means))
    table = Table("mean level", *groups, "alpha", "AC2")
    for one in found.rated:
        means = [cell(one.means.get(group), digits=1) for group in groups]
        top = len(one.levels)
        table.add_row(f"{one.item} (1-{top})", *means, cell(one.alpha), cell(one.ac2))
    return table


def _differences(found: Analysis) -> Table:
    table = Table("difference", "first less second", "value", "p (Holm)")
    for one in found.differences:
        scale, digits = (100, 0) if one.what == "accuracy" else (1, 2)
        shown = cell(one.difference, scale=scale, sign="+", digits=digits)
        what = "accuracy, points" if one.what == "accuracy" else one.what
        table.add_row(what, f"{one.first} - {one.second}", shown, p_text(one.adjusted_p))
    return table


def _repeated(found: Analysis) -> Table:
    table = Table("same answer again", "share, %", "trials")
    for one in found.repeated:
        table.add_row(one.kind, cell(one.same, scale=100, digits=0), number(one.trials))
    return table
