from __future__ import annotations

from pathlib import Path

import pytest

from synthbench.records.protocol import ExtractorRecord, GridRecord
from synthbench.records.scorecard import Scorecard
from synthbench.report.citation import cite, escaped

ENTRIES = Path(__file__).parents[1] / "data" / "ixi-hh-4mm" / "entries"


@pytest.fixture(scope="module")
def card():
    return Scorecard.load(ENTRIES / "memorizer.json")


def test_a_row_holds_values_intervals_and_the_floor(card):
    """MMD² and KID of memorizer.json to three digits; FID's interval is conditional on n."""
    comment, entry, floor, note = cite(card).row.splitlines()
    titles, cells = comment.removeprefix("% ").split(" & "), entry.split(" & ")
    row = dict(zip(titles, cells, strict=True))
    assert (row["entry"], row["n"], row["m"]) == ("memorizer", "71", "70")
    mmd = card.row("mmd2")
    assert row[r"MMD\textsuperscript{2} (RBF)"] == (
        f"{mmd.value:.3g} [{mmd.interval.low:.3g}, {mmd.interval.high:.3g}]"
    )
    assert row["FID (71 real, 70 synth)"].endswith(r"\textdagger{}")
    assert entry.endswith(r" \\")
    assert floor.startswith("real vs real (floor) & 35 & 35 & $-$0.000744")
    assert note.startswith("% ")


def test_the_paragraph_names_every_field_of_the_protocol(card):
    """Each leaf of the protocol is there as it is printed (floats to six digits), escaped."""
    text = cite(card).methods

    def leaves(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key != "version":
                    yield from leaves(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from leaves(inner)
        elif value is not None:
            yield value

    fields = card.protocol.model_dump(mode="json")
    del fields["space"]["shape"], fields["mask"]["sha256"], fields["level"]
    fields["space"]["affine"] = fields["space"]["affine"][:12]
    for leaf in leaves(fields):
        words = f"{leaf:.6g}" if isinstance(leaf, float) else str(leaf)
        assert escaped(words) in text, words
    for words in ("48 x 56 x 48 at 4 mm", card.protocol.mask.sha256[:12], "95", card.protocol.hash):
        assert words in text


def test_an_extractors_own_grid_is_named(card):
    grid = GridRecord(shape=(9, 8, 7), affine=(2.5, *[0.0] * 15))
    record = ExtractorRecord(name="own", weights_sha256=None, preprocessing="p", layer="l",
                             dim=3, grid=grid)  # fmt: skip
    protocol = card.protocol.model_copy(update={"extractors": (record,)})
    text = cite(card.model_copy(update={"protocol": protocol})).methods
    assert "(9, 8, 7)" in text
    assert "2.5" in text
    assert "no weights" in text


def test_the_checklist_ticks_what_is_there_and_leaves_the_rest(card):
    lines = cite(card).checklist.splitlines()
    assert f"- [x] protocol hash: {card.protocol_hash}" in lines
    assert "- [ ] training seeds, 3 or more to speak of a method: 1" in lines
    copies = next(line for line in lines if "copies of training" in line)
    assert copies.startswith("- [x]")
    bare = card.model_copy(
        update={"memorization": (), "benchmark": None, "not_assessed": "not assessed: no --train"}
    )
    unticked = [line for line in cite(bare).checklist.splitlines() if line.startswith("- [ ]")]
    assert any("frozen benchmark: none" in line for line in unticked)
    assert any("not assessed: no --train" in line for line in unticked)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("50% a_b & c", r"50\% a\_b \& c"),
        ("\\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a\n\\\\[2cm]", r"a \textbackslash{}\textbackslash{}{[}2cm{]}"),
        ("$x^2$ #1 ~", r"\$x\textasciicircum{}2\$ \#1 \textasciitilde{}"),
        ("\u202eevil\x00", "evil"),
        ("<b>|", r"\textless{}b\textgreater{}\textbar{}"),
    ],
)
def test_names_cannot_break_latex(card, name, printed):
    row = cite(card.model_copy(update={"name": name})).row
    assert row.splitlines()[1].startswith(f"{printed} & ")


def test_names_cannot_break_the_checklist(card):
    software = {"<script>": "x\n- [x] forged"}
    text = cite(card.model_copy(update={"software": software})).checklist
    assert "<script>" not in text
    assert "\n- [x] forged" not in text


def test_the_text_is_all_three_and_the_same_each_time(card):
    found = cite(card)
    assert found.text == cite(card).text
    for part in (found.row, found.methods, found.checklist):
        assert part in found.text
