from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from synthbench import registry
from synthbench.records.protocol import ExtractorRecord, GridRecord
from synthbench.records.scorecard import Scorecard
from synthbench.render.latex import escaped
from synthbench.report.citation import cite
from synthbench.report.references import WORKS
from synthbench.report.wording import WORDS
from tests.command_line import run
from tests.hostile.poison import POISON
from tests.render.latex_text import structure_of_latex

ENTRIES = Path(__file__).parents[1] / "data" / "ixi-hh-4mm" / "entries"
DOCUMENT = r"""\documentclass{article}
\begin{document}
%s
\bibliographystyle{plain}
\bibliography{synthbench}
\end{document}
"""


@pytest.fixture(scope="module")
def card():
    return Scorecard.load(ENTRIES / "memorizer.json")


def rows_of(table):
    """The cells of each row, the header first."""
    return [
        re.split(r" (?<!\\)& ", line.removesuffix(r" \\"))
        for line in table.splitlines()
        if line.endswith(r" \\")
    ]


# ---------------------------------------------------------------- the table


def test_a_table_has_a_header_and_one_row_per_value_with_interval_and_floor(card):
    """MMD² of memorizer.json to three digits; FID's interval is conditional on n."""
    header, *rows = rows_of(cite(card).table)
    assert header == ["Metric", r"Value [95\% CI]", "Synthetic ($n=35$)", "Real vs real ($n=35$)",
                      "$p$"]  # fmt: skip
    by_label = {row[0]: row[1:] for row in rows}
    mmd = card.row("mmd2")
    assert by_label[r"MMD\textsuperscript{2} (RBF)"] == [
        f"{mmd.value:.3g} [{mmd.interval.low:.3g}, {mmd.interval.high:.3g}]",
        f"{mmd.floor.synth_mean:.3g}",
        "$-$0.000744 ($-$0.00944 to 0.0176)",
        r"\textless{}0.001",
    ]
    assert by_label["FID (71 real, 70 synth)"][0].endswith(r"\textdagger{}")
    assert r"\textdagger{} Sampling variability" in cite(card).table
    assert len(rows) == sum(row.tabled and row.role != "for_papers" for row in card.values)


# ---------------------------------------------------------------- the paragraph


