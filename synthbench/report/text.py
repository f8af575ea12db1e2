"""A scorecard as a table for a terminal, and the texts that its other pages share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rich.text
from rich.console import Console, ConsoleOptions, Group

from synthbench.cohorts.preflight.check import RULES
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import FloorRecord, Value
from synthbench.render.numbers import number, p_text
from synthbench.render.terminal import Table, Text
from synthbench.report.adherence import adherence_tables
from synthbench.report.failures import failures_line, share_words
from synthbench.report.local_copying import parts_lines
from synthbench.report.membership import membership_lines
from synthbench.report.memorization import copies_found, copies_lines
from synthbench.report.morphometry import regions_lines
from synthbench.report.opening import blur_cell, blur_of, opening
from synthbench.report.readers import result_sentences
from synthbench.report.standing import (
    SATURATED,
    TEST_LEVEL,
    TEST_WORDS,
    VERDICT_WORDS,
    headline,
    verdict,
)

DAGGER = "†"
"""The mark of an interval that is conditional on n."""
_READ_BACK = ("at", "at least", "beyond")
"""Relations of an equivalent dose that tables show."""
BIASED = f"{DAGGER} sampling variability at this n; it excludes bias: read it beside the floor"
SATURATION = "the kernel is near its ceiling: the value says 'far', and does not order rows like it"
FAILED = "failed"
"""The title of the share of synthetic volumes that failed and were not scored."""
EFFECT = "min. detectable effect"
"""The title of the column with the minimum detectable effect."""
BLURRED_BY = rich.text.Text("as real, blurred\nby (mm FWHM)")
"""The title of the column with the blur that scores the same; on two lines, as it is long."""
COLUMNS = 100
"""Columns that the default table needs to keep each number on one line."""
WIDE_COLUMNS = 190
"""Columns that the table of all rows and columns needs, where the output is no terminal."""
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


def scorecard_table(card: Scorecard, *, wide: bool = False) -> Group:
    """Return the scorecard as a Rich renderable.

    It opens with one sentence. Each row has the number that decides (`headline`), its floor and
    the verdict on both. With `wide`, it has every row and column of the scorecard; without, the
    parts of metrics are left out unless one is worse than its floor.
    """
    scored = [v for v in card.values if not v.missing]
    lines: list[_Fitted | Text] = [
        Text(opening(card), style="bold"),
        Text(header(card), style="dim"),
    ]
    if seen := seen_line(card):
        lines.append(Text(seen, style="yellow"))
    if failed := failures_line(card):
        lines.append(Text(failed, style="yellow"))
    lines.append(_Fitted(card, wide))
    several = len(card.protocol.extractors) > 1
    lines += [Text(f"{_label(v, several)}  {v.missing}", style="yellow")
              for v in card.values if v.missing]  # fmt: skip
    own = [v for v in scored if v.role != "for_papers"]
    lines += [Text(line) for line in equivalent_lines(own)]
    lines += [Text(line) for line in (*regions_lines(card), *_copies(card, wide))]
    if card.readers is not None:
        lines += [Text(line) for line in result_sentences(card.readers)]
    lines += [Text(line, style="dim") for line in legend(card, wide=wide)]
    found = preflight_lines(card, accepted=not wide)
    lines += [Text(line, style="yellow") for line in found]
    lines += [Text(f"note: {note}", style="dim") for note in card.notes]
    return Group(*lines, *adherence_tables(card))


def legend(card: Scorecard, *, wide: bool = True) -> list[str]:
    """Return one line for each mark and each column of the table whose meaning is not its name."""
    rows = [v for v in card.values if not v.missing] if wide else _shown(card)
    floors = [v for v in rows if v.floor]
    lines = []
    if floors:
        lines.append(VERDICT_WORDS)
    if any(v.p is not None and verdict(v).standing == "within" and v.p <= TEST_LEVEL for v in rows):
        lines.append(TEST_WORDS)
    lines.append(f"[..]: {card.protocol.level:.0%} confidence interval")
    if any(h.spread for v in rows if (h := headline(v))):
        lines[-1] += (
            "; (..): central 95% over the random halves, as that of the floor, where the value "
            "depends on n"
        )
    if any(blur_of(v) for v in rows):
        lines.append(
            "as real, blurred by: real volumes with this blur (full width at half maximum) score "
            "the same; <: more blur would have been seen"
        )
    if any(v.saturated for v in rows):
        lines.append(f"{SATURATED} {SATURATION}")
    if wide and any(v.interval.conditional_on_n for v in rows if v.interval):
        lines.append(BIASED)
    if wide and any(v.floor and v.floor.minimum_detectable_effect is not None for v in rows):
        lines.append(EFFECT_WORDS)
    if not wide:
        n = f"{card.real.n} real and {card.synth.n} synthetic volumes"
        lines.append(f"the values of all {n}, all parts and p: --wide, or the scorecard (--out)")
    return lines


def _copies(card: Scorecard, wide: bool) -> list[str]:
    attacks = membership_lines(card)
    if wide or not card.memorization:
        return [*copies_lines(card), *parts_lines(card), *attacks]
    found = [f"copies: {copies_found(card).text}"]
    parts = card.local_copying
    found += [] if parts is None else [f"copied parts: {parts.text}"]
    return [*found, *attacks]


def _shown(card: Scorecard) -> list[Value]:
    """Return the rows of the default table: of metrics, and parts that are worse than real."""
    return [
        v
        for v in card.values
        if not v.missing
        and v.role != "for_papers"
        and (v.key.part is None or (v.direction != "zero" and verdict(v).standing == "worse"))
    ]


@dataclass(frozen=True)
class _Fitted:
    """The table of values, which keeps numbers on one line where there is room for that."""

    card: Scorecard
    wide: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        whole = options.max_width >= (WIDE_COLUMNS if self.wide else COLUMNS)
        yield _table(self.card, self.wide, whole=whole)


def _table(card: Scorecard, wide: bool, *, whole: bool) -> Table:
    """Return the table of values; its n is in the heads, or in each row where they differ.

    `whole` keeps numbers on one line. Names and verdicts may always be wrapped.
    """
    rows = [v for v in card.values if not v.missing] if wide else _shown(card)
    counts = {v.floor.n for v in rows if v.floor}
    at = f" (n={counts.pop()})" if len(counts) == 1 else ""
    blurred = any(blur_of(v) for v in rows)
    several = len(card.protocol.extractors) > 1
    table = Table()
    table.add_column("")
    table.add_column(f"value{at}", no_wrap=whole)
    table.add_column(f"floor, real vs real{at}" if wide else f"floor{at}", no_wrap=whole)
    if blurred:
        table.add_column(BLURRED_BY, no_wrap=whole)
    table.add_column("verdict")
    if wide:
        for title in (f"of {card.real.n} real, {card.synth.n} synth",
                      f"{card.protocol.level:.0%} CI", EFFECT, "p"):  # fmt: skip
            table.add_column(title, justify="right")
    if card.synth.failed is not None:
        table.add_column(FAILED, justify="right")
    own = [v for v in rows if v.role != "for_papers"]
    for value in own:
        table.add_row(*_cells(value, card, several, blurred, wide, not at))
    compared = [v for v in rows if v.role == "for_papers"]
    if compared:
        table.add_row(Text("for papers, unranked:", style="dim"))
    for value in compared:
        table.add_row(*_cells(value, card, several, blurred, wide, not at))
    return table


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


def preflight_lines(card: Scorecard, *, accepted: bool = False) -> list[str]:
    """Return one line per finding of preflight, accepted errors first; or `accepted` ones alone.

    The scoring itself says each warning in full, so that its table need not repeat it.
    """
    lines = []
    for found in sorted(card.preflight, key=lambda found: not found.accepted):
        if accepted and not found.accepted:
            continue
        what = "accepted" if found.accepted else found.severity
        which = f", {found.volumes} volumes" if found.volumes > 1 else ""
        which = ", 1 volume" if found.volumes == 1 else which
        meaning = RULES.get(found.rule, "a rule of another version")
        lines.append(f"preflight, {what}: {found.role}{which}: {found.rule} (checks: {meaning})")
    return lines


def _label(value: Value, several: bool) -> str:
    label = value.label if value.key.part is None else f"  {value.label}"
    return f"{label} {value.extractor}" if several and value.extractor else label


def _cells(
    value: Value, card: Scorecard, several: bool, blurred: bool, wide: bool, name_n: bool
) -> list[str]:
    assert value.value is not None
    found, floor, label = headline(value), value.floor, _label(value, several)
    assert found is not None
    decisive = found.text
    if found.n is None and wide:
        decisive = ""  # the columns of all volumes have it
    elif name_n or found.n is None:
        label += f" (n={found.n})" if found.n else f" ({card.real.n} real, {card.synth.n} synth)"
    ends = ""
    if floor:
        ends = f"{number(floor.low)} to {number(floor.high)}"
        ends = f"{number(floor.mean)} ({ends})" if wide else ends
    against = verdict(value)
    cells = [label, decisive, ends]
    if blurred:
        cells.append(blur_cell(value))
    cells.append("" if floor is None else against.words)
    if wide:
        effect = "" if floor is None else effect_text(floor)
        cells += [number(value.value), interval_words(value), effect,
                  "" if value.key.part is not None else p_text(value.p)]  # fmt: skip
    if card.synth.failed is not None:
        cells.append(share_words(card.synth))
    return cells


def effect_text(floor: FloorRecord) -> str:
    """Return a floor's minimum detectable effect as text; empty where it has none."""
    effect = floor.minimum_detectable_effect
    return "" if effect is None else f"+{number(effect)}"
