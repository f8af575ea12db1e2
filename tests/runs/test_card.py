"""Cards: what they say, what they never say, and that nobody's words are written over."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from synthbench.cohorts import disclosure, provenance
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, UsageError
from synthbench.runs import dataset_card, licence, model_card
from synthbench.runs.folder import Run

WEIGHTS = "ab" * 32
HOSTILE = "<script>alert(1)</script> [x](javascript:y) | `z` *b*\n---\n# H1 @somebody \u202eabc"
ADNI = {
    "name": "ADNI, prepared",
    "licence": "ADNI data use agreement",
    "terms": "Nothing at the level of a participant may be passed on.",
    "url": "https://ida.loni.usc.edu",
}
OPEN = {"name": "IXI", "licence": "CC BY-SA 3.0", "terms": "", "url": ""}


def make_run(folder, **record):
    """A finished run of pca-gaussian, as training writes it; no network is loaded."""
    run = Run(folder)
    folder.mkdir(exist_ok=True)
    run.write_config(
        {
            "generator": "pca-gaussian", "preset": None, "real": "/data/secret/train.tsv",
            "space": {"shape": [4, 4, 4], "spacing": None}, "intensity": "percentile",
            "seed": 3, "variance": 0.7,
        }
    )  # fmt: skip
    given = {
        "generator": "pca-gaussian", "finished": True,
        "cohort": {"fingerprint": "cd" * 32, "n": 70, "subjects": 68, "embedded": False},
        "sources": [OPEN],
        "subgroups": {"age": {"20 to 29": 40, "30 to 39": 28}, "sex": {"F": 68}},
        "space": {"shape": [4, 4, 4], "affine": [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1]},
        "accepted": ["background"], "initialised_from": None, "weights_sha256": WEIGHTS,
        "environment": {
            "python": "3.11.7", "cpus": 2, "gpus": ["A100", "A100"],
            "packages": {"synthbench": "0.1.0", "torch": "2.13.0"},
        },
        "training_seconds": 5400.0, "steps": 700, "processes": 4, "device": "cuda",
        "parameters": 47_500_000, "gpu_hours": 6.0,
        "energy": {"kwh": 1.25, "methods": ["codecarbon 3: RAPL counters"]},
    }  # fmt: skip
    run.update(**{**given, **record})
    return run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def sampled(tmp_path):
    """Volumes of seeds 0 to 2 and 7, with their sidecars, that took 2, 3, 4 and 5 seconds."""
    out = tmp_path / "synth"
    out.mkdir()
    files = []
    for seed, seconds in ((0, 2.0), (1, 3.0), (2, 4.0), (7, 5.0)):
        files.append(out / f"synth-{seed:06d}.nii.gz")
        sidecar = {
            "seed": seed, "seconds": seconds, "sampler": "ddim", "steps": 25,
            "weights_sha256": WEIGHTS, "cleaned": None,
        }  # fmt: skip
        files[-1].with_name(f"synth-{seed:06d}.json").write_text(json.dumps(sidecar))
    return files


def front(card):
    """The YAML front matter, found as hubs find it: between the first two lines of dashes."""
    start, head, _ = card.read_text().split("---\n", 2)
    assert start == ""
    return yaml.safe_load(head)


def cells(text):
    """The two-column tables of a card."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1] for line in lines if len(line) == 2}


# ---------------------------------------------------------------- what a card says


@pytest.mark.parametrize(
    ("sources", "word"),
    [([OPEN], "cc-by-sa-3.0"), ([ADNI], "adni-data-use-agreement"), ([], None),
     ([OPEN, ADNI], "adni-data-use-agreement-and-cc-by-sa-3.0")],
)  # fmt: skip
def test_samples_are_bound_by_the_terms_of_the_training_scans(tmp_path, sources, word):
    assert licence.licence(make_run(tmp_path / "run", sources=sources).record) == word


def test_a_model_card_tells_how_it_was_made(run):
    text = model_card.write_model_card(run).read_text()
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
    text = model_card.write_model_card(run).read_text()
    section = text.split("## Settings that differ from the preset")[1].split("\n## ")[0]
    changed = {line.split(" | ")[0].strip("| ") for line in section.splitlines() if " | " in line}
    assert changed == {"setting", "space", "seed", "variance"}
    assert "| variance | 0.99 | 0.7 |" in section


def test_a_preset_of_another_version_leaves_all_settings_told(run):
    run.write_config({**run.config, "preset": "of-yesterday"})
    text = model_card.write_model_card(run).read_text()
    assert cells(text.split("## Settings")[1])["intensity"] == "percentile"


def test_a_dataset_card_tells_seeds_sampler_and_seconds(run, sampled):
    """Of 2, 3, 4 and 5 s the median is 3.5."""
    table = cells(dataset_card.write_dataset_card(sampled[0].parent, run, sampled).read_text())
    assert table["seeds"] == "0 to 2, 7"
    assert (table["sampler"], table["denoising steps"]) == ("ddim", "25")
    assert table["a volume"] == "median 3.5 s, from 2 to 5 s"
    assert "cleaned" not in table


