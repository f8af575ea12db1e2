"""The report: what it says, that data cannot break out of it, and that a browser shows it."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from synthbench.cli.app import app
from synthbench.errors import ScorecardError, UsageError
from synthbench.leaderboard.html import leaderboard_report
from synthbench.leaderboard.ranking import compare
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing, Value
from synthbench.render.delimited import safe
from synthbench.report.html import render_report, report
from synthbench.report.standing import headline
from synthbench.sensitivity.curve import Curve, Floor, Row
from synthbench.sensitivity.read_back import Sensitivity
from tests.boards import make_board, make_verdict
from tests.report.pages import CHROMIUM, NO_CHROMIUM, Page, browse, pixels, text_of, voxels

pytestmark = pytest.mark.slow


def pictures_of(text):
    return [found for found in Page(text).tagged("figure") if "data-volume" in found]


def with_name(card, name):
    return card.model_copy(update={"name": name})


# ---------------------------------------------------------------- what it says


def test_a_scorecard_alone_gives_verdicts_and_names_what_is_missing(plain):
    words = text_of(plain)
    assert "This page holds aggregates only: no picture, no name of a volume." in words
    assert "permutation test on MMD² (RBF) by random-resnet10" in words
    for missing in ("--real DIR --synth DIR", "--sensitivity FILE"):
        assert missing in words
    for said in ("A value within the floor does not prove equality", "does not guarantee privacy"):
        assert said in words
    assert not Page(plain).tagged("img")


def test_the_numbers_are_those_of_the_table(card, plain):
    """The value of each row is in the page as `synthbench score` prints it."""
    from synthbench.render.numbers import number
    from synthbench.report.text import interval_words

    words = text_of(plain)
    for value in card.values:
        assert number(value.value) in words
        assert interval_words(value) in words
    assert card.protocol_hash in words


def test_the_protocol_can_be_copied_whole(card, plain):
    block = re.search(r'<pre tabindex="0" id="card-1-protocol">(.*?)</pre>', plain, re.S)
    assert block is not None
    assert json.loads(html.unescape(block[1])) == card.protocol.model_dump(mode="json")


def test_folders_add_pictures_neighbours_spectra_and_subgroups(full):
    words = text_of(full)
    for title in (
        "Examples", "The most typical synthetic volumes", "The least typical synthetic volumes",
        "Nearest to the training volumes", "Radial power spectrum", "Subgroups of the real cohort",
    ):  # fmt: skip
        assert title in words
    assert "sub-synth05.nii.gz synthetic; nearest at" in words
    # Three subjects of one site are hidden, and the others so that they cannot be subtracted.
    assert "<b>x <5 hidden" in words
    assert "<b>y" in words
    assert re.search(r"sex F 6 -?\d", words)


def test_pictures_of_people_are_announced_and_can_be_left_out(full, card_file, folders):
    assert "This page holds pictures of real people" in text_of(full)
    without = report(
        [card_file], real=folders["real"], synths=[folders["synth"]], train=folders["train"],
        real_volumes="hidden",
    )  # fmt: skip
    words = text_of(without)
    assert "not real people" in words
    assert "sub-real" not in words
    assert "sub-train" not in words
    assert len(pictures_of(without)) == 4 + 3 + 3 + 4
    # Each of the four synthetic examples is once more there, beside its nearest real volume.
    assert len(pictures_of(full)) == 8 + 3 + 3 + 8 + 8
    assert "the pictures of real volumes" in words
    for shown in ("Mean, real", "nearest real volume", 'class="dot real" d='):
        assert shown not in without.split("<script>")[0]
    assert "Mean, real" in full
    assert 'class="dot real" d=' in full


def test_the_slices_of_a_volume_are_in_the_page_once(full):
    """Those of the galleries, and the real neighbours that only the viewer shows."""
    page = Page(full)
    there = [f["id"] for f in page.tagged("img") if f.get("class") == "mosaic"]
    shown = {f["data-volume"] for f in pictures_of(full)}
    beside = {f["data-nearest"] for f in page.tagged("option") if "data-nearest" in f}
    assert sorted(there) == sorted(shown | beside)


def test_volumes_of_people_are_named_only_where_that_is_asked_for(full, card_file, folders):
    """Under a pseudonym, a training volume keeps one name in all galleries of a page."""
    words = text_of(full)
    assert not re.search("sub-real|sub-train", full)
    pseudonyms = set(re.findall(r"\breal-\d+", words))
    assert pseudonyms == {f"real-{i}" for i in range(1, len(pseudonyms) + 1)}
    assert set(re.findall(r"\btrain-\d+", words)) <= {f"train-{i}" for i in range(1, 5)}
    assert "train-1 its nearest training volume" in words
    named = report(
        [card_file], real=folders["real"], synths=[folders["synth"]], train=folders["train"],
        real_volumes="named",
    )  # fmt: skip
    assert len(set(re.findall(r"sub-real\d+", text_of(named)))) == len(pseudonyms)
    assert re.search(r"sub-train\d+\.nii\.gz its nearest", text_of(named))


def test_several_scorecards_share_axes_only_where_their_protocols_agree(card):
    """Two of one protocol stand on one axis; a third of another seed stands apart, and is named."""
    other = card.protocol.model_copy(update={"seed": 7})
    apart = card.model_copy(
        update={"name": "apart", "protocol": other, "protocol_hash": other.hash}
    )
    page = render_report([with_name(card, "one"), with_name(card, "two"), apart])
    words = text_of(page)
    assert "These scorecards are not all comparable." in words
    assert "apart, unlike one: seed: 7 instead of 0" in words
    charts = [f["aria-label"] for f in Page(page).tagged("svg") if "role" in f]
    shown = [{name for name in ("one", "two", "apart") if f"{name} at n = " in c} for c in charts]
    assert shown == [{"one", "two"}] * len(card.values) + [{"apart"}] * len(card.values)
    assert not render_report([card]).count("not all comparable")


def test_equal_names_are_told_apart(card):
    page = text_of(render_report([with_name(card, "same"), with_name(card, "same")]))
    assert "same (1)" in page
    assert "same (2)" in page


def test_entries_of_one_name_are_told_apart_by_their_files(tmp_path):
    folder, source = make_board(tmp_path / "b", {"near": 0.0, "twin": 0.05, "far": 3.0})
    for entry in ("near", "twin"):
        file = folder / "entries" / f"{entry}.json"
        with_name(Scorecard.load(file), "ours").save(file)
    compare(folder, source=source).save(folder)
    page = text_of(leaderboard_report(folder))
    assert "ours (near)" in page
    assert "ours (twin)" in page
    assert "far (far)" not in page


def test_sensitivity_curves_hold_the_values_that_are_comparable(card):
    """A curve of the card's cohort, settings and n has its value as a second line."""
    row = card.row("mmd2")
    floor = Floor(n=row.floor.n, mean=row.floor.mean, low=row.floor.low, high=row.floor.high)
    curve = Curve(
        doses=(0.0, 1.0, 2.0), values=(floor.mean, floor.high + 1, floor.high + 2), floor=floor,
        direction="lower", target="zero", unit="mm",
    )  # fmt: skip
    study_row = Row(
        corruption="blur", corruption_label="blur", words="blurred by {dose} mm", metric="mmd2",
        label="MMD² (RBF)", extractor="random-resnet10", curve=curve, monotone=curve.monotone,
        leaves_floor=curve.leaves_floor, response=curve.response,
    )  # fmt: skip
    study = Sensitivity(
        created=card.created, real=card.real, n=floor.n, protocol=card.protocol, seed=0,
        rows=(study_row,),
    )  # fmt: skip
    page = render_report([card], study=study)
    assert "leaves the floor at" in text_of(page)
    assert page.count('<polyline class="line synth"') == 1
    other = study.model_copy(
        update={"real": card.real.model_copy(update={"fingerprint": "another"})}
    )
    assert '<polyline class="line synth"' not in render_report([card], study=other)


