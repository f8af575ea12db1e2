"""Condition adherence and effect replication as lines of tables, as sentences and as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from synthbench.records.conditional import (
    AdherenceRecord,
    ComparedRecord,
    ConditionRecord,
    CurvePoint,
    EstimateRecord,
)
from synthbench.records.scorecard import Scorecard
from synthbench.render.charts import Band, LineChart, Series, line_chart, panels
from synthbench.render.numbers import number
from synthbench.render.terminal import Table, Text

PUBLISHED = {"ventricle_volume": 0.97, "age": 0.69}
"""Correlations of requested and measured of Pinaya et al. 2022, by condition."""

PUBLISHED_WORDS = "Pinaya et al. 2022 (31,740 training subjects, another cohort and other measures)"

_UNITLESS = ("correlation", "slope", "auc", "accuracy")


@dataclass(frozen=True)
class Line:
    """A row of a table of comparisons.

    Attributes
    ----------
    title, part
        The condition, pair or group, and the quantity.
    synth, real, difference
        Values with intervals; "-" where there is none.
    word
        The finding, such as "worse" or "none shown".
    shown
        True where the difference from the real volumes, or from zero where there are none, is
        beyond chance.
    """

    title: str
    part: str
    synth: str
    real: str
    difference: str
    word: str
    shown: bool


def estimate_words(estimate: EstimateRecord | None) -> str:
    """Return a value with its interval as text; a dash where there is none.

    >>> estimate_words(EstimateRecord(value=0.8222, low=0.683, high=0.889))
    '0.822 [0.683, 0.889]'
    """
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return _figures(estimate.value)
    return f"{_figures(estimate.value)} [{_figures(estimate.low)}, {_figures(estimate.high)}]"


def _figures(x: float) -> str:
    """Return a number with three significant digits; from 1000 on without an exponent."""
    return f"{float(f'{x:.3g}'):.0f}" if abs(x) >= 1000 else number(x)


def condition_lines(adherence: AdherenceRecord) -> list[Line]:
    """Return one line per statistic and condition; extrapolated volumes follow the others."""
    lines = []
    for condition in adherence.conditions:
        title = f"{condition.name} (n={condition.n}"
        title += f", real {condition.n_real})" if condition.n_real is not None else ")"
        lines += [_line(title, s.label, s, _against_ceiling(s)) for s in condition.statistics]
        beyond = f"{condition.name}, extrapolated (n={condition.n_extrapolated})"
        lines += [_line(beyond, s.label, s, _against_ceiling(s)) for s in condition.extrapolated]
    return lines


def leakage_lines(adherence: AdherenceRecord) -> list[Line]:
    """Return one line per pair of conditions."""
    looks = _Looks(len(adherence.leakage), adherence.level)
    return [
        _line(f"{leak.requested} → {leak.measured}", leak.unit, leak.effect, "leaks", looks)
        for leak in adherence.leakage
    ]


def parity_lines(adherence: AdherenceRecord) -> list[Line]:
    """Return one line per condition, group and kind of error."""
    looks = _Looks(sum(len(p.statistics) for p in adherence.parity), adherence.level)
    return [
        _line(f"{p.condition}: {p.covariate} {p.group} (n={p.n})", s.label, s, "unequal", looks)
        for p in adherence.parity
        for s in p.statistics
    ]


def effect_lines(card: Scorecard) -> list[Line]:
    """Return one line per effect."""
    if card.replication is None:
        return []
    return [
        _line(f"{e.effect}: {e.region}{' *' if e.requested else ''}", e.unit, e.compared, e.word)
        for e in card.replication.effects
    ]


@dataclass(frozen=True)
class _Looks:
    """The number of lines that share one level, and the level of their intervals."""

    lines: int
    level: float

    @property
    def factor(self) -> float:
        """The factor by which an interval's arm must grow for the level to hold for all lines."""
        alpha = 1 - self.level
        return _z(alpha / self.lines) / _z(alpha)


def _line(
    title: str, part: str, compared: ComparedRecord, word: str, looks: _Looks | None = None
) -> Line:
    """Return a line; with `looks`, its word is "none shown" where no difference is shown."""
    shown = _shown(compared, 1.0 if looks is None else looks.factor)
    return Line(
        title, part, estimate_words(compared.synth), estimate_words(compared.real),
        estimate_words(compared.difference), word if shown or looks is None else "none shown",
        shown,
    )  # fmt: skip


