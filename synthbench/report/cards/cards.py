"""The cards by name: FDA's seven criteria, CLAIM 2024 and MI-CLAIM-GEN.

The topics are in our own words. Numbers of items are left out: the checklists are the authority.
"""

from __future__ import annotations

from collections.abc import Callable

from synthbench.errors import UsageError, near_miss
from synthbench.records.scorecard import Scorecard
from synthbench.report.cards import facts
from synthbench.report.cards.item import Card, Fact, Item, Section, by_person
from synthbench.report.opening import opening


def _card(card: Scorecard, title: str, source: str, *sections: Section) -> Card:
    scored = (
        f"{card.synth.n} synthetic against {card.real.n} real volumes, scored on "
        f"{card.created[:10]} by synthbench {card.software.get('synthbench', '?')}, protocol "
        f"{card.protocol_hash}."
    )
    return Card(f"{title}: {card.name}", source, (opening(card), scored), sections)


def fda7(card: Scorecard) -> Card:
    """Return the seven criteria of the FDA's scorecard for synthetic medical data."""
    constraint = facts.of_metrics(card, facts.CONSTRAINTS)
    if not constraint.found:
        constraint += Fact(open=(
            "Not measured: the share of volumes with an impossible anatomy, such as ventricles "
            "larger than in any real person (the metric `constraints`).",
        ), short="not measured")  # fmt: skip
    lacking = [f"{row.label}: {row.missing}" for row in card.values if row.missing]
    complete = facts.generator(card) + facts.faults(card)
    if lacking:
        complete += Fact(open=(f"Metrics without a value: {'; '.join(lacking)}.",))
    return _card(
        card, "The seven criteria for synthetic medical data",
        "The criteria: Zamzmi et al., Scorecard for synthetic medical data evaluation, "
        "Communications Engineering 4, 2025, doi 10.1038/s44172-025-00450-1. What each asks is in "
        "our words. "
        "\"Filled\" says that the scorecard has an answer, not that the answer is good.",
        Section("", (
            Item("Congruence", "Do the synthetic volumes have the distribution of the real ones?",
                 _known(facts.of_metrics(card, facts.DISTANCES), "No distance was scored.")),
            Item("Coverage", "Do they have the variety of the real ones?",
                 _known(facts.of_metrics(card, facts.VARIETY), "No variety was scored.")),
            Item("Constraint", "Do they keep to what is possible in a body?", constraint),
            Item("Completeness", "Is all there that their use needs: files, fields, provenance?",
                 complete),
            Item("Compliance", "Do they keep to privacy, licences, formats and rules?",
                 facts.privacy(card) + facts.licence(card)
                 + by_person("ethics approval, consent, and the terms of the real data")),
            Item("Comprehension", "Can a reader understand how they were made and where they fail?",
                 facts.reproduction(card) + facts.extractors(card) + facts.limitations(card)
                 + by_person("the intended use, and what the volumes must not be used for")),
            Item("Consistency", "Is the quality the same in all groups, and for another training?",
                 facts.training_seeds(card) + facts.groups(card) + facts.uncertainty(card)),
        )),
        Section("Beside the seven", (
            Item("Use", "Do the volumes serve a purpose on real people?",
                 facts.usefulness(card) + facts.replication(card)),
            Item("Readers", "What do experts say who look at them?", facts.readers(card)),
            Item("Cost", "What do training and sampling take?", facts.cost(card)),
        )),
    )  # fmt: skip


def _known(fact: Fact, otherwise: str) -> Fact:
    return fact if fact.found or fact.open else Fact(open=(otherwise,))