def test_a_missing_value_says_why(card):
    lacking = Value(
        metric="fid", label="FID", extractor="net", direction="lower", target="floor",
        missing=Missing(reason="weights", text="synthbench fetch net"),
    )  # fmt: skip
    page = render_report([card.model_copy(update={"values": (lacking,)})])
    assert "synthbench fetch net" in text_of(page)
    assert "Not computed: FID." in text_of(page)


# ---------------------------------------------------------------- leaderboards


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder, source = make_board(tmp_path_factory.mktemp("boards") / "b", {"near": 0.0, "far": 3.0})
    return folder, source


def test_a_leaderboard_shows_ranks_where_it_was_compared(board, tmp_path):
    folder, source = board
    before = text_of(leaderboard_report(folder))
    assert "the rows are only ordered" in before
    assert "A rank runs" not in before
    compared = shutil.copytree(folder, tmp_path / "b")
    compare(compared, source=source).save(compared)
    after = text_of(leaderboard_report(compared))
    assert "Entries " in after
    assert "A rank runs" in after
    assert "the rows are only ordered" not in after


def test_a_verdict_on_utility_has_a_section_and_a_place_in_the_ranking(board, tmp_path):
    folder = shutil.copytree(board[0], tmp_path / "b")
    compare(folder, source=board[1]).save(folder)
    assert 'id="utility"' not in leaderboard_report(folder)
    file = folder / "entries" / "near.json"
    studied = Scorecard.load(file).model_copy(update={"utility": make_verdict(label="<i>sex")})
    studied.save(file)
    page = leaderboard_report(folder)
    assert 'id="utility"' in page
    assert "<i>" not in page
    words = text_of(page)
    assert "helped: +19.5 [9.1, 29.9] points AUC (<i>sex, 20 real)" in words
    assert "the rows are only ordered" not in words
    alone = text_of(render_report([studied]))
    assert "Synthetic data helped: +19.5 points AUC, 95% CI +9.1 to +29.9." in alone
    assert "trained on 20 real and 200 synthetic volumes, tested on 300 real subjects" in alone
    assert "real + synthetic 0.919" in alone


