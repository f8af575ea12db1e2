"""The result of a scorecard's test for copied parts, worded once for all pages."""

from __future__ import annotations

from synthbench.records.local_copying import LocalCopyingRecord
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number, p_text
from synthbench.report.memorization import sampled_words


def parts_lines(card: Scorecard) -> list[str]:
    """Return one line with the result of the test for copied parts; none where it was not run."""
    record = card.local_copying
    if record is None:
        return []
    sides = " / ".join(str(scale.side) for scale in record.scales)
    shares = " / ".join(f"{scale.share:+.2%}" for scale in record.scales)
    ps = " / ".join(p_text(scale.p) for scale in record.scales)
    gaps = " / ".join(f"{scale.gap:+.3f}" for scale in record.scales)
    return [
        f"copied parts (cubes of {sides} voxels): {record.text}; copied, over chance: {shares}; "
        f"p {ps}; gap {gaps}; n = {record.n_train} and {record.n_holdout} subjects"
        f"{sampled_words(record.sampled)}"
    ]


def map_words(record: LocalCopyingRecord) -> str:
    """Return what the map of places shows, in sentences."""
    found = record.map
    above = sum(share > found.threshold for share in found.share)
    return (
        f"Cubes of {found.side} voxels at {len(found.places)} places: the share of synthetic "
        "volumes whose cube is a copy of a training volume, over what chance explains. Darker: "
        f"larger; the darkest is {number(max(found.share))} (p {p_text(found.p)} over all "
        f"places). At {above} places the share exceeds {number(found.threshold)}, which the "
        f"largest of all shares exceeds by chance with a probability of {record.level:.0%}."
    )
