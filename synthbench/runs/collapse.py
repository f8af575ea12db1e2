"""The finding that a generator has collapsed, in words: in the log, when sampling, in the cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def collapse_in_words(found: Mapping[str, Any], step: int) -> str:
    """Return the sentence on samples that have collapsed.

    Parameters
    ----------
    found
        The fields of `synthbench.metrics.similarity.collapse.Diversity`.
    step
        The optimizer step of the weights.
    """
    return (
        f"collapse at step {step}: {found['volumes']} samples have {found['diversity']:.0%} of the "
        f"diversity of {found['real_volumes']} training volumes (mean MS-SSIM of pairs "
        f"{found['similarity']:.4f}, of training volumes {found['real_similarity']:.4f}), and "
        f"{found['twins']:.0%} of them have a near twin among the others. More samples do not add "
        "variety"
    )


def collapse_of(record: Mapping[str, Any]) -> str | None:
    """Return the sentence for a run whose newest check found a collapse; else None."""
    found = record.get("diversity")
    return collapse_in_words(found, found["step"]) if found and found["collapsed"] else None