# ---------------------------------------------------------------- hostile data


@pytest.mark.parametrize("which", ["plain", "full"])
def test_data_cannot_break_out_of_the_page(which, request):
    """Names hold tags, quotes, a right-to-left override and a line separator."""
    text = request.getfixturevalue(which)
    page = Page(text)
    assert not page.open
    assert len(page.tagged("script")) == {"plain": 1, "full": 3}[which]
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert not page.attributes("style")
    assert not [a for a in page.attributes("src") if not a.startswith("data:image/png;base64,")]
    assert not [a for a in page.attributes("href") if not re.match(r"#|data:,$", a)]
    assert not any(character in text for character in "\u202e\u2028")
    assert "\\u202egpj.exe\\u2028&amp;" in text_of(text)


@pytest.mark.parametrize("which", ["plain", "full"])
def test_the_policy_allows_the_pages_own_style_and_script_only(which, request):
    page = Page(request.getfixturevalue(which))
    policy = next(
        found["content"]
        for found in page.tagged("meta")
        if found.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):
        hashes = [hashlib.sha256(text.encode()).digest() for text in page.raw[kind]]
        allowed = " ".join(f"'sha256-{base64.b64encode(found).decode()}'" for found in hashes)
        assert f"{kind}-src {allowed};" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("which", ["plain", "full"])
def test_references_within_the_page_resolve(which, request):
    page = Page(request.getfixturevalue(which))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    named = [a[1:] for a in page.attributes("href") if a.startswith("#")]
    assert {*named, *page.attributes("aria-labelledby"), *page.attributes("data-copies")} <= {*ids}
    assert all("aria-label" in found for found in page.tagged("svg") if "role" in found)
    assert all("alt" in found for found in page.tagged("img"))


