"""Cards for regulators and journals: what is filled, what is left open, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthbench.errors import UsageError
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number
from synthbench.report.cards.cards import CARDS, card_of
from synthbench.report.cards.item import Fact, by_person
from synthbench.report.verdicts import limits
from tests.boards import make_readers, make_verdict
from tests.command_line import run

ENTRIES = Path(__file__).parents[2] / "data" / "ixi-hh-4mm" / "entries"
SEVEN = ["Congruence", "Coverage", "Constraint", "Completeness", "Compliance", "Comprehension",
         "Consistency"]  # fmt: skip


@pytest.fixture(scope="module")
def card():
    return Scorecard.load(ENTRIES / "memorizer.json")


def items(filled):
    return {item.name: item.fact for item in filled.items}


def with_row(card, **changes):
    """The card with one more row, made from that of coverage."""
    return card.model_copy(
        update={"values": (*card.values, card.row("coverage").model_copy(update=changes))}
    )


def test_the_seven_criteria_are_there_and_each_is_filled_or_says_why_not(card):
    filled = card_of("fda7", card)
    assert [item.name for item in filled.sections[0].items] == SEVEN
    for item in filled.items:
        assert item.fact.found or item.fact.open, item.name
    facts = items(filled)
    assert facts["Congruence"].state == "filled"
    assert facts["Constraint"].state == "open"
    assert "Not measured" in facts["Constraint"].open[0]


def test_values_stand_with_interval_floor_and_test(card):
    (mmd,) = [s for s in items(card_of("fda7", card))["Congruence"].found if s.startswith("MMD")]
    row = card.row("mmd2")
    for x in (row.floor.synth_mean, row.interval.low, row.interval.high, row.floor.mean,
              row.floor.low, row.floor.high):  # fmt: skip
        assert number(x) in mmd
    assert "p <0.001" in mmd


def test_a_value_like_real_ones_does_not_hide_a_test_that_finds_a_difference(card):
    row = card.row("mmd2")
    floor = row.floor.model_copy(update={"synth_mean": row.floor.mean})
    values = tuple(
        one.model_copy(update={"floor": floor, "p": p}) if one is row else one
        for p in (0.001,) for one in card.values
    )  # fmt: skip
    found = items(card_of("fda7", card.model_copy(update={"values": values})))["Congruence"]
    assert "like real, but a permutation test of all volumes finds a difference" in found.found[0]
    assert "a test of all volumes finds a difference" in found.short


def test_a_measure_of_constraints_fills_that_criterion(card):
    measured = with_row(card, metric="constraints", label="Constraint violations", extractor=None)
    assert items(card_of("fda7", measured))["Constraint"].state == "filled"


def test_what_has_no_value_is_named(card):
    row = card.row("fid")
    values = tuple(
        one.model_copy(update={"value": None, "missing": None}) if one is row else one
        for one in card.values
    )
    fact = items(card_of("fda7", card.model_copy(update={"values": values})))["Congruence"]
    assert fact.state == "partly filled"
    assert fact.open == ("FID of random-resnet10 has no value: not scored.",)


def test_origin_seeds_licence_and_use_come_from_the_scorecard(card):
    origin = card.origin.model_copy(
        update={"training_seeds": 3, "licence": "CC-BY-4.0", "training_cohort": "c" * 64,
                "generator": "mine", "weights_sha256": "d" * 64, "training_energy_kwh": 1.5}
    )  # fmt: skip
    used = make_verdict(sentence="It helped by 2%")
    full = card.model_copy(update={"origin": origin, "utility": used})
    facts = items(card_of("fda7", full))
    assert "It helped by 2%." in facts["Use"].found
    assert facts["Cost"].state == "filled"
    assert "Licence of the volumes: CC-BY-4.0." in facts["Compliance"].found
    assert not any("At least 3 trainings" in words for words in facts["Consistency"].open)
    assert not any("do not name" in words for words in facts["Completeness"].open)
    assert "generator mine" in facts["Completeness"].found[0]


def test_a_fit_without_chance_asks_for_no_other_seeds(card):
    trained, fixed = (
        card.model_copy(update={"origin": card.origin.model_copy(
            update={"generator": "mine", "training_seeds": 1, "random_fit": random})})
        for random in (True, False)
    )  # fmt: skip
    assert any("At least 3 trainings" in words
               for words in items(card_of("fda7", trained))["Consistency"].open)  # fmt: skip
    found = items(card_of("fda7", fixed))["Consistency"]
    assert any("every seed gives the same weights" in words for words in found.found)
    assert not any("At least 3 trainings" in words for words in found.open)
    assert any("fewer than three trainings" in words for words in limits(trained))
    assert not any("fewer than three trainings" in words for words in limits(fixed))


def test_a_card_scored_on_its_training_says_so(card):
    origin = card.origin.model_copy(update={"training_cohort": card.real.fingerprint})
    fact = items(card_of("claim", card.model_copy(update={"origin": origin})))["Partitions"]
    assert "flatters" in fact.found[0]


def test_states_and_answers_in_short_add_up():
    known = Fact(("a",), short="yes")
    assert (known.state, Fact(open=("b",)).state) == ("filled", "open")
    both = by_person("x") + known
    assert (both.state, both.short) == ("partly filled", "yes")
    assert (by_person("x") + by_person("y")).short == "left to a person"


@pytest.mark.parametrize("name", CARDS)
def test_every_item_stands_in_every_output(name, card):
    filled = card_of(name, card)
    record = filled.record()
    assert json.loads(json.dumps(record))["title"] == filled.title
    recorded = [item for section in record["sections"] for item in section["items"]]
    for item, one in zip(filled.items, recorded, strict=True):
        assert f"# {item.name}" in filled.markdown
        assert rf"\item[{{{item.name}}}]" in filled.latex
        assert one["state"] == item.fact.state
    assert filled.markdown.count("**Open:**") == sum(len(i.fact.open) for i in filled.items)
    assert filled.latex.count(r"\begin{description}") == len(filled.sections)


def test_the_verb(card):
    file = ENTRIES / "memorizer.json"
    ended = run("cite", file, "--card", "fda7")
    assert ended.returncode == 0
    assert ended.stdout.rstrip("\n") == card_of("fda7", card).markdown
    with pytest.raises(UsageError, match="did you mean 'fda7'"):
        card_of("fda", card)


@pytest.mark.parametrize(
    ("name", "topic"),
    [("fda7", "Readers"), ("claim", "Readers"), ("mi-claim-gen", "Evaluation by people")],
)
def test_what_readers_saw_fills_the_topic_of_people(card, name, topic):
    assert items(card_of(name, card))[topic].state == "open"
    fact = items(card_of(name, card.model_copy(update={"readers": make_readers()})))[topic]
    assert fact.state == "partly filled"
    assert "71 [61, 81]%" in fact.found[0]
    assert "slices 0.40 [0.20, 0.60] and 0.50 [0.30, 0.70]" in fact.found[-1]
    assert fact.short.startswith("told from real")


@pytest.mark.parametrize("entry", ["memorizer", "pca-gaussian"])
@pytest.mark.parametrize("name", sorted(CARDS))
def test_no_topic_has_an_empty_answer_in_the_table(name, entry):
    """Also of a card whose training time is known and whose energy is not."""
    filled = card_of(name, Scorecard.load(ENTRIES / f"{entry}.json"))
    for item in filled.items:
        assert 0 < len(item.fact.in_short) <= 200, item.name
    rows = [line for line in filled.markdown.splitlines() if line.startswith("| ")]
    assert not [row for row in rows if row.rstrip(" |").endswith(("filled", "open"))]


def test_an_answer_in_short_is_the_first_sentence_where_it_is_short():
    assert Fact(("Training took 3 s.",)).in_short == "Training took 3 s"
    assert Fact(("x" * 80,)).in_short == "see below"
    assert Fact(open=("Not known.",)).in_short == "not in the scorecard"
