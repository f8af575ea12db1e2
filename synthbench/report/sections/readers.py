"""The section on readers: what did people see, and do the metrics agree with them?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthbench.records.readers import ReaderResult
from synthbench.report.readers import (
    CONTROL_WORDS,
    VERDICTS,
    correlation_note,
    correlation_table,
    correlations,
    estimate_text,
    result_sentences,
    share_text,
)
from synthbench.report.sections.rows import groups
from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any] | None:
    cards = [
        (name, _seen(card.readers))
        for name, card in zip(page.names, page.cards, strict=True)
        if card.readers is not None
    ]
    if not cards:
        return None
    found = [own for group in groups(page) if (own := correlations(group.cards))]
    tables = [(correlation_note(own), *correlation_table(own)) for own in found]
    return {"cards": cards, "several": page.several, "correlations": tables}


@dataclass(frozen=True)
class _Seen:
    """What the readers of a study saw: sentences, and the rows of two tables."""

    sentences: list[str]
    about: str
    compared: list[tuple[str, str, str]]
    rated: list[tuple[str, str, str, str, str]]


def _seen(found: ReaderResult) -> _Seen:
    one = found.comparison
    compared = (
        [] if one is None else [("these volumes", share_text(one.accuracy), VERDICTS[one.verdict])]
    )
    compared += [
        (CONTROL_WORDS.get(name, name), share_text(own), "") for name, own in found.controls.items()
    ]
    return _Seen(
        result_sentences(found),
        f"In the study the volumes are called {found.generator}; {found.readers} readers; study "
        f"{found.study[:12]}, real volumes {found.real_fingerprint[:12]}.",
        compared,
        [
            (f"{own.question} ({own.item}, 1 to {len(own.levels)})",
             estimate_text(own.mean, digits=1), estimate_text(own.real, digits=1),
             estimate_text(own.alpha), estimate_text(own.ac2))
            for own in found.ratings
        ],
    )  # fmt: skip


SECTION = Section("readers", "Readers", "Readers: what did people see?", 52, _build)
