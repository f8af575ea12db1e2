from __future__ import annotations

import io
from xml.etree import ElementTree as ET

from synthbench.drift.drift import drift
from synthbench.drift.output import drift_table, junit, workflow_commands
from tests.drift.cards import (
    with_software,
    with_values,
)


def text_of(renderable):
    from rich.console import Console

    page = io.StringIO()
    Console(width=200, file=page).print(renderable)
    return page.getvalue()


def test_the_table_junit_and_annotations_say_the_same(card):
    found = drift(card, with_values(with_software(card, torch="9.9"), 0.01))
    table = text_of(drift_table(found))
    for words in ("MMD² (RBF) (voxels)", "change / terms", "0.01", "torch", found.verdict):
        assert words in table
    suite = ET.fromstring(junit(found))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "4", "0")
    assert "torch" in next(suite.iter("failure")).attrib["message"]
    lines = workflow_commands(found)
    assert len(lines) == 4
    assert all(line.startswith("::error title=synthbench drift::") for line in lines)
    assert workflow_commands(drift(card, card)) == []


def test_names_in_scorecards_start_no_command_and_no_markup(card):
    hostile = with_values(card, 0.01).model_copy(update={"name": "[red]x\n::error::y<"})
    rows = [row.model_copy(update={"label": "[b]l\n::set-output::"}) for row in hostile.values]
    hostile = hostile.model_copy(update={"values": tuple(rows)})
    found = drift(card, hostile)
    assert all("\n" not in line for line in workflow_commands(found))
    assert "[red]x" in text_of(drift_table(found))
    ET.fromstring(junit(found))
