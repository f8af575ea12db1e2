"""The section on pictures: examples, typical volumes, nearest training volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.provenance import sources
from synthbench.report.album.at_hand import AtHand
from synthbench.report.album.gallery import Plan, examples, pictured
from synthbench.report.album.neighbours import beside_real, nearest_real, neighbours
from synthbench.report.album.typicality import by_typicality
from synthbench.report.sections.section import Page, Section

SIMULATED = "synthbench atlas cohort (simulated, no person's data)"
"""The name of the embedded cohort, whose volumes are simulated."""
_NO_FOLDERS = (
    "Pictures, the most and the least typical volumes, nearest training volumes, spectra and "
    "subgroups: name the folders that were scored (--real DIR --synth DIR, and --train DIR)."
)


def _build(page: Page) -> Mapping[str, Any] | None:
    if not page.at_hand:
        return None
    cards, people = [], False
    for index, at_hand in page.at_hand.items():
        plans = _plans(at_hand)
        chosen = [v for plan in plans for v in plan.volumes if v.role == "synth"]
        near = nearest_real(at_hand, list(dict.fromkeys(v.index for v in chosen)))
        if near:
            example = [v for v in plans[0].volumes if v.role == "synth"]
            plans.append(beside_real(at_hand, example, near))
        album = pictured(plans, at_hand, f"volume-{index + 1}", near)
        cards.append({"name": page.names[index], "number": index + 1, "album": album})
        people = people or _shows_people(at_hand, plans)
    return {"cards": cards, "several": page.several, "people": people}


def _plans(at_hand: AtHand) -> list[Plan]:
    plans = [examples(at_hand)]
    if not isinstance(at_hand.features, str):
        plans += by_typicality(at_hand.features, at_hand.cohorts.synth)
    if at_hand.cohorts.train is not None:
        plans.append(neighbours(at_hand))
    return plans


def _shows_people(at_hand: AtHand, plans: Sequence[Plan]) -> bool:
    """Return True where a picture of a real participant may be among the pictures."""
    roles = {volume.role for plan in plans for volume in plan.volumes} - {"synth"}
    return any(_people(at_hand.sides[role]) for role in roles)


def _people(cohort: Cohort) -> bool:
    """Return True where a cohort's volumes may be scans of people: all but the embedded cohort."""
    return any(source["name"] != SIMULATED for source in sources(cohort))


def _lacking(page: Page) -> Sequence[str]:
    if not page.at_hand:
        return [_NO_FOLDERS]
    lines = []
    for index in range(len(page.cards)):
        about = page.about(index)
        if index not in page.at_hand:
            lines.append(f"{about}pictures: none of the --synth folders is this scorecard's.")
            continue
        at_hand = page.at_hand[index]
        if isinstance(at_hand.features, str):
            lines.append(
                f"{about}The most and the least typical volumes, and subgroups: {at_hand.features}"
            )
        if at_hand.cohorts.train is None:
            lines.append(
                f"{about}Nearest training volumes: name the generator's training set with --train."
            )
    return lines


SECTION = Section("pictures", "Pictures", "Pictures", 60, _build, _lacking)
