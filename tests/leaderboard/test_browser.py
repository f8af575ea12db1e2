"""The page for a browser: what it sorts, filters and compares, and that scripts are not needed."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from synthbench.leaderboard.board import Board
from synthbench.leaderboard.html import leaderboard_report
from synthbench.leaderboard.ranking import Comparisons
from synthbench.records.scorecard import Scorecard
from synthbench.report.standing import verdict
from tests.boards import make_board

NINE = Path(__file__).parents[1] / "data" / "board-of-nine"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.fixture(scope="module")
def page():
    return leaderboard_report(NINE)


def compared(page):
    found = re.search(r'<script type="application/json" id="compared">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def test_rows_say_what_they_are_filtered_by(page):
    rows = re.findall(r'<tr data-kind="(\w+)" data-copies="(\w+)"><th[^>]*><bdi>\d+\. (.*?)<', page)
    found = {name: (kind, copies) for kind, copies, name in rows}
    assert len(found) == 9
    assert found["memorizer"] == ("baseline", "copies")
    assert found["pca-gaussian"] == ("baseline", "nearer")
    assert found["ddpm3d, tiny, 700 steps"] == ("trained", "none")
    assert found["real training images"] == ("unstated", "copies")


def test_two_entries_are_compared_as_the_comparisons_have_it(page):
    """Every pair in both orders: the sign of the difference, its p, and which entry is better."""
    comparisons = Comparisons.find(NINE)
    assert comparisons is not None
    names = list(Board.read(NINE).ordered)
    shown = compared(page)
    assert len(shown) == len(comparisons.metrics) == 10
    for found in comparisons.metrics:
        metric = next(one for one in shown if one["label"].startswith(found.label.split(" (71")[0]))
        values = {place.entry: place.value for place in found.places}
        assert len(metric["pairs"]) == 9 * 8
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                pair = found.pair(one, other)
                if pair is None:
                    continue
                line = metric["pairs"][f"{i},{j}"]
                own, its = values[one], values[other]
                if found.direction == "zero":
                    own, its = abs(own), abs(its)
                difference = float(line["difference"].split(" [")[0])
                assert difference == pytest.approx(its - own, rel=5e-3, abs=1e-6)
                if pair.p > 0.05:
                    assert line["better"] is None
                else:
                    less = found.direction != "higher"
                    assert line["better"] == (0 if (own < its) == less else 1)


def test_values_stand_with_their_verdicts(page):
    board = Board.read(NINE)
    kid = compared(page)[0]
    assert kid["label"] == "KID ↓"
    for text, card in zip(kid["values"], board.ordered.values(), strict=True):
        row = card.row("kid")
        assert row is not None
        assert text.endswith(verdict(row).words)


def test_the_policy_allows_this_script_and_style_alone(page):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', page)[1])  # type: ignore[index]
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "innerHTML" not in page
    assert not re.search(r"<[^>]+ on\w+=", page)


def test_a_mark_in_any_column_is_explained(page):
    """MMD² is saturated on this board, KID is not."""
    assert "‡" not in "".join(compared(page)[0]["values"])
    assert re.search(r"<bdi>✗\s[\d.]+ ‡</bdi>", page)
    assert "‡ " in page.split("</table>")[1].split("</p>")[0]


def test_without_scripts_there_is_the_plain_table(page):
    """What needs a script is hidden by the style sheet until the script runs."""
    for part in re.findall(r'<div class="([^"]*)"[^>]*>\s*<(?:label|h3 id="compare")', page):
        assert "needs-script" in part or part == "filters"
    assert page.count("<tr data-kind=") == 9
    assert "All pairs" in page
    assert '<h2 id="overview">' in page.split("<details", 1)[1]


def test_an_uncompared_board_shows_values_without_differences(tmp_path):
    folder, _ = make_board(tmp_path / "b", {"near": 0.0, "far": 3.0})
    page = leaderboard_report(folder)
    assert all(metric["pairs"] == {} for metric in compared(page))
    assert "All pairs" not in page
    assert "Compare two entries" in page


def test_one_entry_is_compared_with_nothing(tmp_path):
    folder, _ = make_board(tmp_path / "b", {"alone": 0.0})
    page = leaderboard_report(folder)
    assert "Compare two entries" not in page
    assert page.count("<tr data-kind=") == 1


def test_a_name_cannot_end_the_data_of_the_page(tmp_path):
    folder, _ = make_board(tmp_path / "b", {"near": 0.0, "far": 3.0})
    file = folder / "entries" / "near.json"
    card = Scorecard.load(file)
    values = tuple(v.model_copy(update={"label": "</script><b>\u202e"}) for v in card.values)
    card.model_copy(update={"name": "</script><b>", "values": values}).save(file)
    page = leaderboard_report(folder)
    assert page.count("</script>") == 2
    assert "\u202e" not in page
    assert any("<b>" in metric["label"] for metric in compared(page))


PROBE = """
<script>
const put = (id, value) => {
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event("input"));
};
const names = () => Array.from(document.querySelectorAll("#ranking tbody tr:not([hidden]) th"),
  (cell) => cell.textContent);
const result = {};
result.first = names();
put("filter-kind", "baseline");
result.baselines = names();
put("filter-text", "MEMO");
result.text = names();
put("filter-text", "");
put("filter-kind", "");
put("filter-copies", "none");
result.none = names();
result.count = document.getElementById("filter-count").textContent;
put("filter-copies", "");
const heads = Array.from(document.querySelectorAll("#ranking thead button"));
heads.find((button) => button.textContent.startsWith("spectrum")).click();
result.sorted = names();
put("compare-other", "8");
result.words = document.getElementById("compare-words").textContent;
result.lines = document.querySelectorAll("#comparison tr").length;
document.title = JSON.stringify(result);
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_it_sorts_filters_and_compares_in_a_browser(page, tmp_path):
    file = tmp_path / "page.html"
    loose = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    file.write_text(loose.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'u'}"]
    done = subprocess.run(
        [str(CHROMIUM), *options, "--dump-dom", file.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    assert title is not None, done.stderr
    found = json.loads(html.unescape(title[1]))
    assert len(found["first"]) == 9
    assert found["baselines"] == ["1. pca-gaussian", "3. memorizer", "9. noise"]
    assert found["text"] == ["3. memorizer"]
    assert [name[:1] for name in found["none"]] == ["4", "7", "9"]
    assert found["count"] == "3 of 9 rows"
    assert found["sorted"][0] == "1. pca-gaussian"
    assert found["sorted"][-1] == "9. noise"
    assert found["lines"] == 10
    assert "better: the first" in found["words"]
