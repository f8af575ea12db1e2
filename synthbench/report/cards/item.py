"""A card: sections of topics, each with what a scorecard says of it and what is left open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from synthbench.render import latex, markdown

State = Literal["filled", "partly filled", "open"]

LONGEST_IN_SHORT = 70
"""A sentence of more characters is no answer in short."""

LEFT_TO_A_PERSON = "left to a person"
"""The answer in short of a topic that no scorecard holds."""


@dataclass(frozen=True)
class Fact:
    """What a scorecard says of a topic.

    Attributes
    ----------
    found
        Sentences, each from the scorecard.
    open
        What it does not say, why, and who or which command can.
    short
        The answer as a clause, for a table; empty where no clause says it (`in_short`).
    """

    found: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    short: str = ""

    def __add__(self, other: Fact) -> Fact:
        both = [words for words in (self.short, other.short) if words]
        known = [words for words in both if words != LEFT_TO_A_PERSON]
        short = "; ".join(known or both[:1])
        return Fact((*self.found, *other.found), (*self.open, *other.open), short)

    @property
    def in_short(self) -> str:
        """The answer for a table, never empty: `short`, the first sentence, or where to look."""
        if self.short:
            return self.short
        if not self.found:
            return "not in the scorecard"
        first = self.found[0].removesuffix(".")
        return first if len(first) <= LONGEST_IN_SHORT else "see below"

    @property
    def state(self) -> State:
        """Whether the topic is filled."""
        if not self.found:
            return "open"
        return "partly filled" if self.open else "filled"


@dataclass(frozen=True)
class Item:
    """A topic of a card: its name, what it asks in our own words, and what is known of it."""

    name: str
    asks: str
    fact: Fact


@dataclass(frozen=True)
class Section:
    """Items under one heading."""

    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Card:
    """A filled card.

    Attributes
    ----------
    title
        With the name of the volumes.
    source
        The publication, and how this card follows it.
    opening
        What the scorecard found, in one sentence, and which scorecard it is.
    sections
        Of the card.
    """

    title: str
    source: str
    opening: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def items(self) -> Iterator[Item]:
        """All items in order."""
        return (item for section in self.sections for item in section.items)

    @property
    def markdown(self) -> str:
        """The card as markdown: a table of all items, then each with its sentences.

        Names in a scorecard are not trusted: they are escaped.
        """
        head = ["topic", "state", "in short"]
        rows = [
            [markdown.escaped(item.name), item.fact.state, markdown.escaped(item.fact.in_short)]
            for item in self.items
        ]
        lines = [f"# {markdown.escaped(self.title)}", ""]
        lines += [f"{markdown.escaped(sentence)}\n" for sentence in self.opening]
        lines += [markdown.table(head, rows, words=3), ""]
        for section in self.sections:
            if section.name:
                lines += [f"## {markdown.escaped(section.name)}", ""]
            for item in section.items:
                level = "###" if section.name else "##"
                lines += [f"{level} {markdown.escaped(item.name)}", ""]
                lines += [f"*{markdown.escaped(item.asks)}*", ""]
                lines += [f"- {markdown.escaped(sentence)}" for sentence in item.fact.found]
                lines += [f"- **Open:** {markdown.escaped(words)}" for words in item.fact.open]
                lines.append("")
        return "\n".join([*lines, markdown.escaped(self.source)])

    @property
    def latex(self) -> str:
        """The card as LaTeX that needs no package."""
        lines = [rf"\section*{{{latex.escaped(self.title)}}}"]
        lines += [latex.escaped(sentence) + "\n" for sentence in self.opening]
        for section in self.sections:
            if section.name:
                lines.append(rf"\subsection*{{{latex.escaped(section.name)}}}")
            lines.append(r"\begin{description}")
            for item in section.items:
                fact = item.fact
                sentences = [latex.escaped(one) for one in fact.found]
                sentences += [rf"\emph{{Open:}} {latex.escaped(one)}" for one in fact.open]
                lines.append(rf"\item[{{{latex.escaped(item.name)}}}] {' '.join(sentences)}")
            lines.append(r"\end{description}")
        return "\n".join([*lines, latex.escaped(self.source)])

    def record(self) -> dict[str, Any]:
        """Return the card as JSON has it, with both texts."""
        fields = asdict(self)
        for section, own in zip(fields["sections"], self.sections, strict=True):
            for item, one in zip(section["items"], own.items, strict=True):
                item |= {**item.pop("fact"), "state": one.fact.state}
        return {**fields, "markdown": self.markdown, "latex": self.latex}


def by_person(what: str, source: str = "A scorecard") -> Fact:
    """Return an open fact that the source of a card does not hold: a person writes it."""
    return Fact(
        open=(f"{source} does not hold {what}. A person writes this.",), short=LEFT_TO_A_PERSON
    )