def claim(card: Scorecard) -> Card:
    """Return the topics of CLAIM 2024, for the part of a study that a scorecard reports."""
    return _card(
        card, "CLAIM 2024",
        "CLAIM: Checklist for Artificial Intelligence in Medical Imaging, 2024 update (Tejani et "
        "al., Radiology: Artificial Intelligence 6, 2024, doi 10.1148/ryai.240300). This card "
        "follows its topics in our words and without its numbers. Topics of a manuscript's text "
        "alone (title, abstract, background) are left out.",
        Section("Study and data", (
            Item("Design and goal", "What was the study to show, and was it planned ahead?",
                 by_person("the aim, the hypotheses and the design of the study")),
            Item("Data sources", "Where do the images come from, and when were they acquired?",
                 facts.sizes(card) + by_person("the sources of the real images, and their dates")),
            Item("Inclusion and exclusion", "Who was taken in, and who was left out, and why?",
                 facts.faults(card) + by_person("the rules by which participants were chosen")),
            Item("Preprocessing", "What was done to the images?", facts.preparation(card)),
            Item("De-identification", "How were the images made anonymous?",
                 by_person("how the real images were de-identified (synthbench data info looks at "
                           "headers, names and faces)")),
            Item("Acquisition", "Which scanners and sequences?",
                 by_person("scanners and sequences")),
            Item("Missing data", "How was missing data handled?",
                 Fact(tuple(f"{row.label}: {row.missing}." for row in card.values if row.missing)
                      or ("Every metric of the scorecard has a value.",))),
        )),
        Section("Reference standard and partitions", (
            Item("Reference standard", "What is taken as the truth?",
                 Fact((f"The reference is the real cohort {card.real.fingerprint[:12]}, and beside "
                       "each value the value of real against real volumes (the floor).",))),
            Item("Partitions", "How were the data split, and are the parts disjoint by person?",
                 facts.split(card)),
            Item("Sample size", "Why this many?",
                 facts.sizes(card) + facts.detectable(card)),
        )),
        Section("Model and training", (
            Item("Model", "Which model, with which inputs and outputs?", facts.generator(card)),
            Item("Software", "Which libraries, in which versions?", facts.reproduction(card)),
            Item("Training", "How was it trained: settings, starting weights, choice of model?",
                 facts.training_seeds(card) + facts.cost(card)
                 + Fact(open=("The settings are in the run folder's record and its model card, not "
                              "in a scorecard.",))),
        )),
        Section("Evaluation and results", (
            Item("Metrics", "By what is the model judged?",
                 _known(facts.of_metrics(card, facts.DISTANCES)
                        + facts.of_metrics(card, facts.VARIETY), "No metric was scored.")
                 + facts.extractors(card)),
            Item("Uncertainty", "With which intervals and tests?", facts.uncertainty(card)),
            Item("Robustness", "What changes the result?",
                 facts.training_seeds(card)
                 + Fact(open=("What the metrics see on these data: synthbench sensitivity.",))),
            Item("Readers", "Who looked at the volumes, and how well do they agree?",
                 facts.readers(card)),
            Item("External data", "Does it hold on data of another place?",
                 by_person("whether the real cohort is of another place than the training")),
            Item("Participants", "Age, sex, diagnosis and site of each part?",
                 facts.groups(card) + by_person("a table of the participants")),
            Item("Failures", "Where does it fail?", facts.faults(card) + facts.privacy(card)),
        )),
        Section("Discussion and access", (
            Item("Limitations", "What do the numbers not say?", facts.limitations(card)),
            Item("Use in practice", "What follows for practice?", facts.usefulness(card)),
            Item("Access", "Where are protocol, code, model and data?",
                 facts.reproduction(card) + facts.licence(card)),
            Item("Funding", "Who paid, and with which role?", by_person("the funding")),
        )),
    )  # fmt: skip


def mi_claim_gen(card: Scorecard) -> Card:
    """Return the topics of MI-CLAIM-GEN."""
    return _card(
        card, "MI-CLAIM-GEN",
        "MI-CLAIM-GEN: minimum information about clinical artificial intelligence, for generative "
        "modelling (Miao et al., arXiv 2403.02558). This card follows its parts in our words and "
        "without its numbers; what it asks of language models (prompts, tools) is left out.",
        Section("Study design", (
            Item("Question", "Which clinical question, and where would the volumes be used?",
                 by_person("the clinical question and the setting")),
            Item("Cohorts", "How were the cohorts chosen, and do they stand for the people meant?",
                 facts.sizes(card) + facts.faults(card)
                 + by_person("how the real cohort was chosen, and whom it stands for")),
            Item("Baseline", "With what is the model compared?",
                 Fact(("Each value stands beside the floor, that of real against real volumes. "
                       "Other generators on the same protocol: synthbench leaderboard.",))),
        )),
        Section("Data and model", (
            Item("Training data", "On what was the model trained, and apart from the test?",
                 facts.split(card)),
            Item("Model", "Which model, which version, from which weights?",
                 facts.generator(card) + facts.training_seeds(card)),
            Item("Preparation", "What was done to the data?", facts.preparation(card)),
            Item("Resources", "What do training and sampling take?", facts.cost(card)),
        )),
        Section("Evaluation", (
            Item("Automatic evaluation", "By which metrics, with which uncertainty?",
                 _known(facts.of_metrics(card, facts.DISTANCES)
                        + facts.of_metrics(card, facts.VARIETY), "No metric was scored.")
                 + facts.uncertainty(card)),
            Item("Evaluation by people", "Who looked at the volumes, and with which agreement?",
                 facts.readers(card)),
            Item("Use", "Does it help the task that it is made for?", facts.usefulness(card)),
        )),
        Section("Examination", (
            Item("Failures", "Which volumes are wrong, and how often?", facts.faults(card)),
            Item("Bias", "Is the quality the same for all groups?", facts.groups(card)),
            Item("Memorization and privacy", "Does the model give training data away?",
                 facts.privacy(card)),
            Item("Limits", "What do the numbers not say?",
                 facts.limitations(card) + facts.extractors(card)),
        )),
        Section("Reproduction and ethics", (
            Item("Reproduction", "Can others compute the numbers again?",
                 facts.reproduction(card) + facts.licence(card)),
            Item("Ethics", "Which approval, consent and rules?",
                 by_person("ethics approval, consent, and the terms of the real data")),
        )),
    )  # fmt: skip


CARDS: dict[str, Callable[[Scorecard], Card]] = {
    "fda7": fda7, "claim": claim, "mi-claim-gen": mi_claim_gen,
}  # fmt: skip


def card_of(name: str, card: Scorecard) -> Card:
    """Return a card by its name.

    Raises
    ------
    UsageError
        There is no such card.
    """
    if name not in CARDS:
        raise UsageError(f"--card {name}: no such card; {near_miss(name, CARDS)}")
    return CARDS[name](card)
