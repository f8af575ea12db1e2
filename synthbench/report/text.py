"""A scorecard as a table for a terminal, and the texts that its other pages share."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group

from synthbench.cohorts.preflight.check import RULES
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import number, p_text
from synthbench.render.terminal import Table, Text
from synthbench.report.adherence import adherence_tables
from synthbench.report.failures import failures_line, share_words
from synthbench.report.local_copying import parts_lines
from synthbench.report.memorization import copies_lines

DAGGER = "†"
"""The mark of an interval that is conditional on n."""
SATURATED = "‡"
"""The mark of a value near the kernel's ceiling."""
_READ_BACK = ("at", "at least", "beyond")
"""Relations of an equivalent dose that tables show."""
BIASED = f"{DAGGER} sampling variability at this n; it excludes bias: read it beside the floor"
SATURATION = "the kernel is near its ceiling: the value says 'far', and does not order rows like it"
FAILED = "failed"
"""The title of the share of synthetic volumes that failed and were not scored."""
EFFECT = "min. detectable effect"
"""The title of the column with the minimum detectable effect."""
EFFECT_WORDS = f"{EFFECT}: the smallest excess over the floor that a shift shows with 80% power"


def interval_words(value: Value) -> str:
    """Return a row's interval as text, marked where it is conditional on n; a dash without one."""
    if value.interval is None or value.interval.low == value.interval.high:
        return "-"
    words = f"[{number(value.interval.low)}, {number(value.interval.high)}]"
    return f"{words} {DAGGER}" if value.interval.conditional_on_n else words


def header(card: Scorecard) -> str:
    """Return the line above the table: the cohorts, the extractors, the rank, the protocol."""
    ranks = {v.extractor: v.effective_rank for v in card.values if v.effective_rank is not None}
    extractors = [
        e.label + (f" | r = {ranks[e.name]:.0f}" if e.name in ranks else "")
        for e in card.protocol.extractors
    ]
    failed = [f"{FAILED} {share_words(card.synth)}"] if card.synth.failed is not None else []
    return " | ".join(
        [card.name, f"real {card.real.n}", f"synth {card.synth.n}", *failed, *extractors,
         f"protocol {card.protocol_hash}"]
    )  # fmt: skip


def scorecard_table(card: Scorecard) -> Group:
    """Return the scorecard as a Rich renderable."""
    table = Table()
    scored = [v for v in card.values if not v.missing]
    n = "/".join(map(str, sorted({v.floor.n for v in scored if v.floor})))
    table.add_column("")
    titles = ["value", f"{card.protocol.level:.0%} CI", f"synth (n={n})",
              f"floor, real vs real (n={n})", EFFECT, "p"]  # fmt: skip
    equivalents = any(v.equivalents for v in scored)
    if equivalents:
        titles.append("as real, blurred by")
    if card.synth.failed is not None:
        titles.append(FAILED)
    for title in titles:
        table.add_column(title, justify="right")
    several = len(card.protocol.extractors) > 1
    own = [v for v in scored if v.role != "for_papers"]
    for value in own:
        table.add_row(*_cells(value, card, several, equivalents))
    compared = [v for v in scored if v.role == "for_papers"]
    if compared:
        table.add_row(Text("for comparison with papers, unranked:", style="dim"))
    for value in compared:
        table.add_row(*_cells(value, card, several, equivalents))
    lines: list[Table | Text] = [Text(header(card), style="bold"), table]
    if seen := seen_line(card):
        lines.append(Text(seen, style="yellow"))
    if failed := failures_line(card):
        lines.append(Text(failed, style="yellow"))
    lines += [Text(f"{_label(v, card, several)}  {v.missing}", style="yellow")
              for v in card.values if v.missing]  # fmt: skip
    lines += [Text(line) for line in equivalent_lines(own)]
    lines += [Text(line) for line in (*copies_lines(card), *parts_lines(card))]
    if any(v.interval.conditional_on_n for v in scored if v.interval):
        lines.append(Text(BIASED, style="dim"))
    if any(v.floor and v.floor.minimum_detectable_effect is not None for v in scored):
        lines.append(Text(EFFECT_WORDS, style="dim"))
    if any(v.saturated for v in scored):
        lines.append(Text(f"{SATURATED} {SATURATION}", style="dim"))
    lines += [Text(line, style="yellow") for line in preflight_lines(card)]
    lines += [Text(f"note: {note}", style="dim") for note in card.notes]
    return Group(*lines, *adherence_tables(card))


def equivalent_lines(values: Sequence[Value]) -> list[str]:
    """Return one sentence per metric with the noise and the misregistration that score the same.

    Blur has its own column; other damage is in the scorecard only.
    """
    lines = []
    for value in values:
        words = [e.sentence for e in value.equivalents
                 if e.corruption in ("noise", "shift") and e.relation in _READ_BACK]  # fmt: skip
        if words and value.key.part is None:
            lines.append(f"{value.label}: as far from real as real volumes {', or '.join(words)}")
    return lines


def seen_line(card: Scorecard) -> str:
    """Return the warning that the real volumes are those of the training; empty where not known."""
    if not card.scored_on_training:
        return ""
    return (
        "the real volumes are the ones that the generator was trained on (the sidecars say so): "
        "this flatters it, and a copy counts as a good volume. Score against other subjects "
        "(synthbench data split)"
    )


def preflight_lines(card: Scorecard) -> list[str]:
    """Return one line per finding of preflight, accepted errors first."""
    lines = []
    for found in sorted(card.preflight, key=lambda found: not found.accepted):
        what = "accepted" if found.accepted else found.severity
        which = f", {found.volumes} volumes" if found.volumes > 1 else ""
        which = ", 1 volume" if found.volumes == 1 else which
        meaning = RULES.get(found.rule, "a rule of another version")
        lines.append(f"preflight, {what}: {found.role}{which}: {found.rule} (checks: {meaning})")
    return lines


def _label(value: Value, card: Scorecard, several: bool) -> str:
    label = value.label_at(card.real.n, card.synth.n)
    if value.key.part is not None:
        label = f"  {label}"
    return f"{label} {value.extractor}" if several and value.extractor else label


def _cells(value: Value, card: Scorecard, several: bool, equivalents: bool) -> list[str]:
    assert value.value is not None
    matched, floor, effect = "", "", ""
    if value.floor:
        f = value.floor
        matched = number(f.synth_mean)
        floor = f"{number(f.mean)} ({number(f.low)} to {number(f.high)})"
        if f.minimum_detectable_effect is not None:
            effect = f"+{number(f.minimum_detectable_effect)}"
    cells = [
        _label(value, card, several),
        number(value.value) + (f" {SATURATED}" if value.saturated else ""),
        interval_words(value), matched, floor, effect,
        "" if value.key.part is not None else p_text(value.p),
    ]  # fmt: skip
    if equivalents:
        cells.append(next((e.text for e in value.equivalents
                           if e.corruption == "blur"), ""))  # fmt: skip
    if card.synth.failed is not None:
        cells.append(share_words(card.synth))
    return cells
