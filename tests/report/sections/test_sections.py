"""The sections of a report: found in their folder, in order, each with its template."""

from __future__ import annotations

from importlib.resources import files

from synthbench.report.html import render_report
from synthbench.report.sections import SECTIONS
from synthbench.report.sections.section import Page
from tests.boards import features, make_card, make_materials, make_protocol


def card():
    real = features(0)
    sample_data = make_materials(make_protocol(real), real, features(1), "f" * 64)
    return make_card("ours", sample_data)


def test_sections_are_ordered_and_have_a_template_each():
    anchors = [section.anchor for section in SECTIONS]
    assert anchors == [
        "entries", "overview", "values", "charts", "conditions", "utility", "readers", "regions",
        "pictures", "copied-parts", "membership", "sets", "spectra", "embedding", "subgroups",
        "sensitivity", "limits", "protocol",
    ]  # fmt: skip
    folder = files("synthbench.report") / "templates" / "sections"
    assert {file.name for file in folder.iterdir()} == {f"{anchor}.jinja" for anchor in anchors}


def test_the_navigation_names_the_sections_that_are_there():
    """From a scorecard alone: no conditions, no study, no folder."""
    page = render_report([card()])
    there = ["overview", "values", "charts", "limits", "protocol"]
    assert [s.anchor for s in SECTIONS if f'<a href="#{s.anchor}">{s.title}</a>' in page] == there
    assert [s.anchor for s in SECTIONS if f'<h2 id="{s.anchor}">{s.heading}</h2>' in page] == there


def test_a_section_that_shows_nothing_says_how_to_have_it():
    page = Page([card()], ["ours"])
    lacking = {section.anchor: section.lacking(page) for section in SECTIONS}
    assert {anchor for anchor, lines in lacking.items() if lines} == {"pictures", "sensitivity"}
    assert "--sensitivity FILE" in lacking["sensitivity"][0]
