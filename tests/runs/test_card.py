"""Cards: what they say, what they never say, and that nobody's words are written over."""

from __future__ import annotations

import json

import pytest
import yaml

from synthbench.runs import dataset_card, model_card
from tests.runs.conftest import ADNI, OPEN, WEIGHTS, cells, make_run

HOSTILE = "<script>alert(1)</script> [x](javascript:y) | `z` *b*\n---\n# H1 @somebody \u202eabc"


def front(card):
    """The YAML front matter, found as hubs find it: between the first two lines of dashes."""
    start, head, _ = card.read_text(encoding="utf-8").split("---\n", 2)
    assert start == ""
    return yaml.safe_load(head)


def test_a_model_card_tells_how_it_was_made(run):
    text = model_card.write_model_card(run).read_text(encoding="utf-8")
    table = cells(text)
    assert table["generator"] == "pca-gaussian"
    assert table["weights, sha256"] == WEIGHTS
    assert table["fingerprint (sha256 over all volumes)"] == "cd" * 32
    assert table["software"] == "synthbench 0.1.0, Python 3.11.7, torch 2.13.0"
    assert table["hardware"].startswith("2 x A100")
    assert table["preflight rules accepted"] == "background"
    assert (table["volumes"], table["subjects"]) == ("70", "68")
    assert (table["training"], table["GPU hours"]) == ("90 min", "6")
    assert table["electricity"] == "1.25 kWh"
    assert table["age"] == "20 to 29: 40; 30 to 39: 28"
    assert "Diagnosis" in text
    assert "give no guarantee of privacy" in " ".join(text.split())
    assert "Not scored yet: `synthbench score" in text


def test_the_front_matter_is_what_hubs_read(run, sampled):
    model = front(model_card.write_model_card(run))
    assert model["license"] == "cc-by-sa-3.0"
    assert model["pipeline_tag"] == "unconditional-image-generation"
    data = front(dataset_card.write_dataset_card(sampled[0].parent, run, sampled))
    assert data["license"] == "cc-by-sa-3.0"
    assert data["size_categories"] == ["n<1K"]
    assert "synthetic" in data["tags"]
    assert data["pretty_name"] == "Synthetic brain MRI, 4 volumes of pca-gaussian"


def test_settings_are_named_where_they_differ_from_the_preset(run):
    """pca-gaussian has no preset, so its defaults stand in: the seed, the share and the grid."""
    text = model_card.write_model_card(run).read_text(encoding="utf-8")
    section = text.split("## Settings that differ from the preset")[1].split("\n## ")[0]
    changed = {line.split(" | ")[0].strip("| ") for line in section.splitlines() if " | " in line}
    assert changed == {"setting", "space", "seed", "variance"}
    assert "| variance | 0.99 | 0.7 |" in section


def test_a_preset_of_another_version_leaves_all_settings_shown(run):
    run.write_config({**run.config, "preset": "of-yesterday"})
    text = model_card.write_model_card(run).read_text(encoding="utf-8")
    assert cells(text.split("## Settings")[1])["intensity"] == "percentile"


def test_logs_are_read_as_means_and_last_rows(run):
    """Losses 1 to 300: the mean of the first hundred is 50.5, of the last 250.5."""
    rows = "".join(f"{i},{i},0\n" for i in range(1, 301))
    (run.folder / "loss.csv").write_text("step,loss,seconds\n" + rows, encoding="utf-8")
    (run.folder / "validation.csv").write_text(
        "step,epoch,0%-20%\n10,1,0.5\n20,2,0.25\n", encoding="utf-8"
    )
    text = model_card.write_model_card(run).read_text(encoding="utf-8")
    assert "50.5 over the first 100 steps, 250.5 over the last" in text
    assert "step: 20; epoch: 2; 0%-20%: 0.25" in text


def test_a_card_is_the_same_bytes_from_the_same_record(run, tmp_path):
    first = model_card.write_model_card(run).read_bytes()
    assert model_card.write_model_card(run).read_bytes() == first
    assert model_card.write_model_card(make_run(tmp_path / "again")).read_bytes() == first


def test_a_generator_that_fits_at_once_has_no_steps_to_tell(tmp_path):
    run = make_run(
        tmp_path / "run", steps=None, processes=None, device=None, parameters=None, energy=None,
        gpu_hours=0.0, sources=[], subgroups={},
    )  # fmt: skip
    given = run.record
    for key in ("steps", "processes", "device", "parameters", "energy", "accepted", "environment"):
        del given[key]
    (run.folder / "run.json").write_text(json.dumps(given), encoding="utf-8")
    table = cells(model_card.write_model_card(run).read_text(encoding="utf-8"))
    assert not {"optimizer steps", "parameters", "GPU hours", "hardware"} & set(table)
    assert table["electricity"] == "not measured"