def test_the_same_input_gives_the_same_bytes(full, plain, card, card_file, folders):
    assert render_report([card]) == plain
    again = report(
        [card_file], real=folders["real"], synths=[folders["synth"]], train=folders["train"]
    )
    assert again == full


def test_folders_that_were_not_scored_are_refused(card_file, folders):
    with pytest.raises(ScorecardError, match="none of the scorecards is about these 6 volumes"):
        report([card_file], real=folders["real"], synths=[folders["train"]])
    with pytest.raises(ScorecardError, match=r"--real: the scorecard of .* another cohort"):
        report([card_file], real=folders["train"], synths=[folders["synth"]])
    with pytest.raises(UsageError, match="--real and --synth are needed together"):
        report([card_file], real=folders["real"])


# ---------------------------------------------------------------- the command


def test_the_verb_writes_one_file(card_file, tmp_path):
    out = tmp_path / "new" / "report.html"
    result = CliRunner().invoke(app, ["report", str(card_file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_text(encoding="utf-8") == render_report([Scorecard.load(card_file)])


def test_a_leaderboard_page_is_of_one_benchmark(board, tmp_path):
    folder, _ = board
    kept = shutil.copytree(folder, tmp_path / "boards" / "b")
    out = tmp_path / "board.html"
    result = CliRunner().invoke(app, ["leaderboard", str(kept), "--html", str(out)])
    assert result.exit_code == 0, result.output
    assert "<title>Leaderboard" in out.read_text(encoding="utf-8")
    shutil.copytree(folder, tmp_path / "boards" / "c")
    two = CliRunner().invoke(app, ["leaderboard", str(kept.parent), "--html", str(out)])
    assert isinstance(two.exception, UsageError)


# ---------------------------------------------------------------- in a browser

SELF_TEST = """
const order = (table) => Array.from(table.tBodies[0].rows, (r) => r.cells[1].dataset.sort);
const canvasPixels = (figure, points) => {
  const canvas = figure.querySelector("canvas");
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return points.map(([x, y]) => all[4 * (y * canvas.width + x)]);
};
const saved = async () => {
  const blobs = [];
  URL.createObjectURL = (blob) => { blobs.push(blob); return "#"; };
  document.querySelector("button.save-csv").click();
  document.querySelector("button.save-json").click();
  document.querySelector(".charts button").click();
  for (let i = 0; i < 500 && blobs.length < 3; i++) await pause(20);
  const first = Array.from(new Uint8Array(await blobs[2].arrayBuffer()).slice(1, 4));
  return [await blobs[0].text(), await blobs[1].text(), String.fromCharCode(...first)];
};
addEventListener("load", async () => {
  const found = { width: document.documentElement.scrollWidth, window: innerWidth };
  found.hidden = Array.from(document.querySelectorAll(".scroll"),
    (box) => [box.getAttribute("aria-label"), box.scrollWidth - box.clientWidth])
    .filter(([, more]) => more > 0);
  found.background = getComputedStyle(document.body).backgroundColor;
  const table = document.querySelector("#values ~ details table");
  const header = table.tHead.rows[0].cells[1];
  const button = header.querySelector("button");
  button.focus();
  found.focused = document.activeElement === button;
  found.outline = getComputedStyle(button).outlineStyle;
  button.click();
  found.rising = order(table);
  found.aria = header.getAttribute("aria-sort");
  button.click();
  found.falling = order(table);
  const gallery = document.querySelector(".gallery");
  const slider = gallery.querySelector("input[data-plane=axial]");
  slider.value = 9;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  for (let i = 0; i < 1000 && gallery.querySelector("canvas[hidden]"); i++) await pause(20);
  found.shown = gallery.querySelectorAll("canvas:not([hidden])").length;
  found.output = slider.parentElement.querySelector("output").textContent;
  const figure = gallery.querySelector(".volume");
  const mosaic = document.getElementById(figure.dataset.volume);
  found.mosaic = mosaic.src;
  found.shape = mosaic.dataset.shape;
  found.columns = Number(mosaic.dataset.columns);
  found.pixels = canvasPixels(figure, POINTS);
  const words = document.body.innerText;
  found.words = words.includes("onerror='alert(3)'");
  const features = document.querySelector(".embedding");
  for (const key of ["ArrowRight", "ArrowLeft"]) {
    features.querySelector("svg").dispatchEvent(new KeyboardEvent("keydown", { key }));
  }
  const chosen = features.querySelectorAll(".dot.chosen");
  found.chosen = Array.from(chosen, (dot) => Number(dot.dataset.point));
  const small = features.querySelector("canvas");
  const slice = small.getContext("2d").getImageData(0, 0, small.width, small.height).data;
  found.slice = Array.from(slice.filter((v, i) => i % 4 === 0));
  found.sprite = features.querySelector(".sprite").src;
  found.columns_of_sprite = Number(features.dataset.columns);
  found.cells = CELLS.map(csvCell);
  found.saved = await saved();
  report(found);
});
"""
CELLS = ["=1+1", "@a", "+x", "-x", "-cmd|' /C calc'!A0", "-", "-0.5", "1e-3", "-inf", 'a"b', "a,b"]
POINTS = ((10, 12), (14, 7), (34, 12), (37, 9), (58, 11), (62, 14))
"""Two in each plane of a canvas of three planes of 24 x 24."""


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (400, True)], ids=["wide light", "narrow dark"]
)
def test_a_browser_shows_it(width, dark, full, card, tmp_path):
    """It sorts, its slider moves every canvas, and nothing leaves the page.

    Expected pixels are those of the volume: a canvas is three planes of 24 x 24 side by side,
    upright, so pixel (c, r) of the axial plane is voxel (c, 23 - r, 9).
    """
    options = ["--disable-gpu", f"--window-size={width},900"]
    if dark:
        options.append("--blink-settings=preferredColorScheme=0")
    script = SELF_TEST.replace("POINTS", json.dumps(POINTS)).replace("CELLS", json.dumps(CELLS))
    found, console = browse(full, tmp_path, script, *options)
    assert found["broken"] == found["violations"] == found["requests"] == console == []
    assert found["width"] <= found["window"]
    assert width < 1280 or found["hidden"] == []
    light = sum(map(int, re.findall(r"\d+", found["background"])[:3])) > 384
    assert light is not dark
    assert found["focused"]
    assert found["outline"] != "none"
    numbers = sorted(h.value for value in card.values if (h := headline(value)))
    assert [float(key) for key in found["rising"]] == pytest.approx(numbers)
    assert [float(key) for key in found["falling"]] == pytest.approx(numbers[::-1])
    assert found["aria"] == "ascending"
    assert (found["shown"], found["output"]) == (8, "9")
    assert found["words"]
    volume = voxels(found)
    at = {0: lambda c, r: volume[c, 23 - r, 9], 1: lambda c, r: volume[c, 12, 23 - r],
          2: lambda c, r: volume[13, c, 23 - r]}  # fmt: skip
    assert found["pixels"] == [int(at[x // 24](x % 24, y)) for x, y in POINTS]
    table = list(csv.reader(io.StringIO(found["saved"][0])))
    assert [float(row[1]) for row in table[1:]] == [float(k) for k in found["falling"]]
    assert json.loads(found["saved"][1]) == card.model_dump(mode="json")
    assert found["saved"][2] == "PNG"
    cells = [next(csv.reader([cell])) for cell in found["cells"]]
    assert cells == [[safe(cell)] for cell in CELLS]
    (point,) = found["chosen"]
    row, column = divmod(point, found["columns_of_sprite"])
    small = pixels(found["sprite"])[56 * row : 56 * (row + 1), 56 * column : 56 * (column + 1)]
    assert found["slice"] == small.ravel().tolist()
    assert max(found["slice"]) > 100
