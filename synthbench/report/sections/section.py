"""The definition of a section of a report, and the page that it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthbench.records.scorecard import Scorecard
from synthbench.report.album.at_hand import AtHand
from synthbench.report.ranking import Ranking

if TYPE_CHECKING:
    from synthbench.sensitivity.read_back import Sensitivity


@dataclass(frozen=True)
class Page:
    """The content that the sections of a page are built from.

    Attributes
    ----------
    cards, names
        The scorecards, and their names on the page.
    at_hand
        The cohorts of the scorecards whose folders were named, by index in `cards`.
    study
        Sensitivity curves; None where there are none.
    ranking
        Of a benchmark's entries; None where the page is of no benchmark.
    lacking
        Sentences on what the page does not show, why, and how to get it.
    """

    cards: Sequence[Scorecard]
    names: Sequence[str]
    at_hand: Mapping[int, AtHand] = field(default_factory=dict)
    study: Sensitivity | None = None
    ranking: Ranking | None = None
    lacking: Sequence[str] = ()

    @property
    def several(self) -> bool:
        """True where there is more than one scorecard."""
        return len(self.cards) > 1

    def about(self, index: int) -> str:
        """Return the start of a sentence on one scorecard: its name where there are several."""
        return f"{self.names[index]}: " if self.several else ""


def _nothing(page: Page) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    anchor
        Its id in the page; `templates/sections/ANCHOR.jinja` is its template.
    title, heading
        Its name in the navigation, and above the section.
    place
        Sections are shown in ascending order of it.
    build
        From the page to the variables of the template; None where there is nothing to show.
    lacking
        From the page to sentences on what this section does not show, and how to get it.
    """

    anchor: str
    title: str
    heading: str
    place: int
    build: Callable[[Page], Mapping[str, Any] | None]
    lacking: Callable[[Page], Sequence[str]] = _nothing
