"""The checklists that are filled from a study."""

from __future__ import annotations

import pytest

from synthbench.errors import UsageError
from synthbench.readers.analysis import analyse
from synthbench.readers.cards import CARDS, study_card
from synthbench.readers.simulated import IDEAL, Truth, answer_all
from synthbench.readers.study import answers_file
from synthbench.report.readers import share_text
from tests.command_line import run
from tests.readers.small import study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards") / "study"
    study(folder, readers=3)
    answer_all(folder, Truth({"alpha": 9.0, "blurred": 9.0}, {"real": 1.0}), [IDEAL], seed=1)
    lines = answers_file(folder, "reader-3").read_text(encoding="utf-8").splitlines()
    answers_file(folder, "reader-3").write_text("\n".join(lines[:-4]) + "\n", encoding="utf-8")
    return folder


def items(card):
    return {item.name: item.fact for item in card.items}


def test_a_card_has_the_studys_numbers_and_leaves_the_rest_to_a_person(folder):
    found = analyse(folder)
    facts = items(study_card("claim", folder))
    alpha = next(one for one in found.compared if one.group == "alpha")
    assert f"{share_text(alpha.accuracy)}%" in facts["Results"].found[0]
    assert facts["Missing data"].short == "107 of 111 answered"  # 37 trials each count
    assert "reader-3: 33 of 37." in facts["Missing data"].found
    assert "3 of 3 readers" in facts["Readers"].found[0]
    assert "years of experience" in facts["Readers"].open[0]
    assert facts["Controls"].found[0].startswith("blurred real (control): 100 [")
    # 5 pairs of each of two generators, 2 of each of two controls, and 1 of practice, blurred.
    assert facts["Data and selection"].found[0] == (
        "30 volumes were shown: 17 real, 5 of alpha, 5 of beta, 3 of real volumes, blurred."
    )
    assert "10 x 12 x 9 voxels of 4 x 4 x 4 mm" in facts["Preprocessing"].found[0]
    assert len(facts["Agreement"].found) == len(found.rated) + len(found.repeated) + 1


@pytest.mark.parametrize("name", CARDS)
def test_every_topic_is_filled_or_says_who_fills_it(name, folder):
    card = study_card(name, folder)
    for item in card.items:
        assert item.fact.found or item.fact.open, item.name
        assert all("scorecard" not in words for words in item.fact.open), item.name
    ended = run("readers", "cite", folder, "--card", name)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"# {CARDS[name][0]}: reader study")
    assert "| Results |" in ended.stdout
    assert str(folder) not in ended.stdout


def test_a_card_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(UsageError, match="claim"):
        study_card("fda7", folder)
