"""The section on membership inference: are training subjects told from people not seen?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthbench.render.numbers import number
from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any] | None:
    cards = [
        (
            name,
            [
                {
                    "extractor": one.extractor,
                    "text": one.text,
                    "auc": number(one.auc),
                    "control": f"{number(one.control)} ({number(one.control_low)}, "
                    f"{number(one.control_high)})",
                    "difference": f"{number(one.difference)} [{number(one.low)}, "
                    f"{number(one.high)}]",
                    "told": f"{one.tpr:.0%} of {one.n_train}",
                    "detectable": number(one.detectable),
                }
                for one in card.membership
            ],
        )
        for name, card in zip(page.names, page.cards, strict=True)
        if card.membership
    ]
    return {"cards": cards, "several": page.several} if cards else None


SECTION = Section("membership", "Membership", "Membership inference", 66, _build)
