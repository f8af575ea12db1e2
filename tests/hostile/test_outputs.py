"""The same poisoned names, pushed through every output there is.

Each is read back by a program that is not synthbench: markdown-it, an HTML parser, an XML parser,
csv, YAML. Where the structure that it finds is that of the same page with a harmless name, the
name was text and nothing else.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from functools import cache
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt
from rich.console import Console

from synthbench.cli import console
from synthbench.drift.drift import drift
from synthbench.drift.history import history
from synthbench.drift.history_output import (
    comment,
    history_page,
    history_table,
    references_of,
)
from synthbench.drift.output import drift_table, junit, workflow_commands
from synthbench.leaderboard import page as board_page
from synthbench.leaderboard.board import Board
from synthbench.leaderboard.html import leaderboard_report
from synthbench.records.scorecard import PreflightRecord, Scorecard
from synthbench.records.values import Missing
from synthbench.render import delimited, svg
from synthbench.render.montage import montage
from synthbench.render.terminal import Table, Text
from synthbench.report.cards.cards import CARDS
from synthbench.report.citation import cite
from synthbench.report.html import report
from synthbench.report.text import scorecard_table
from synthbench.runs import model_card
from synthbench.runtime.progress import bar
from synthbench.runtime.text import for_every_locale, in_figure, one_line
from synthbench.volumes.grid import Space
from tests.boards import make_board, make_verdict
from tests.command_line import run
from tests.drift.cards import runs_of, with_values
from tests.hostile.poison import POISON, commands
from tests.render.latex_text import structure_of_latex
from tests.runs.conftest import make_run

HARMLESS = "plain"


def poisoned(card: Scorecard, name: str, *, missing: int | None = 1) -> Scorecard:
    """A card whose every name is this one; its protocol has the hash of what it holds."""
    p = card.protocol
    extractors = tuple(
        e.model_copy(update={"layer": name, "preprocessing": name}) for e in p.extractors
    )
    protocol = p.model_copy(
        update={
            "extractors": extractors,
            "mask": p.mask.model_copy(update={"rule": name}),
            "space": p.space.model_copy(update={"scaling": name}),
        }
    )
    why = Missing(reason="weights", text=name)
    values = tuple(
        v.model_copy(update={"label": name, "missing": why if i == missing else v.missing,
                             "value": None if i == missing else v.value})
        for i, v in enumerate(card.values)
    )  # fmt: skip
    found = PreflightRecord(rule=name, role=name, severity="error", volumes=1, accepted=True)
    return card.model_copy(
        update={
            "name": name, "protocol": protocol, "protocol_hash": protocol.hash, "values": values,
            "benchmark": name, "not_assessed": name, "notes": (name,), "preflight": (found,),
            "origin": card.origin.model_copy(
                update={"generator": name, "sampler": name, "steps": 3, "licence": name}
            ),
            "software": {"synthbench": name, name: name}, "created": name,
            "utility": make_verdict(sentence=name, model=name, label=name),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    folder, _ = make_board(tmp_path_factory.mktemp("board") / "b", {"near": 0.1, "far": 0.6})
    card = Scorecard.load(folder / "entries" / "near.json")
    values = tuple(value.model_copy(update={"magnitude": 1.0}) for value in card.values)
    return card.model_copy(update={"values": values})


def terminal(*renderables) -> str:
    """What a console of Rich shows, with markup on, as it is by default."""
    text = io.StringIO()
    Console(file=text, width=400).print(*renderables)
    return text.getvalue()


class Tags(HTMLParser):
    """The tags of a page with their attributes, and where links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))


