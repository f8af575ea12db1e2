"""The section on the protocol and the provenance of each scorecard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import duration
from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any]:
    return {
        "cards": [
            {
                "name": name,
                "anchor": f"card-{index + 1}",
                "provenance": _provenance(card),
                "notes": card.notes,
                "json": card.protocol.model_dump_json(indent=1),
                # In ASCII, so that no character has to be written out: the download is the record.
                "record": json.dumps(json.loads(card.model_dump_json()), indent=1),
            }
            for index, (name, card) in enumerate(zip(page.names, page.cards, strict=True))
        ]
    }


def _provenance(card: Scorecard) -> list[tuple[str, str]]:
    origin = card.origin
    rows = [
        ("scored", card.created),
        ("benchmark", card.benchmark or ""),
        ("protocol", card.protocol_hash),
        *(
            (role, f"{r.n} volumes of {r.subjects} subjects, fingerprint {r.fingerprint[:12]}")
            for role in ("real", "synth", "train", "holdout")
            if (r := getattr(card, role)) is not None
        ),
        ("generator", origin.generator or ""),
        ("sampler", origin.drawing),
        ("parameters", "" if origin.parameters is None else f"{origin.parameters / 1e6:.1f} M"),
        (
            "training",
            "" if origin.training_seconds is None else duration(origin.training_seconds),
        ),
        ("software", ", ".join(f"{name} {v}" for name, v in card.software.items())),
    ]
    return [(name, words) for name, words in rows if words]


SECTION = Section("protocol", "Protocol", "Protocol and provenance", 110, _build)
