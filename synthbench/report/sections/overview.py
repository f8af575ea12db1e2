"""The overview: verdicts side by side, and a summary per scorecard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.report.adherence import adherence_sentences
from synthbench.report.failures import failures_line
from synthbench.report.membership import membership_verdict
from synthbench.report.readers import result_sentences
from synthbench.report.sections.rows import Group, groups, row_of
from synthbench.report.sections.section import Page, Section
from synthbench.report.standing import Verdict, headline_text, ranked_rows, verdict
from synthbench.report.text import header
from synthbench.report.tiles import tiles
from synthbench.report.verdicts import copied_parts, copies, summary
from synthbench.scoring.benchmark import protocol_differences

DIFFERING = 6
"""Settings that are named at most where scorecards are not comparable."""


def _build(page: Page) -> Mapping[str, Any]:
    compared = groups(page)
    return {
        "groups": len(compared),
        "differing": _differing(compared),
        "compared": [_side_by_side(group) for group in compared if group.several],
        "cards": [
            _card(name, card, tiled=page.ranking is None)
            for name, card in zip(page.names, page.cards, strict=True)
        ],
    }


def _card(name: str, card: Scorecard, *, tiled: bool) -> Mapping[str, Any]:
    """Return one scorecard's part: its sentence to repeat, its tiles, and all other findings."""
    first, *others = summary(card)
    return {
        "name": name,
        "header": header(card),
        "opening": first,
        "tiles": tiles(card) if tiled else [],
        "sentences": _sentences(card, others),
    }


def _sentences(card: Scorecard, others: list[str]) -> list[str]:
    failed = failures_line(card)
    lines = [*([_sentence(failed)] if failed else []), *others, *adherence_sentences(card)]
    if card.utility is not None:
        lines.append(f"Utility ({card.utility.label}): {card.utility.sentence}.")
    return lines if card.readers is None else [*lines, *result_sentences(card.readers)]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _side_by_side(group: Group) -> Mapping[str, Any]:
    keys = [(row.metric, row.extractor) for row in ranked_rows(group.cards[0])]
    return {
        "words": group.words,
        "names": group.names,
        "matrix": [
            (
                group.label(next(r for c in group.cards if (r := row_of(c, *key)))),
                [_cell(row_of(card, *key)) for card in group.cards],
            )
            for key in keys
        ],
        "copies": {
            "copies of training images": [copies(card) for card in group.cards],
            **(
                {"copied parts": [copied_parts(card) for card in group.cards]}
                if any(card.local_copying for card in group.cards)
                else {}
            ),
            **(
                {"membership": [membership_verdict(card) for card in group.cards]}
                if any(card.membership for card in group.cards)
                else {}
            ),
        },
    }


def _cell(value: Value | None) -> tuple[Verdict, str]:
    if value is None:
        return Verdict("missing", "not scored"), "–"
    return verdict(value), headline_text(value)


def _differing(compared: Sequence[Group]) -> list[str]:
    """Return one line per further group: how its first scorecard differs from the first of all."""
    first, *others = compared
    lines = []
    for group in others:
        one, other = group.cards[0], first.cards[0]
        settings = protocol_differences(one.protocol, other.protocol)
        if one.real.fingerprint != other.real.fingerprint:
            settings = ["another real cohort", *settings]
        more = f"; and {len(settings) - DIFFERING} more" if len(settings) > DIFFERING else ""
        named = "; ".join(settings[:DIFFERING])
        lines.append(f"{', '.join(group.names)}, unlike {first.names[0]}: {named}{more}")
    return lines


SECTION = Section("overview", "Overview", "Overview", 10, _build)