def _shown(compared: ComparedRecord, factor: float = 1.0) -> bool:
    """Return True where the synthetic value differs from the real one, or from zero without one.

    Several lines share the level (Bonferroni): the interval's arm towards zero is multiplied by a
    factor, as for a normal variable.
    """
    judged = compared.difference if compared.real is not None else compared.synth
    if judged is None or judged.low is None or judged.high is None:
        return False
    arm = judged.value - judged.low if judged.value > 0 else judged.high - judged.value
    return abs(judged.value) > arm * factor


def _z(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha / 2)


def _against_ceiling(compared: ComparedRecord) -> str:
    if compared.real is None:
        return "no ceiling"
    if compared.difference is None or compared.difference.low is None:
        return "-"
    if not _shown(compared):
        return "none shown"
    if compared.key in ("correlation", "auc", "accuracy"):
        return "worse" if compared.difference.value < 0 else "better"
    if compared.key == "mae":
        return "worse" if compared.difference.value > 0 else "better"
    return "differs"


# ---------------------------------------------------------------- sentences


def adherence_sentences(card: Scorecard) -> list[str]:
    """Return sentences on whether the volumes follow the conditions and replicate effects."""
    lines = []
    if card.adherence is not None:
        lines += [_condition_sentence(c) for c in card.adherence.conditions if not c.missing]
        lines += [f"{c.name}: {c.missing}." for c in card.adherence.conditions if c.missing]
        leaks = [line for line in leakage_lines(card.adherence) if line.shown]
        if card.adherence.leakage:
            pairs = "; ".join(f"{line.title} {line.synth} {line.part}" for line in leaks)
            lines.append(
                f"Leakage beyond that in the real volumes: {pairs}."
                if leaks
                else f"No leakage is shown in the {len(card.adherence.leakage)} pairs of "
                "conditions and measures."
            )
        unequal = [line.title for line in parity_lines(card.adherence) if line.shown]
        if unequal:
            groups = "; ".join(dict.fromkeys(unequal))
            lines.append(f"Groups whose errors differ from those in the real set: {groups}.")
    if card.replication is not None and card.replication.effects:
        counts = {
            word: sum(e.word == word for e in card.replication.effects)
            for word in ("replicated", "weaker", "stronger", "reversed", "cannot tell")
        }
        verdicts = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
        lines.append(
            f"Of {len(card.replication.effects)} findings on the real volumes: {verdicts}."
        )
    return lines


def _condition_sentence(condition: ConditionRecord) -> str:
    first = condition.statistics[0] if condition.statistics else None
    if first is None or first.synth is None:
        return f"{condition.name}: too few volumes to compare requested with measured."
    ceiling = "" if first.real is None else f"; on real volumes {estimate_words(first.real)}"
    return (
        f"Requested against measured {condition.name}: {first.label} {estimate_words(first.synth)}"
        f"{ceiling}."
    )


def published_words(card: Scorecard) -> str:
    """Return the published correlations of this scorecard's conditions; empty where none is."""
    if card.adherence is None:
        return ""
    known = [c.name for c in card.adherence.conditions if c.name in PUBLISHED]
    if not known:
        return ""
    values = ", ".join(f"{name} r = {PUBLISHED[name]:g}" for name in known)
    return f"for comparison with papers, unranked: {values} in {PUBLISHED_WORDS}"


def headline(condition: ConditionRecord) -> str:
    """Return the first statistic with its interval and ceiling: `0.82 [0.68, 0.89] of 0.78`."""
    if condition.missing or not condition.statistics:
        return "-"
    first = condition.statistics[0]
    words = estimate_words(first.synth)
    return words if first.real is None else f"{words} of {number(first.real.value)}"


# ---------------------------------------------------------------- tables