# ---------------------------------------------------------------- whose words they are


def test_terms_of_a_restricted_cohort_are_carried_over(tmp_path):
    run = make_run(tmp_path / "run", sources=[ADNI])
    card = model_card.write_model_card(run)
    assert front(card)["license"] == "other"
    assert front(card)["license_name"] == "adni-data-use-agreement"
    assert ADNI["terms"] in card.read_text(encoding="utf-8")
    assert "Pass on neither" in card.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "unnamed", [[], [{**OPEN, "licence": ""}]], ids=["no source", "no licence"]
)
def test_a_licence_that_nobody_names_is_unknown(tmp_path, unnamed):
    card = model_card.write_model_card(make_run(tmp_path / "run", sources=unnamed))
    assert front(card)["license"] == "unknown"
    assert "Licence: unknown: no dataset_description.json" in card.read_text(encoding="utf-8")


def test_an_open_licence_beside_a_restricted_one_opens_nothing(tmp_path):
    card = model_card.write_model_card(make_run(tmp_path / "run", sources=[OPEN, ADNI]))
    assert front(card)["license"] == "other"
    assert "Pass on neither" in card.read_text(encoding="utf-8")


def test_the_embedded_cohort_is_nobodys_data(tmp_path):
    cohort = {"fingerprint": "cd" * 32, "n": 64, "subjects": 64, "embedded": True}
    card = model_card.write_model_card(make_run(tmp_path / "run", cohort=cohort, sources=[]))
    assert front(card)["license_name"] == "icbm-152-template"
    assert "no person's data" in card.read_text(encoding="utf-8")


def test_what_only_a_person_knows_is_marked(run):
    """Who made it, under what licence, and the scores that nobody has taken."""
    text = model_card.write_model_card(run).read_text(encoding="utf-8")
    sections = ("Made by", "Licence and terms of use", "Known limits")
    assert all(
        "**To be filled in:**" in text.split(f"## {one}")[1].split("\n## ")[0] for one in sections
    )


# ---------------------------------------------------------------- what they never say


def test_no_path_is_shown(run, sampled):
    run.write_config({**run.config, "init": "/data/secret/run", "variance": "/data/secret/x"})
    for card in (
        model_card.write_model_card(run),
        dataset_card.write_dataset_card(sampled[0].parent, run, sampled),
    ):
        assert "secret" not in card.read_text(encoding="utf-8")
        assert str(run.folder) not in card.read_text(encoding="utf-8")


def test_other_peoples_words_are_text_and_nothing_else(tmp_path):
    """Tags, links, code, tables, headings and rules of a hostile name are shown, not obeyed."""
    groups = {"site": {HOSTILE: 70}}
    hostile = {"name": HOSTILE, "licence": HOSTILE, "terms": HOSTILE, "url": HOSTILE}
    card = model_card.write_model_card(
        make_run(tmp_path / "run", sources=[hostile], subgroups=groups)
    )
    text = card.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "[x](" not in text
    assert "\\[x\\]" in text
    assert "\n# H1" not in text
    assert "@somebody" not in text
    assert "\u202e" not in text
    assert all(line.count(" | ") <= 2 for line in text.splitlines() if line.startswith("| "))
    assert set(front(card)) <= {"license", "license_name", "library_name", "pipeline_tag", "tags"}


# ---------------------------------------------------------------- cards that people edited


def test_an_untouched_card_is_renewed_and_an_edited_one_is_kept(run):
    said: list[str] = []
    card = model_card.write_model_card(run, log=said.append)
    run.update(steps=1234)
    assert "1,234" in model_card.write_model_card(run, log=said.append).read_text(encoding="utf-8")
    assert not said
    edited = card.read_text(encoding="utf-8").replace("who made", "It was me who made")
    card.write_text(edited, encoding="utf-8")
    assert model_card.write_model_card(run, log=said.append) == card
    assert card.read_text(encoding="utf-8") == edited
    assert "has been edited and is kept" in said[0]


@pytest.mark.parametrize("content", [b"# My own page\n", b"", b"\xff\xfe"])
def test_a_page_of_somebody_elses_is_kept(run, content):
    (run.folder / "README.md").write_bytes(content)
    model_card.write_model_card(run)
    assert (run.folder / "README.md").read_bytes() == content


def test_words_after_the_marker_are_an_edit_too(run):
    card = model_card.write_model_card(run)
    with card.open("a", encoding="utf-8") as file:
        file.write("and I add this\n")
    model_card.write_model_card(run)
    assert card.read_text(encoding="utf-8").endswith("and I add this\n")


def test_line_endings_that_version_control_changed_are_no_edit(run):
    card = model_card.write_model_card(run)
    written = card.read_bytes()
    card.write_bytes(written.replace(b"\n", b"\r\n"))
    assert model_card.write_model_card(run).read_bytes() == written
