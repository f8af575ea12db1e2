"""The result of a comparison as a table, as a JUnit file, and as annotations of a build."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from rich.console import Group

from synthbench.drift.history import History
from synthbench.drift.result import Drift
from synthbench.drift.two_samples import MetricDrift
from synthbench.render.numbers import number, p_text
from synthbench.render.terminal import Table, Text
from synthbench.runtime.text import one_line, visible

STYLES = {"pass": "", "warn": "yellow", "fail": "red", "shown": "dim", "not compared": "yellow"}
OUTCOMES = {"pass": "green", "warn": "yellow", "drift": "red", "not comparable": "yellow"}
"""Rich styles by the status of a row, and by the outcome of the whole."""


def drift_table(found: Drift) -> Group:
    """Return a drift as a Rich renderable: what was compared, the causes, and the metrics."""
    lines: list[Text | Table] = [
        Text(f"{found.baseline} -> {found.current}", style="bold"),
        Text(found.statement),
    ]
    lines += [Text(f"  {cause.words}", style="dim") for cause in found.causes]
    lines += [
        Text(
            f"did the generator change? {test.extractor}: {test.words} "
            f"(p {p_text(test.p_adjusted)})",
            style=STYLES[test.status],
        )
        for test in found.generator
    ]
    if found.metrics:
        lines.append(_metrics(found))
    lines += [Text(f"note: {note}", style="dim") for note in found.notes]
    lines.append(Text(found.verdict, style=f"bold {OUTCOMES[found.outcome]}"))
    return Group(*lines)


def _metrics(found: Drift) -> Table:
    sampled = found.kind in ("resample", "side by side")
    titles = ["", found.baseline, found.current]
    if sampled:
        titles += ["difference", "95% CI, alone", "p (Holm)", "within the margin"]
    else:
        titles.append("change / terms")
    table = Table()
    for i, title in enumerate([*titles, ""]):
        table.add_column(title, justify="right" if 0 < i < len(titles) else "left")
    for row in found.metrics:
        cells = [row.name, *_numbers(row.baseline, row.current)]
        cells += _sampled(row) if sampled else _numbers(row.relative)
        table.add_row(*cells, row.words, style=STYLES[row.status])
    return table


def _numbers(*values: float | None) -> list[str]:
    return ["" if value is None else number(value) for value in values]


def _sampled(row: MetricDrift) -> list[str]:
    if row.difference is None or row.low is None or row.high is None:
        return ["", "", "", ""]
    margin = "-"
    if row.delta is not None:
        margin = f"±{number(row.delta)}: {'shown' if row.equivalent else 'not shown'}"
    return [
        f"{'+' if row.difference > 0 else ''}{number(row.difference)}",
        f"[{number(row.low)}, {number(row.high)}]",
        p_text(row.p_adjusted),
        margin,
    ]


def junit(found: Drift | History) -> bytes:
    """Return a drift as a JUnit file: one test case for the whole, and one for each part."""
    suite = ET.Element("testsuite", name="synthbench drift")
    cases = list(_cases(found))
    for name, status, words in cases:
        case = ET.SubElement(suite, "testcase", classname=f"drift.{found.kind}", name=name)
        if status == "fail":
            ET.SubElement(case, "failure", message=words)
        elif status == "not compared":
            ET.SubElement(case, "error", message=words)
        else:
            ET.SubElement(case, "system-out").text = words
    statuses = [status for _, status, _ in cases]
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(statuses.count("fail")))
    suite.set("errors", str(statuses.count("not compared")))
    ET.indent(suite)
    content: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return content


def _cases(found: Drift | History) -> Iterator[tuple[str, str, str]]:
    """Yield name, status and visible text of the whole comparison, then of each of its parts.

    XML has no place for control characters, and a log obeys them.
    """
    for name, status, words in _parts(found):
        yield one_line(name), status, visible(words)


def _parts(found: Drift | History) -> Iterator[tuple[str, str, str]]:
    whole = {"drift": "fail", "not comparable": "not compared"}.get(found.outcome, "pass")
    if isinstance(found, History):
        yield found.kind, whole, found.verdict
        for metric in found.metrics:
            yield metric.name, metric.status, metric.words
        return
    differing = "".join(f"\n{cause.words}" for cause in found.causes)
    yield found.kind, whole, f"{found.verdict}{differing}"
    for test in found.generator:
        words = f"{test.words} (p {p_text(test.p_adjusted)})"
        yield f"generator ({test.extractor})", test.status, words
    for row in found.metrics:
        yield row.name, row.status, f"{row.words}{_figures(row)}"


def _figures(row: MetricDrift) -> str:
    if row.baseline is None or row.current is None:
        return ""
    words = f": {number(row.baseline)} -> {number(row.current)}"
    if row.p_adjusted is not None:
        return f"{words} (p {p_text(row.p_adjusted)})"
    return words if row.relative is None else f"{words} ({number(row.relative)} of its terms)"


def workflow_commands(found: Drift | History) -> list[str]:
    """Return a drift as workflow commands of GitHub Actions, one per line; none where it passes."""
    if found.outcome == "pass":
        return []
    level = "warning" if found.outcome == "warn" else "error"
    lines = [f"::{level} title=synthbench drift::{_escaped(visible(found.verdict))}"]
    for name, status, words in list(_cases(found))[1:]:
        if status in ("fail", "warn", "not compared"):
            level = "warning" if status == "warn" else "error"
            lines.append(f"::{level} title=synthbench drift::{_escaped(f'{name}: {words}')}")
    return lines


def _escaped(text: str) -> str:
    """Return an escaped message: a name in a scorecard must not start another command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