def adherence_tables(card: Scorecard) -> list[Table | Text]:
    """Return the tables that a terminal shows below the scorecard; none without conditions."""
    shown: list[Table | Text] = []
    adherence = card.adherence
    if adherence is not None:
        head = f"requested against measured | requested: {adherence.source}"
        shown += [Text(), Text(head, style="bold")]
        shown.append(_table(condition_lines(adherence), ("condition", "", "synth", "real (ceiling)",
                                                        "synth minus real", "")))  # fmt: skip
        for condition in adherence.conditions:
            words = condition.missing or f"measured by {condition.measure}"
            shown.append(
                Text(f"{condition.name}: {words}", style="yellow" if condition.missing else "dim")
            )
        if any(c.n_extrapolated for c in adherence.conditions):
            shown.append(Text(f"extrapolated: {adherence.range}", style="dim"))
        if published := published_words(card):
            shown.append(Text(published, style="dim"))
        shown += _notable("leakage, requested → measured, all other requests equal",
                          leakage_lines(adherence))  # fmt: skip
        shown += _notable("parity, errors of a group minus those of the others",
                          parity_lines(adherence))  # fmt: skip
    if card.replication is not None and card.replication.effects:
        found = card.replication
        head = f"effect replication | synth {found.n} | real {found.n_real} | {found.margins}"
        shown += [Text(), Text(head, style="bold")]
        shown.append(_table(effect_lines(card), ("effect", "unit", "synth", "real",
                                                 "synth minus real", "")))  # fmt: skip
        shown += [Text(f"note: {note}", style="dim") for note in found.notes]
    return shown


def _notable(title: str, lines: Sequence[Line]) -> list[Table | Text]:
    """Return a table of the lines with a difference; the others are counted in its title."""
    if not lines:
        return []
    differing = [line for line in lines if line.shown]
    heading: list[Table | Text] = [Text(), Text(f"{title}: {beyond_chance(lines)}")]
    if not differing:
        return heading
    return [
        *heading,
        _table(differing, ("", "", "synth", "real (ceiling)", "synth minus real", "")),
    ]


def beyond_chance(lines: Sequence[Line]) -> str:
    """Return the number of lines that show a difference, as text for a table's title."""
    count = sum(line.shown for line in lines) or "none"
    return f"{count} of {len(lines)} beyond chance, over all of them together"


def _table(lines: Sequence[Line], head: Sequence[str]) -> Table:
    table = Table()
    for index, title in enumerate(head):
        table.add_column(title, justify="right" if 2 <= index <= 4 else "left")
    before = ""
    for line in lines:
        title = "" if line.title == before else line.title
        table.add_row(title, line.part, line.synth, line.real, line.difference, line.word)
        before = line.title
    return table


# ---------------------------------------------------------------- charts


def condition_charts(adherence: AdherenceRecord) -> list[LineChart]:
    """Return one chart per condition that is a number: measured means along the requests.

    Each also shows the measured means of the real volumes along their true values.
    """
    return [_chart(c) for c in adherence.conditions if len(c.curve) > 1 and c.statistics]


def requested_measured(entries: Mapping[str, AdherenceRecord]) -> str:
    """Return an SVG: one row per entry, one panel per condition that is a number.

    Parameters
    ----------
    entries
        Condition adherence by the entry's title. Entries without such a condition are left out.

    Returns
    -------
    str
        Empty where no panel is left.
    """
    rows = {title: charts for title, f in entries.items() if (charts := condition_charts(f))}
    if not rows:
        return ""
    note = (
        "dashed: synthetic, requested against measured, with one standard deviation; solid: real, "
        "true against measured"
    )
    return panels("Requested against measured", rows, note)


def _chart(condition: ConditionRecord) -> LineChart:
    series = []
    if len(condition.real_curve) > 1:
        series.append(_series("real, true against measured", "real", condition.real_curve))
    series.append(_series("synthetic, requested against measured", "synth", condition.curve))
    bands = [
        Band(
            "synthetic, one standard deviation",
            [p.requested for p in condition.curve],
            [p.measured - p.sd for p in condition.curve],
            [p.measured + p.sd for p in condition.curve],
        )
    ]  # fmt: skip
    statistics = "; ".join(
        f"{s.label} {estimate_words(s.synth)}" for s in condition.statistics if s.key in _UNITLESS
    )
    return line_chart(
        condition.name, f"{condition.name}, requested", "measured", f"{statistics}.", series, bands
    )


def _series(name: str, style: str, points: Sequence[CurvePoint]) -> Series:
    return Series(name, style, [p.requested for p in points], [p.measured for p in points])
