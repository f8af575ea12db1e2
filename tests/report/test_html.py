"""The report: what it says, that data cannot break out of it, and that a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from synthbench.cli.app import app
from synthbench.errors import ScorecardError, UsageError
from synthbench.leaderboard.html import leaderboard_report
from synthbench.leaderboard.ranking import compare
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing, Value
from synthbench.report.html import render_report, report
from synthbench.report.standing import headline
from synthbench.scoring import scoring
from synthbench.sensitivity.curve import Curve, Floor, Row
from synthbench.sensitivity.read_back import Sensitivity
from tests.boards import make_board, make_verdict

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egpj.exe\u2028&amp;"
# A locale may be unable to write one of these signs in a file name.
HOSTILE_FILE = (
    "<img src=x onerror='alert(3)'>\u202e\"&.nii.gz"
    .encode(sys.getfilesystemencoding(), "ignore").decode(sys.getfilesystemencoding())
)  # fmt: skip
VOID = {"meta", "link", "img", "input", "br"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
NO_CHROMIUM = "no Chromium on the PATH (Debian: apt-get install chromium)"


class Page(HTMLParser):
    """What a page is made of: every element with its attributes, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]].append(data)

    def attributes(self, name):
        return [found[name] for _, found in self.elements if name in found]

    def tagged(self, tag):
        return [found for name, found in self.elements if name == tag]


