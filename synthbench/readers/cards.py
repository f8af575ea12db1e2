"""CLAIM 2024 and MI-CLAIM-GEN for a reader study: what its folder, key and answers say.

The topics are in our own words, as those of `synthbench.report.cards.cards`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from synthbench.errors import UsageError, near_miss
from synthbench.readers.analysis import analyse
from synthbench.readers.design import BLURRED, CONTROLS, MEMORIZER
from synthbench.readers.power import MARGIN, power
from synthbench.readers.results import KAPPA, Analysis
from synthbench.readers.scales import Scales
from synthbench.readers.study import Key, Study, read_key, read_study
from synthbench.render.numbers import p_text
from synthbench.report.cards.item import Card, Fact, Item, Section, by_person
from synthbench.report.readers import (
    CONTROL_WORDS,
    VERDICTS,
    comparison_sentence,
    control_sentence,
    estimate_text,
    share_text,
)

STUDY = "A study"
_MADE_LIKE = {BLURRED: "real volumes, blurred", MEMORIZER: "copies of real volumes by a memorizer"}


@dataclass(frozen=True)
class Facts:
    """What a study says of the topics of a card."""

    study: Study
    key: Key
    scales: Scales
    found: Analysis

    # ------------------------------------------------------------ design

    @cached_property
    def kinds(self) -> Counter[str]:
        """The number of trials of the first reader that count, by kind."""
        trials = next(iter(self.study.readers.values()))
        return Counter(one.kind for one in trials if not one.practice)

    def question(self) -> Fact:
        """Return what readers were asked."""
        said = []
        if self.kinds["2afc"]:
            said.append(
                "Of two volumes side by side, readers said which one is real (two-alternative "
                "forced choice)."
            )
        if self.kinds["rating"]:
            items = "; ".join(f"{one.question} ({one.key})" for one in self.scales.items())
            said.append(
                f"Readers rated single volumes on scales with words at each level: {items}."
            )
        return Fact(
            tuple(said), by_person("the hypothesis, and when it was written down", STUDY).open
        )

    def cases(self) -> Fact:
        """Return what was shown, and how it was drawn."""
        shown = Counter(one.group for one in self.key.cases.values())
        sets = [f"{shown.pop('real', 0)} real"]
        sets += [f"{n} of {_MADE_LIKE.get(name, name)}" for name, n in sorted(shown.items())]
        cohorts = ", ".join(
            f"{name} {own[:12]}"
            for name, own in {"real": self.key.real_fingerprint, **self.key.fingerprints}.items()
        )
        return Fact((
            f"{len(self.key.cases)} volumes were shown: {', '.join(sets)}.",
            "They were drawn at random, one scan of each real person; a volume is in one pair only "
            "and a pair comes twice only to see whether a reader repeats the answer.",
            f"The cohorts by the hashes of their images: {cohorts}.",
        ), short=f"{len(self.key.cases)} volumes")  # fmt: skip

    def preparation(self) -> Fact:
        """Return the grid and the intensities of what was shown."""
        shape, spacing = (
            " x ".join(f"{n:g}" for n in own) for own in (self.study.shape, self.study.spacing)
        )
        return Fact((
            f"All were brought to one grid, {shape} voxels of {spacing} mm, to one range of "
            "intensities and to 8 bits. Readers had three planes and a rendering, and could change "
            "window, zoom and position.",
        ))  # fmt: skip

    def blinding(self) -> Fact:
        """Return how readers were kept from knowing, and what was randomised."""
        return Fact((
            "Copies have random names, one header, one size and one date. The server opens no key, "
            "and a reader gets the volumes of the current trial only.",
            "Each reader has a random order; the real volume is on the left in half of the pairs, "
            "and the second of two readers sees the sides exchanged.",
        ), short="blinded, random order")  # fmt: skip

    def controls(self) -> Fact:
        """Return the controls, and what readers saw of them."""
        there = {one.group: one for one in self.found.compared if one.control}
        if not there:
            return Fact(open=("The study has no comparisons with controls.",), short="none")
        lines = [
            f"{CONTROL_WORDS[name]}: {share_text(one.accuracy)}% right of {one.cases} pairs."
            for name, one in there.items()
        ]
        wrong = [
            said for name, one in there.items() if (said := control_sentence(name, one.accuracy))
        ]
        return Fact((*lines, *(f"{said}." for said in wrong)),
                    short="found as expected" if not wrong else "not as expected")  # fmt: skip

    def readers(self) -> Fact:
        """Return how many readers answered, and what of them is not recorded."""
        trials = next(iter(self.study.readers.values()))
        practice = sum(one.practice for one in trials)
        n = sum(one.answered > 0 for one in self.found.readers.values())
        return Fact((
            f"{n} of {len(self.study.readers)} readers answered, each alone; {practice} trials of "
            "practice came first.",
        ), (
            "A study does not hold training, years of experience and subspecialty of the readers, "
            "their screens, or what they were told. A person writes this.",
        ), short=f"{n} readers")  # fmt: skip

    def size(self) -> Fact:
        """Return the power of the design."""
        n = len(self.study.readers)
        pairs = Counter(one.group for one in self.key.pairs if one.group not in CONTROLS)
        if not pairs or not self.kinds["2afc"]:
            return by_person("why this many readers and volumes", STUDY)
        cases = min(pairs.values())
        reached = power(n, cases)
        return Fact((
            f"{n} readers with {cases} pairs per generator find accuracy within 50 +- "
            f"{100 * MARGIN:.0f} points in {100 * reached:.0f}% of the studies where nobody can "
            "tell (two one-sided tests at 5%, simulated; standard deviation 5 points between "
            "readers and 10 between pairs).",
        ), by_person("why this many, and whether it was planned so", STUDY).open,
            short=f"power {100 * reached:.0f}%")  # fmt: skip

    # ------------------------------------------------------------ analysis

    def measures(self) -> Fact:
        """Return how the numbers were computed."""
        return Fact((
            "Intervals of 95% of accuracy and of mean levels count readers and cases as random "
            "(U-statistics, Gallas 2006; score interval), so they are for new readers and new "
            "cases.",
            f"Equivalence to chance: two one-sided tests at 5%, accuracy within 0.5 +- "
            f"{self.found.margin:g}. d' is sqrt(2) times the normal quantile of the accuracy.",
            "Differences between generators have p by Holm's correction. The first answer to the "
            "same volumes counts.",
        ))  # fmt: skip

    def results(self) -> Fact:
        """Return what readers saw of each generator."""
        lines, short = [], []
        for one in self.found.compared:
            if not one.control:
                said = comparison_sentence(one.accuracy, one.verdict, self.found.margin)
                lines.append(
                    f"{one.group}: {said} ({one.readers} readers, {one.cases} pairs; d' "
                    f"{estimate_text(one.d_prime)}; p of equivalence {p_text(one.equivalence_p)})."
                )
                short.append(f"{one.group} {VERDICTS[one.verdict]}")
        for item in self.found.rated:
            means = ", ".join(
                f"{group} {estimate_text(mean, digits=1)}" for group, mean in item.means.items()
            )
            lines.append(f"Mean level of {item.item} (1 to {len(item.levels)}): {means}.")
        for two in self.found.differences:
            lines.append(
                f"{two.what}, {two.first} less {two.second}: "
                f"{estimate_text(two.difference, sign='+')}, p {p_text(two.adjusted_p)} (Holm)."
            )
        return Fact(tuple(lines), short="; ".join(short) or "rated")

    def agreement(self) -> Fact:
        """Return agreement between readers, and of each reader with herself."""
        lines = [
            f"{one.item}: Krippendorff's alpha (ordinal) {estimate_text(one.alpha)}, Gwet's AC2 "
            f"(quadratic weights) {estimate_text(one.ac2)}."
            for one in self.found.rated
        ]
        lines += [
            f"Within readers, {one.kind}: the same answer to {share_text(one.same)}% of "
            f"{one.trials} repeated trials."
            for one in self.found.repeated
        ]
        if self.found.compared:
            lines.append(KAPPA)
        return Fact(tuple(lines)) if lines else Fact(open=("No item was rated, none repeated.",))

    def missing(self) -> Fact:
        """Return which answers are missing."""
        answered = sum(one.answered for one in self.found.readers.values())
        asked = sum(one.asked for one in self.found.readers.values())
        lines = [f"{answered} of {asked} trials that count were answered."]
        lines += [
            f"{name}: {one.answered} of {one.asked}."
            for name, one in self.found.readers.items()
            if one.answered < one.asked
        ]
        words = (
            "Why answers are missing is not in a study. A person writes this.",
        ) if answered < asked else ()  # fmt: skip
        return Fact(tuple(lines), words, short=f"{answered} of {asked} answered")

    def bias(self) -> Fact:
        """Return the preference for a side, and change over the session."""
        lines = []
        if self.found.bias is not None:
            lines.append(f"Readers said left in {share_text(self.found.bias.left)}%.")
        drift = self.found.drift
        if drift is not None and drift.accuracy is not None:
            change = estimate_text(drift.accuracy, scale=100, sign="+", digits=0)
            lines.append(
                f"Second half of the session less the first: accuracy {change} points; "
                f"{drift.seconds[0]:.0f} s, then {drift.seconds[1]:.0f} s per trial."
            )
        return Fact(tuple(lines)) if lines else Fact(open=("There were no comparisons.",))

    def told(self) -> Fact:
        """Return how many pairs most readers told, and the comments."""
        told = [one for one in self.found.told if 2 * one.right > one.readers]
        comments = sum(len(one.comments) for one in self.found.told)
        if not self.found.told:
            return Fact(open=("There were no comparisons.",))
        return Fact((
            f"{len(told)} of {len(self.found.told)} pairs were told by more than half of their "
            f"readers; {comments} comments stand beside them in the record (readers analyse "
            "--out).",
        ))  # fmt: skip

    def reproduction(self) -> Fact:
        """Return what others need to compute this again."""
        return Fact((
            f"The study's folder, its key (sha256 {self.study.key_sha256[:12]}, which holds the "
            f"seed) and synthbench {version('synthbench')}: synthbench readers analyse STUDY.",
        ))  # fmt: skip

    def ethics(self) -> Fact:
        """Return what is recorded of readers; approval and consent are left to a person."""
        return Fact(
            ("Of a reader a code, answers, comments and times are recorded, and nothing else.",),
            by_person("ethics approval and the readers' consent", STUDY).open,
        )


def _claim(facts: Facts) -> tuple[Section, ...]:
    return (
        Section("Study and data", (
            Item("Design and goal", "What was the study to show, and was it planned ahead?",
                 facts.question()),
            Item("Data and selection", "Which images were shown, and how were they chosen?",
                 facts.cases() + by_person("the sources of the real images", STUDY)),
            Item("Preprocessing", "What was done to the images?", facts.preparation()),
            Item("Missing data", "How many answers are missing?", facts.missing()),
        )),
        Section("Reference standard and readers", (
            Item("Reference standard", "What is taken as the truth?", Fact((
                "Which volume is real is known from the files that the study was made of, and is "
                "in the key, whose hash the study holds.",))),
            Item("Readers", "How many, of which experience, with which instructions?",
                 facts.readers()),
            Item("Blinding and order", "What did readers know, and what was randomised?",
                 facts.blinding()),
            Item("Controls", "How is it known that readers looked?", facts.controls()),
            Item("Agreement", "How well do readers agree, and each with herself?",
                 facts.agreement()),
            Item("Sample size", "Why this many?", facts.size()),
        )),
        Section("Analysis and results", (
            Item("Metrics and intervals", "By what is it judged, with which uncertainty?",
                 facts.measures()),
            Item("Results", "What did readers see?", facts.results()),
            Item("Robustness", "Did a side, or the time of the session, matter?", facts.bias()),
            Item("Failures", "Which images were told, and why?", facts.told()),
        )),
        Section("Discussion and access", (
            Item("Limitations", "What do the numbers not say?",
                 by_person("the limits of the study, and what follows for practice", STUDY)),
            Item("Access", "Where are protocol, code and data?", facts.reproduction()),
            Item("Ethics and funding", "Which approval and consent; who paid?", facts.ethics()),
        )),
    )  # fmt: skip


def _mi_claim_gen(facts: Facts) -> tuple[Section, ...]:
    return (
        Section("Study design", (
            Item("Question", "What were people asked, and for which use?", facts.question()),
            Item("Cohorts", "Which images were shown, and how were they chosen?", facts.cases()),
            Item("Baseline", "With what is the model compared?", facts.controls()),
        )),
        Section("Evaluation by people", (
            Item("Evaluators", "Who looked, and what were they told?", facts.readers()),
            Item("Procedure", "What was hidden, and what was randomised?",
                 facts.blinding() + facts.preparation()),
            Item("Number", "Why this many people and images?", facts.size()),
            Item("Measures", "By what is it judged, with which uncertainty?", facts.measures()),
            Item("Results", "What did they see?", facts.results()),
            Item("Agreement", "How well do they agree?", facts.agreement()),
        )),
        Section("Examination", (
            Item("Failures", "Which images were told?", facts.told()),
            Item("Bias", "Did a side, or the time of the session, matter?", facts.bias()),
            Item("Missing answers", "How many are missing?", facts.missing()),
        )),
        Section("Reproduction and ethics", (
            Item("Reproduction", "Can others compute the numbers again?", facts.reproduction()),
            Item("Ethics", "Which approval and consent?", facts.ethics()),
        )),
    )  # fmt: skip


CARDS: dict[str, tuple[str, str, Callable[[Facts], tuple[Section, ...]]]] = {
    "claim": (
        "CLAIM 2024",
        "CLAIM: Checklist for Artificial Intelligence in Medical Imaging, 2024 update (Tejani et "
        "al., Radiology: Artificial Intelligence 6, 2024, doi 10.1148/ryai.240300). This card has "
        "its topics that concern a study with readers, in our words and without its numbers. The "
        "generator's own: synthbench cite CARD --card claim.",
        _claim,
    ),
    "mi-claim-gen": (
        "MI-CLAIM-GEN",
        "MI-CLAIM-GEN: minimum information about clinical artificial intelligence, for generative "
        "modelling (Miao et al., arXiv 2403.02558). This card has its parts that concern people "
        "who evaluate, in our words and without its numbers. The generator's own: synthbench cite "
        "CARD --card mi-claim-gen.",
        _mi_claim_gen,
    ),
}


def study_card(name: str, folder: Path, *, key: Path | None = None) -> Card:
    """Return a card that is filled from a study and its answers.

    Parameters
    ----------
    name
        "claim" or "mi-claim-gen".
    folder
        The study.
    key
        The file of the key; None: beside the folder.

    Raises
    ------
    UsageError
        There is no such card, no study or key, or fewer than two readers answered.
    """
    if name not in CARDS:
        raise UsageError(f"--card {name}: no such card; {near_miss(name, CARDS)}")
    study, scales = read_study(folder)
    found = analyse(folder, key=key)
    facts = Facts(study, read_key(folder, study, key), scales, found)
    title, source, sections = CARDS[name]
    opening = (
        f"A study of {', '.join(facts.key.generators)} with {len(study.readers)} readers; study "
        f"{study.key_sha256[:12]}.",
    )
    return Card(f"{title}: reader study", source, opening, sections(facts))
