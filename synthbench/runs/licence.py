"""The licence under which weights and samples can be shared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Licences that let people share data and what derives from them, by the names that hubs use.
_SHARING_LICENCES = {
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "mit", "apache-2.0",
}  # fmt: skip

_TEMPLATE = "icbm-152-template"
"""The terms of the embedded cohort."""


def sharing_licence(record: Mapping[str, Any]) -> str | None:
    """Return the hub's name of a licence that lets data be passed on, if all sources name it."""
    names = {_hub_name(source["licence"]) for source in record.get("sources", [])}
    return names.pop() if len(names) == 1 and names <= _SHARING_LICENCES else None


def _hub_name(licence: str) -> str:
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    return {"cc0": "cc0-1.0", "cc-0": "cc0-1.0"}.get(name, name)


def hub_licence(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the licence fields of the front matter.

    Simulated training volumes add the terms of their template to those of the other sources, such
    as the weights that a run started from.
    """
    names = {_hub_name(s["licence"]) for s in record.get("sources", [])} - {""}
    if record["cohort"].get("embedded"):
        names |= {_TEMPLATE}
    elif name := sharing_licence(record):
        return {"license": name}
    if not names:
        return {"license": "unknown"}
    return {"license": "other", "license_name": "-and-".join(sorted(names))[:100]}


def licence(record: Mapping[str, Any]) -> str | None:
    """Return the hub's name of the terms for a run's samples; None where none is known.

    They are the terms of the training data: a sample may be close to a scan, and nobody can rule
    that out.
    """
    fields = hub_licence(record)
    name = fields.get("license_name", fields["license"])
    return None if name == "unknown" else name