def structure_of_markdown(text: str) -> list[str]:
    """The sequence of block and inline tokens of a page, as GitHub's markdown has them."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found = []
    for token in parser.parse(text):
        found.append(token.type)
        # Text comes in pieces; code is text too.
        found += [
            t.type for t in token.children or ()
            if t.type not in ("text", "code_inline", "softbreak", "html_inline")
        ]  # fmt: skip
        found += [t.content for t in token.children or () if t.type == "html_inline"]
    return [kind for kind in found if kind not in ("<code>", "</code>")]


@pytest.mark.parametrize("name", POISON)
def test_terminal(name, card, capsys, monkeypatch):
    bad = poisoned(card, name)
    text = terminal(scorecard_table(bad), Text(name), Text(f"x {name}"))
    table = Table(name, "b")
    table.add_row(name, name)
    text += terminal(
        table, drift_table(drift(card, poisoned(with_values(card, 0.01), name, missing=None)))
    )
    assert commands(text.replace("::", "").replace("##[", "")) == []
    assert one_line(name).strip() in text  # brackets are no markup: the name is there whole
    console.show(table)
    console.log(f"{name}: a file")
    console.complain(f"error: {name}")
    console.say(name)
    console.print_json({"a": name})
    with bar(name) as advance:
        advance(1, 2, name)
    for_every_locale()
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.makeLogRecord({"msg": "%s", "args": (name,)}))
    out, err = capsys.readouterr()
    assert commands(out) == []
    assert commands(err) == []
    with bar(name, console=Console(file=io.StringIO(), force_terminal=True)) as advance:
        advance(1, 2, name)


@pytest.mark.parametrize("name", POISON)
def test_workflow_commands_and_junit(name, card):
    moved = with_values(card, 0.01)
    found, harmless = (
        drift(card, poisoned(moved, words, missing=None)) for words in (name, HARMLESS)
    )
    lines = workflow_commands(found)
    assert len(lines) == len(workflow_commands(harmless))
    for line in lines:
        assert re.match(r"::(error|warning) title=synthbench drift::", line)
        assert commands(line.partition("drift::")[2].replace("::", "")) == []
    assert len(list(ET.fromstring(junit(found)).iter())) == len(
        list(ET.fromstring(junit(harmless)).iter())
    )


@pytest.mark.parametrize("name", POISON)
def test_a_history(name, card):
    """A page, a comment, a table and annotations of many runs, and of cards that are left out."""

    def written(words):
        runs = [
            (words, one) for _, one in runs_of(poisoned(card, words, missing=None),
                                               {"mmd2": [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 99, 99]})
        ]  # fmt: skip
        real = card.real.model_copy(update={"fingerprint": words})
        left_out = runs[0][1].model_copy(update={"real": real})
        found = history([(words, left_out), *runs])
        newest = runs[-1][1]
        references = references_of(runs, found)
        return found, history_page(found), comment(found, newest, references)

    found, page, text = written(name)
    harmless, plain_page, plain_text = written(HARMLESS)
    assert found.left_out
    assert Tags(page).found == Tags(plain_page).found
    assert structure_of_markdown(text) == structure_of_markdown(plain_text)
    assert commands(terminal(history_table(found)).replace("::", "").replace("##[", "")) == []
    assert len(workflow_commands(found)) == len(workflow_commands(harmless))
    assert len(list(ET.fromstring(junit(found)).iter())) == len(
        list(ET.fromstring(junit(harmless)).iter())
    )


@pytest.fixture(scope="module")
def board_of(tmp_path_factory):
    """Return a function that renders a benchmark whose every name is one string."""
    folder, _ = make_board(tmp_path_factory.mktemp("poison") / "b", {"near": 0.1, "far": 0.6})
    benchmark = Board.read(folder).benchmark
    cards = {file: Scorecard.load(file) for file in sorted((folder / "entries").glob("*.json"))}

    def render(name):
        for file, card in cards.items():
            bad = poisoned(card, name)
            bad.save(file)
        (folder / "benchmark.yaml").unlink()
        benchmark.model_copy(update={"name": name, "protocol": bad.protocol}).save(folder)
        pictures = board_page.render_pictures(folder)
        page = board_page.render_leaderboard(folder) + board_page.render_details(folder)
        return page, pictures, leaderboard_report(folder)

    return cache(render)


@pytest.mark.parametrize("name", POISON)
def test_the_leaderboard(name, board_of):
    page, pictures, html = board_of(name)
    harmless, drawn, tags = board_of(HARMLESS)
    assert structure_of_markdown(page) == structure_of_markdown(harmless)
    assert not re.search(r"(?<!`)http://evil", page)  # an address in code is no link
    # Pages and pictures are no logs: only their characters count.
    assert commands(page.replace("::", "").replace("##[", "")) == []
    assert Tags(html).found == Tags(tags).found
    assert [len(list(ET.fromstring(p).iter())) for p in pictures.values()] == [
        len(list(ET.fromstring(p).iter())) for p in drawn.values()
    ]
    drawn_all = "".join(pictures.values())
    assert commands(drawn_all.replace("::", "").replace("##[", "")) == []


@pytest.fixture(scope="module")
def report_of(card, tmp_path_factory):
    """Return a function that writes the report on a scorecard whose every name is one string."""
    file = tmp_path_factory.mktemp("report") / "card.json"

    def render(name):
        poisoned(card, name).save(file)
        return report([file])

    return cache(render)


@pytest.mark.parametrize("name", POISON)
def test_the_report(name, report_of):
    page = report_of(name)
    assert Tags(page).found == Tags(report_of(HARMLESS)).found
    assert commands(page.replace("::", "").replace("##[", "")) == []


@pytest.mark.parametrize("name", POISON)
def test_latex(name, card):
    cited, harmless = cite(poisoned(card, name)), cite(poisoned(card, HARMLESS))
    assert structure_of_latex(cited.text) == structure_of_latex(harmless.text)
    for text in (cited.table, cited.methods, cited.bibtex):
        assert text.isascii()
        assert commands(text.replace("::", "")) == []
    assert structure_of_markdown(cited.checklist) == structure_of_markdown(harmless.checklist)


@pytest.mark.parametrize("name", POISON)
def test_cards_of_checklists(name, card):
    bad, harmless = poisoned(card, name), poisoned(card, HARMLESS)
    for filled in CARDS.values():
        one, other = filled(bad), filled(harmless)
        assert structure_of_markdown(one.markdown) == structure_of_markdown(other.markdown)
        assert structure_of_latex(one.latex) == structure_of_latex(other.latex)


@pytest.mark.parametrize("name", POISON)
def test_cards(name, tmp_path):
    source = {"name": name, "licence": name, "terms": "x", "url": name}
    texts = []
    for words in (name, HARMLESS):
        source = {"name": words, "licence": words, "terms": "x", "url": words}
        made = make_run(
            tmp_path / f"run-{words == name}", sources=[source], subgroups={"site": {words: 70}}
        )
        texts.append(model_card.write_model_card(made).read_text(encoding="utf-8"))
    fronts = [yaml.safe_load(text.split("---\n")[1]) for text in texts]
    assert set(fronts[0]) <= set(fronts[1])
    assert commands(texts[0]) == []
    bodies = [structure_of_markdown(text.split("---\n", 2)[2]) for text in texts]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("name", POISON)
def test_tables_of_text(name):
    rows = list(
        csv.reader(io.StringIO(delimited.lines([[name, "b"], ["c", name]])), delimiter="\t")
    )
    table = pd.DataFrame({"participant_id": [name], name: ["x"], "n": [-1.5]})
    for separator in ("\t", ","):
        text = delimited.table_text(table, separator)
        assert commands(text.replace("::", "").replace("##[", "")) == []
        rows += csv.reader(io.StringIO(text), delimiter=separator)
        assert len(pd.read_csv(io.StringIO(text), sep=separator)) == 1
    assert [len(row) for row in rows] == [2, 2, 3, 3, 3, 3]
    cells = [cell for row in rows for cell in row if cell != "-1.5"]
    assert not any(re.match(r"[=@\t\r]|[+-]\S*[A-Za-z(|]", cell) for cell in cells)


@pytest.mark.parametrize("name", POISON)
def test_svg_and_figures(name):
    drawn = svg.picture(name, 9, 9, [svg.text(name, 1, 2, data_name=name)])
    (text,) = (e for e in ET.fromstring(drawn).iter() if e.tag.endswith("}text"))
    assert len(list(ET.fromstring(drawn))) == 2
    assert (text.text or "").strip() == (re.sub("", "", one_line(name)) if "\n" not in name and
                                         "\t" not in name and "\r" not in name else
                                         text.text or "").strip()  # fmt: skip
    assert in_figure(name).count("$") == in_figure(name).count("\\$")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_montage_of_any_name(tmp_path):
    space = Space.of((8, 8, 8), np.eye(4))
    volume = np.ones((8, 8, 8), dtype=np.float32)
    montage({name: [volume] for name in POISON}, space, tmp_path / "montage.png")


FILES = [name for name in POISON if "/" not in name and "\0" not in name]


def test_file_names_reach_no_terminal_as_they_are(make_cohort, tmp_path):
    """Every name at once, as the files of one folder, through the verbs that list files."""
    folder = make_cohort("some", n=len(FILES), shape=(8, 8, 8))
    signs = sys.getfilesystemencoding()  # what a locale lacks becomes a question mark
    for file, name in zip(sorted(folder.iterdir()), FILES, strict=True):
        file.rename(folder / f"{name.encode(signs, 'replace').decode(signs)}.nii.gz")
    (folder / "a\x1b[2J\n::error::x.nii.gz").write_bytes(b"no volume")
    outputs = [
        run("data", "info", folder),
        run("data", "info", folder, "--json"),
        run("data", "select", folder, "--list"),
        run("data", "info", folder / "\n::error::\x1b[31m"),
    ]
    for finished in outputs:
        assert "Traceback" not in finished.stderr
        for text in (finished.stdout, finished.stderr):
            assert commands(text) == []
    assert "sub-z[final].nii.gz" in outputs[0].stdout + outputs[0].stderr
    json.loads(outputs[1].stdout)


CELLS = [name for name in POISON if not set(name) & set("\0\r\n\t\u2028\u2029")]


def test_tables_of_participants_reach_no_terminal_as_they_are(make_cohort, tmp_path):
    """Ids, values and names of covariates, through reading, choosing and splitting."""
    folder = make_cohort("some", n=len(CELLS), shape=(8, 8, 8))
    quoted = ['"' + name.replace('"', '""') + '"' for name in CELLS]
    rows = ["\t".join(["path", "participant_id", "age", "site", *quoted[:5]])]
    for i, (file, name) in enumerate(zip(sorted(folder.iterdir()), quoted, strict=True)):
        person = f'{name[:-1]}p{i}"'  # ids that differ in signs only are one person
        rows.append("\t".join([f"some/{file.name}", person, str(20 + i % 9), name, *[name] * 5]))
    manifest = tmp_path / "people.tsv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    outputs = [
        run("data", "info", manifest),
        run("data", "info", manifest, "--json"),
        run("data", "select", manifest, "--list"),
        run("data", "select", manifest, "--out", tmp_path / "chosen.csv"),
        run("data", "select", manifest, "--where", "site == '\x1b[31m'", "--list"),
        run("data", "split", manifest, "--out", tmp_path / "split", "--by", "\n::error::"),
        run("data", "split", manifest, "--out", tmp_path / "split"),
    ]
    for finished in outputs:
        assert "Traceback" not in finished.stderr, finished.stderr
        for text in (finished.stdout, finished.stderr):
            assert commands(text) == []
    assert [finished.returncode for finished in outputs[2:4]] == [0, 0]
    assert outputs[-1].returncode == 0, outputs[-1].stderr
    for file in tmp_path.rglob("*.[ct]sv"):
        if file != manifest:
            for row in csv.reader(file.read_text(encoding="utf-8").splitlines()):
                assert not any(re.match(r"[=@]|[+-]\S*[A-Za-z(|]", cell) for cell in row)


def test_names_of_plugins(monkeypatch):

    from synthbench import registry
    from synthbench.errors import UsageError

    def load(kind, name):
        raise UsageError(f"{name} is broken")

    monkeypatch.setattr(registry, "names", lambda kind: dict.fromkeys(POISON, "x:y"))
    monkeypatch.setattr(registry, "load", load)
    for kind in ("generators", "metrics", "extractors", "layouts"):
        for options in ((), ("--json",)):
            finished = run("list", kind, *options)
            assert "Traceback" not in finished.stderr
            assert commands(finished.stdout + finished.stderr) == []


@pytest.mark.parametrize(
    ("field", "number"),
    [("value", "-1e308"), ("value", "5e-324"), ("low", "1e999"), ("high", "NaN")],
)
def test_absurd_numbers_are_shown_or_refused_by_name(field, number, tmp_path):
    board, _ = make_board(tmp_path / "b", {"near": 0.1, "far": 0.6})
    file = board / "entries" / "near.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(f'"{field}": [-0-9.e]+', f'"{field}": {number}', text), encoding="utf-8")
    for command in (("leaderboard", board), ("report", file, "--out", tmp_path / "r.html"),
                    ("cite", file), ("drift", file, board / "entries" / "far.json")):  # fmt: skip
        found = run(*command)
        assert "Traceback" not in found.stderr
        assert found.returncode in (0, 1) or f"{file}: " in found.stderr or command[0] == "drift"