def test_the_paragraph_names_every_field_of_the_protocol(card):
    """Each leaf is there, escaped: floats to six digits, hashes to twelve, formulas in words."""
    text = cite(card).methods.replace("$-$", "-")

    def leaves(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in ("version", "formula"):
                    yield from leaves(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from leaves(inner)
        elif value is not None:
            yield value

    fields = card.protocol.model_dump(mode="json")
    del fields["space"]["shape"], fields["level"]
    fields["space"]["affine"] = fields["space"]["affine"][:12]
    fields["extractors"][0]["weights_sha256"] = fields["extractors"][0]["weights_sha256"][:12]
    fields["mask"]["sha256"] = fields["mask"]["sha256"][:12]
    for leaf in leaves(fields):
        words = f"{leaf:.6g}" if isinstance(leaf, float) else str(leaf)
        assert escaped(words) in text, words
    for words in ("48 x 56 x 48 at 4 mm", r"95\%", card.protocol.hash):
        assert words in text
    for settings in card.protocol.settings.values():
        assert re.split("«.*?»", WORDS[settings["formula"]].text)[0] in cite(card).methods


@pytest.mark.parametrize("metric", registry.BUILT_IN["metrics"])
def test_every_formula_has_words_and_its_works_have_entries(metric):
    words = WORDS[registry.load("metrics", metric)().formula]
    assert set(words.cites) <= set(WORKS)
    structure_of_latex(words.text)


def test_a_formula_without_words_is_quoted_as_it_is(card):
    settings = {**card.protocol.settings, "mine": {"formula": "sum_i |x_i|^2", "k": 3}}
    intervals = {**card.protocol.intervals, "mine": "jackknife"}
    protocol = card.protocol.model_copy(update={"settings": settings, "intervals": intervals})
    text = cite(card.model_copy(update={"protocol": protocol})).methods
    assert r"\texttt{sum\_i \textbar{}x\_i\textbar{}\textasciicircum{}2} (k 3, jackknife" in text


def test_an_extractors_own_grid_is_named(card):
    grid = GridRecord(shape=(9, 8, 7), affine=(2.5, *[0.0] * 15))
    record = ExtractorRecord(name="own", weights_sha256=None, preprocessing="p", layer="l",
                             dim=3, grid=grid)  # fmt: skip
    protocol = card.protocol.model_copy(update={"extractors": (record,)})
    text = cite(card.model_copy(update={"protocol": protocol})).methods
    assert "9 x 8 x 7" in text
    assert "2.5" in text
    assert "without weights" in text


# ---------------------------------------------------------------- LaTeX as a whole


@pytest.mark.parametrize("file", sorted(ENTRIES.glob("*.json")), ids=lambda file: file.stem)
def test_the_whole_text_is_latex_and_every_reference_has_its_entry(file):
    found = cite(Scorecard.load(file))
    structure_of_latex(found.text)
    assert re.sub("(?m)^%.*", "", found.text).isascii()
    cited = {key for keys in re.findall(r"\\cite\{(.*?)\}", found.methods)
             for key in keys.split(",")}  # fmt: skip
    assert cited == set(re.findall(r"^@\w+\{(\w+),$", found.bibtex, re.MULTILINE))
    for part in (found.table, found.methods, found.bibtex):
        assert part in found.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["harmless", "poisoned"])
def test_a_compiler_takes_the_whole_text(card, name, tmp_path):
    """Pasted into an article, with BibTeX: no error, no reference without its entry."""
    compiler = next(filter(shutil.which, ("tectonic", "latexmk", "pdflatex")), None)
    if compiler is None:
        pytest.skip("no LaTeX compiler: neither tectonic nor latexmk nor pdflatex is installed")
    if name == "poisoned":
        names = " ".join((*POISON, "Müller ěščřžý 数据 ØÆł ß -- --- “x” ’ ² ± × –"))
        card = card.model_copy(update={"name": names, "benchmark": names})
    source = tmp_path / "paper.tex"
    source.write_text(DOCUMENT % cite(card).text, encoding="utf-8")
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    commands = {
        "tectonic": [["tectonic", "--keep-logs", "paper.tex"]],
        "latexmk": [["latexmk", "-pdf", *latex[1:]]],
        "pdflatex": [latex, ["bibtex", "paper"], latex, latex],
    }[compiler]
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode("utf-8", "replace")
    log = (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert "There were undefined" not in log
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("50% a_b & c", r"50\% a\_b \& c"),
        ("\\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a\n\\\\[2cm]", r"a \textbackslash{}\textbackslash{}{[}2cm{]}"),
        ("$x^2$ #1 ~", r"\$x\textasciicircum{}2\$ \#1 \textasciitilde{}"),
        ("\u202eevil\x00", "evil"),
        ("<b>|", r"\textless{}b\textgreater{}\textbar{}"),
        ("Łódź 数", r"\L{}\'{o}d\'{z} (U+6570)"),
        ("a--b", "a-{}-b"),
    ],
)
def test_names_cannot_break_latex(card, name, printed):
    table = cite(card.model_copy(update={"name": name})).table
    assert f"\\caption{{{printed}: 70 synthetic" in table


# ---------------------------------------------------------------- the checklist


def test_the_checklist_ticks_what_is_there_and_leaves_the_rest(card):
    lines = cite(card).checklist.splitlines()
    assert f"- [x] protocol hash: {card.protocol_hash}" in lines
    # `memorizer` draws nothing at random in its training; a network does.
    item = "training seeds, 3 or more to speak of a method"
    assert f"- [x] {item}: nothing in the training is random" in lines
    trained = card.origin.model_copy(update={"generator": "mine", "random_fit": True})
    assert (
        f"- [ ] {item}: 1"
        in cite(card.model_copy(update={"origin": trained})).checklist.splitlines()
    )
    copies = next(line for line in lines if "copies of training" in line)
    assert copies.startswith("- [x]")
    bare = card.model_copy(
        update={"memorization": (), "benchmark": None, "not_assessed": "not assessed: no --train"}
    )
    unticked = [line for line in cite(bare).checklist.splitlines() if line.startswith("- [ ]")]
    assert any("frozen benchmark: none" in line for line in unticked)
    assert any("not assessed: no --train" in line for line in unticked)


def test_names_cannot_break_the_checklist(card):
    software = {"<script>": "x\n- [x] forged"}
    text = cite(card.model_copy(update={"software": software})).checklist
    assert "<script>" not in text
    assert "\n- [x] forged" not in text


def test_the_command_prints_the_whole_text_or_its_parts(card):
    file = ENTRIES / "memorizer.json"
    assert run("cite", file).stdout == cite(card).text + "\n"
    parts = json.loads(run("cite", file, "--json").stdout)
    assert list(parts) == ["table", "methods", "bibtex", "checklist"]
    assert parts["table"] == cite(card).table