def text_of(page):
    """The words of a page as a reader sees them, with single spaces."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def with_name(card, name):
    return card.model_copy(update={"name": name})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Real, synthetic and training volumes; names and a covariate of the data are hostile."""
    import nibabel as nib

    from tests.conftest import AFFINE, blob

    root = tmp_path_factory.mktemp("cohorts")
    for seed, (role, width) in enumerate({"real": 1.0, "synth": 0.9, "train": 1.0}.items()):
        (root / role).mkdir()
        for i in range(12 if role == "real" else 6):
            volume = blob(100 * seed + i, width=width)
            hostile = i == 0 and role != "real"
            name = HOSTILE_FILE if hostile else f"sub-{role}{i:02d}.nii.gz"
            nib.save(nib.Nifti1Image(volume, AFFINE), root / role / name)
    # One synthetic volume is a training volume, a little darker.
    copied = nib.load(root / "train" / "sub-train03.nii.gz").get_fdata(dtype=np.float32)
    near = nib.Nifti1Image(copied * np.float32(0.97), AFFINE)
    nib.save(near, root / "synth" / "sub-synth05.nii.gz")
    rows = ["participant_id\tsex\tsite"]
    for i in range(12):
        rows.append(f"sub-real{i:02d}\t{'FM'[i % 2]}\t<b>{'x' if i < 3 else 'y'}")
    (root / "real" / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {role: root / role for role in ("real", "synth", "train")}


@pytest.fixture(scope="module")
def card(folders):
    scored_card = scoring.score(
        folders["real"], folders["synth"], train=folders["train"], name=HOSTILE,
        extractors=["random-resnet10"], metrics=["mmd2", "fid", "intensity"], resamples=100,
    )  # fmt: skip
    return scored_card.model_copy(update={"notes": (HOSTILE,), "software": {HOSTILE: HOSTILE}})


@pytest.fixture(scope="module")
def card_file(card, tmp_path_factory):
    file = tmp_path_factory.mktemp("cards") / "card.json"
    card.save(file)
    return file


@pytest.fixture(scope="module")
def full(card_file, folders):
    return report(
        [card_file], real=folders["real"], synths=[folders["synth"]], train=folders["train"]
    )


@pytest.fixture(scope="module")
def plain(card):
    return render_report([card])


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
    assert len(Page(without).tagged("canvas")) == 4 + 3 + 3 + 4
    assert len(Page(full).tagged("canvas")) == 8 + 3 + 3 + 8


def test_volumes_of_people_are_named_only_where_that_is_asked_for(full, card_file, folders):
    """Under a pseudonym, a training volume keeps one name in all galleries of a page."""
    words = text_of(full)
    assert not re.search("sub-real|sub-train", full)
    assert len(set(re.findall(r"\breal-\d+", words))) == 4
    assert set(re.findall(r"\btrain-\d+", words)) <= {f"train-{i}" for i in range(1, 5)}
    assert "train-1 its nearest training volume" in words
    named = report(
        [card_file], real=folders["real"], synths=[folders["synth"]], train=folders["train"],
        real_volumes="named",
    )  # fmt: skip
    assert len(set(re.findall(r"sub-real\d+", text_of(named)))) == 4
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
    assert "An order is no ranking" in before
    assert "Rank" not in before
    compared = shutil.copytree(folder, tmp_path / "b")
    compare(compared, source=source).save(compared)
    after = text_of(leaderboard_report(compared))
    assert "Ranking entry rank tied with" in after.replace(" ↕", "")
    assert "An order is no ranking" not in after


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
    assert "An order is no ranking" not in words
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
    assert len(page.tagged("script")) == 1
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
        digest = hashlib.sha256("".join(page.raw[kind]).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


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
const violations = [];
const broken = [];
addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective));
addEventListener("error", (e) => broken.push(String(e.message)));
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const order = (table) => Array.from(table.tBodies[0].rows, (r) => r.cells[1].dataset.sort);
const canvasPixels = (figure, points) => {
  const canvas = figure.querySelector("canvas");
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return points.map(([x, y]) => all[4 * (y * canvas.width + x)]);
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
  found.mosaic = figure.querySelector(".mosaic").src;
  found.shape = figure.dataset.shape;
  found.columns = Number(figure.dataset.columns);
  found.pixels = canvasPixels(figure, POINTS);
  const words = document.body.innerText;
  found.words = words.includes("onerror='alert(3)'");
  found.requests = performance.getEntriesByType("resource")
    .map((e) => e.name).filter((name) => !name.startsWith("data:"));
  found.violations = violations;
  found.broken = broken;
  const pre = document.createElement("pre");
  pre.id = "findings";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
});
"""
POINTS = ((10, 12), (14, 7), (34, 12), (37, 9), (58, 11), (62, 14))
"""Two in each plane of a canvas of three planes of 24 x 24."""


def browse(text, folder, *options):
    """Open a page with the self-test in headless Chromium: its findings, and what it logged."""
    script = SELF_TEST.replace("POINTS", json.dumps(POINTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    file = folder / "page.html"
    file.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    result = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions",
         "--no-first-run", "--disable-background-networking", "--proxy-server=127.0.0.1:9",
         f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
         "--virtual-time-budget=60000", "--dump-dom", *options, file.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "HOME": str(folder)}, encoding="utf-8", errors="replace"
    )  # fmt: skip
    written = re.search(r'<pre id="findings">(.*?)</pre>', result.stdout, re.S)
    assert written is not None, result.stderr[-2000:]
    console = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(html.unescape(written[1])), console


def voxels(found):
    """The volume of a mosaic, decoded by Pillow, as [x, y, z]."""
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(found["mosaic"].split(",")[1]))))
    d, h, w = map(int, found["shape"].split(","))
    columns = found["columns"]
    slices = [
        sheet[
            h * (z // columns) : h * (z // columns + 1), d * (z % columns) : d * (z % columns + 1)
        ]
        for z in range(w)
    ]
    return np.stack([s[::-1].T for s in slices], axis=-1)


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (400, True)], ids=["wide light", "narrow dark"]
)
def test_a_browser_shows_it(width, dark, full, card, tmp_path):
    """It sorts, its slider moves every canvas, and nothing leaves the page.

    Expected pixels are those of the volume: a canvas is three planes of 24 x 24 side by side,
    upright, so pixel (c, r) of the axial plane is voxel (c, 23 - r, 9).
    """
    options = [f"--window-size={width},900"]
    if dark:
        options.append("--blink-settings=preferredColorScheme=0")
    found, console = browse(full, tmp_path, *options)
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