def test_logs_are_read_as_means_and_last_rows(run):
    """Losses 1 to 300: the mean of the first hundred is 50.5, of the last 250.5."""
    rows = "".join(f"{i},{i},0\n" for i in range(1, 301))
    (run.folder / "loss.csv").write_text("step,loss,seconds\n" + rows)
    (run.folder / "validation.csv").write_text("step,epoch,0%-20%\n10,1,0.5\n20,2,0.25\n")
    text = model_card.write_model_card(run).read_text()
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
    (run.folder / "run.json").write_text(json.dumps(given))
    table = cells(model_card.write_model_card(run).read_text())
    assert not {"optimizer steps", "parameters", "GPU hours", "hardware"} & set(table)
    assert table["electricity"] == "not measured"


# ---------------------------------------------------------------- whose words they are


def test_terms_of_a_restricted_cohort_are_carried_over(tmp_path):
    run = make_run(tmp_path / "run", sources=[ADNI])
    card = model_card.write_model_card(run)
    assert front(card)["license"] == "other"
    assert front(card)["license_name"] == "adni-data-use-agreement"
    assert ADNI["terms"] in card.read_text()
    assert "pass on neither" in card.read_text()


@pytest.mark.parametrize(
    "unnamed", [[], [{**OPEN, "licence": ""}]], ids=["no source", "no licence"]
)
def test_a_licence_that_nobody_names_is_unknown(tmp_path, unnamed):
    card = model_card.write_model_card(make_run(tmp_path / "run", sources=unnamed))
    assert front(card)["license"] == "unknown"
    assert "Licence: unknown: no dataset_description.json" in card.read_text()


def test_an_open_licence_beside_a_restricted_one_opens_nothing(tmp_path):
    card = model_card.write_model_card(make_run(tmp_path / "run", sources=[OPEN, ADNI]))
    assert front(card)["license"] == "other"
    assert "pass on neither" in card.read_text()


def test_the_embedded_cohort_is_nobodys_data(tmp_path):
    cohort = {"fingerprint": "cd" * 32, "n": 64, "subjects": 64, "embedded": True}
    card = model_card.write_model_card(make_run(tmp_path / "run", cohort=cohort, sources=[]))
    assert front(card)["license_name"] == "icbm-152-template"
    assert "no person's data" in card.read_text()


def test_what_only_a_person_knows_is_marked(run):
    """Who made it, under what licence, and the scores that nobody has taken."""
    text = model_card.write_model_card(run).read_text()
    sections = ("Made by", "Licence and terms of use", "Known limits")
    assert all(
        "**To be filled in:**" in text.split(f"## {one}")[1].split("\n## ")[0] for one in sections
    )


# ---------------------------------------------------------------- what they never say


def test_no_path_is_told(run, sampled):
    run.write_config({**run.config, "init": "/data/secret/run", "variance": "/data/secret/x"})
    for card in (
        model_card.write_model_card(run),
        dataset_card.write_dataset_card(sampled[0].parent, run, sampled),
    ):
        assert "secret" not in card.read_text()
        assert str(run.folder) not in card.read_text()


def test_other_peoples_words_are_text_and_nothing_else(tmp_path):
    """Tags, links, code, tables, headings and rules of a hostile name are shown, not obeyed."""
    groups = {"site": {HOSTILE: 70}}
    hostile = {"name": HOSTILE, "licence": HOSTILE, "terms": HOSTILE, "url": HOSTILE}
    card = model_card.write_model_card(
        make_run(tmp_path / "run", sources=[hostile], subgroups=groups)
    )
    text = card.read_text()
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
    assert "1,234" in model_card.write_model_card(run, log=said.append).read_text()
    assert not said
    edited = card.read_text().replace("who made", "It was me who made")
    card.write_text(edited)
    assert model_card.write_model_card(run, log=said.append) == card
    assert card.read_text() == edited
    assert "has been edited and is kept" in said[0]


@pytest.mark.parametrize("content", [b"# My own page\n", b"", b"\xff\xfe"])
def test_a_page_of_somebody_elses_is_kept(run, content):
    (run.folder / "README.md").write_bytes(content)
    model_card.write_model_card(run)
    assert (run.folder / "README.md").read_bytes() == content


def test_words_after_the_marker_are_an_edit_too(run):
    card = model_card.write_model_card(run)
    with card.open("a") as file:
        file.write("and I add this\n")
    model_card.write_model_card(run)
    assert card.read_text().endswith("and I add this\n")


def test_line_endings_that_version_control_changed_are_no_edit(run):
    card = model_card.write_model_card(run)
    written = card.read_bytes()
    card.write_bytes(written.replace(b"\n", b"\r\n"))
    assert model_card.write_model_card(run).read_bytes() == written


# ---------------------------------------------------------------- volumes that do not fit


