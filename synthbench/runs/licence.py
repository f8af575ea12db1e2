"""The licence under which weights and samples can be shared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Hubs' words for licences under whose conditions data, and what derives from them, may be shared.
_SHARING_LICENCES = {
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "mit", "apache-2.0",
}  # fmt: skip


def sharing_licence(record: Mapping[str, Any]) -> str | None:
    """Return the hub's word for the licence that all sources name, if it lets data be passed on."""
    named = {_hub_word(source["licence"]) for source in record.get("sources", [])}
    return named.pop() if len(named) == 1 and named <= _SHARING_LICENCES else None


def _hub_word(licence: str) -> str:
    word = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    return {"cc0": "cc0-1.0", "cc-0": "cc0-1.0"}.get(word, word)


def hub_licence(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the licence fields of the front matter."""
    if record["cohort"].get("embedded"):
        return {"license": "other", "license_name": "icbm-152-template"}
    if word := sharing_licence(record):
        return {"license": word}
    names = {_hub_word(s["licence"]) for s in record.get("sources", [])} - {""}
    if not names:
        return {"license": "unknown"}
    return {"license": "other", "license_name": "-and-".join(sorted(names))[:100]}


def licence(record: Mapping[str, Any]) -> str | None:
    """Return the hub's word for the terms that bind a run's samples; None where none is known.

    They are those of what the run was trained on: a sample may be nearer to a scan than anyone
    has looked.
    """
    fields = hub_licence(record)
    word = fields.get("license_name", fields["license"])
    return None if word == "unknown" else word
