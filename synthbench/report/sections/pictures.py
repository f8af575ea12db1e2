"""The section on pictures: examples, typical volumes, nearest training volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.provenance import sources
from synthbench.report.sections.at_hand import AtHand
from synthbench.report.sections.gallery import Plan, examples, pictured
from synthbench.report.sections.neighbours import neighbours
from synthbench.report.sections.section import Page, Section
from synthbench.report.sections.typicality import by_typicality

SIMULATED = "synthbench atlas cohort (simulated, no person's data)"
"""The name of the embedded cohort, whose volumes are simulated."""
_NO_FOLDERS = (
    "Pictures, the most and the least typical volumes, nearest training volumes, spectra and "
    "subgroups: name the folders that were scored (--real DIR --synth DIR, and --train DIR)."
)


def _build(page: Page) -> Mapping[str, Any] | None:
    if not page.at_hand:
        return None
    plans = {index: _plans(at_hand) for index, at_hand in page.at_hand.items()}
    return {
        "cards": [
            {
                "name": page.names[index],
                "galleries": pictured(plans[index], at_hand.samples, at_hand.budget),
            }
            for index, at_hand in page.at_hand.items()
        ],
        "several": page.several,
        "people": any(_shows_people(page.at_hand[index], plans[index]) for index in plans),
    }


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