def test_volumes_must_be_of_the_run(run, sampled):
    out = sampled[0].parent
    with pytest.raises(UsageError, match="at least one volume"):
        dataset_card.write_dataset_card(out, run, [])
    run.update(weights_sha256="0" * 64)
    with pytest.raises(UsageError, match="sampled from weights abababababab, the run has 000"):
        dataset_card.write_dataset_card(out, run, sampled)
    sampled[0].with_name("synth-000000.json").unlink()
    with pytest.raises(UsageError, match=r"has no sidecar synth-000000\.json"):
        dataset_card.write_dataset_card(out, run, sampled)


# ---------------------------------------------------------------- counts and terms of a cohort


def cohort_of(make_cohort, **columns):
    """A cohort of as many one-volume subjects as the columns are long."""
    n = len(next(iter(columns.values())))
    cohort = read_cohort(make_cohort("people", n=n, shape=(8, 8, 8)))
    people = sorted(entry.subject for entry in cohort.entries)
    return replace(cohort, participants=pd.DataFrame(columns, index=people))


def test_subjects_are_counted_once_by_age_band_sex_and_site(make_cohort):
    """Twelve people: five in their twenties, seven from ninety on."""
    cohort = cohort_of(
        make_cohort,
        age=[20, 21, 25, 29, 29.9, 90, 91, 95, 99, 100, 101, 102],
        sex=["F"] * 6 + ["M"] * 6,
        site=["A"] * 7 + [None] * 5,
        income=range(12),
    )
    assert disclosure.subgroups(cohort) == {
        "age": {"20 to 29": 5, "90 and over": 7},
        "sex": {"F": 6, "M": 6},
        "site": {"A": 7, "not known": 5},
    }
    twice = replace(cohort, entries=cohort.entries * 2)
    assert disclosure.subgroups(twice) == disclosure.subgroups(cohort)


def test_a_cohort_without_a_table_has_no_counts(make_cohort):
    assert disclosure.subgroups(read_cohort(make_cohort("people", n=2, shape=(8, 8, 8)))) == {}


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"F": 40, "M": 30}, {"F": 40, "M": 30}),
        # 72 - 70 would give the two away: the next smallest count is hidden too.
        ({"A": 40, "B": 30, "C": 2}, {"A": 40, "B": "5 or more", "C": "<5"}),
        # Of 6 in all, "5 or more" and "<5" can only be 5 and 1: nothing is shown.
        ({"F": 5, "M": 1}, {}),
        # With B alone hidden, C would have to be 1 as well; with A too, it need not.
        ({"A": 20, "B": 5, "C": 1}, {"A": "5 or more", "B": "5 or more", "C": "<5"}),
        # The least of the coarsened is known to be at most 5: C would be 4.
        ({"A": 5, "B": 5, "C": 4}, {"A": "5 or more", "B": "5 or more", "C": "<5"}),
        ({"A": 1, "B": 1}, {}),
    ],
)
def test_nobody_can_be_singled_out(counts, shown):
    assert disclosure._hidden(counts) == shown


def test_what_is_hidden_could_be_anything():
    """Whoever knows the total and the rule still finds each small count possible from 1 to 4.

    For all triples of counts up to 12, every way to fill the hidden ones is enumerated: the small
    with 1 to 4, the coarsened with 5 to the least that is told, the sum as the total leaves it.
    """
    for triple in itertools.product(range(1, 13), repeat=3):
        given = disclosure._hidden(dict(zip("abc", triple, strict=True))).values()
        hidden = [cell for cell in given if isinstance(cell, str)]
        shown = [cell for cell in given if isinstance(cell, int)]
        most = min(shown, default=sum(triple))
        values = [range(1, 5) if cell == "<5" else range(5, most + 1) for cell in hidden]
        left = sum(triple) - sum(shown)
        fillings = [filling for filling in itertools.product(*values) if sum(filling) == left]
        for place, cell in enumerate(hidden):
            if cell == "<5":
                assert {filling[place] for filling in fillings} == {1, 2, 3, 4}, triple


def test_datasets_are_asked_for_their_terms(make_cohort, tmp_path):
    folder = make_cohort("prepared", n=2, shape=(8, 8, 8))
    cohort = read_cohort(folder)
    assert provenance.sources(cohort) == [{"name": "", "licence": "", "terms": "", "url": ""}]
    described = {"Name": "P", "License": "CC0", "SourceDatasets": [{"URL": "https://a.b"}]}
    (folder / "dataset_description.json").write_text(json.dumps(described))
    (folder / "DATA_USE_TERMS.txt").write_text("Keep it.\n")
    assert provenance.sources(cohort) == [
        {"name": "P", "licence": "CC0", "terms": "Keep it.\n", "url": "https://a.b"}
    ]
    (folder / "dataset_description.json").write_text("{")
    with pytest.raises(CohortError, match="not valid JSON"):
        provenance.sources(cohort)
