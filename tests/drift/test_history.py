"""Many scorecards in time: what is judged, what is left out, and how it is written."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from synthbench.cli.app import app
from synthbench.drift.history import history, read_history
from synthbench.drift.history_output import comment, history_page, history_table, references_of
from synthbench.drift.output import junit, workflow_commands
from synthbench.errors import ScorecardError, UsageError
from tests.drift.cards import row_of, runs_of, save_runs, statuses, with_protocol
from tests.drift.test_output import text_of

N = 24


def noise(seed, n=N):
    return np.random.default_rng(seed).normal(10, 1, n)


def values(n=N, **changes):
    """Values of the tests' three metrics: noise of sd 1, plus what changes."""
    found = {name: noise(i, n) for i, name in enumerate(("mmd2", "fid", "intensity"))}
    return {name: x + changes.get(name, 0) for name, x in found.items()}


def step(size, at=16):
    """A step, after a run on the other side of the mean: so the chart dates it to the run."""
    runs = np.arange(N)
    return size * (runs >= at) - 2 * np.sign(size) * (runs == at - 1)


@pytest.fixture(scope="module")
def drifted(card):
    return runs_of(card, values(fid=step(6.0)))


def test_nothing_changed(card):
    found = history(runs_of(card, values()))
    assert (found.outcome, found.exit_code) == ("pass", 0)
    assert set(statuses(found).values()) == {"pass"}
    assert found.false_alarm_runs == 200
    assert len(found.runs) == N
    assert "24 runs" in found.statement


def test_a_step_is_named_with_its_run_and_its_size(drifted):
    found = history(drifted)
    assert (found.outcome, found.exit_code) == ("drift", 1)
    assert statuses(found) == {"mmd2": "pass", "fid": "fail", "intensity": "pass"}
    row = row_of(found, "fid")
    assert (row.since, row.way) == (16, "up")
    assert row.alarm - row.since < 5
    assert row.moved == pytest.approx(6, abs=1)
    assert [(one.first, one.last) for one in row.levels] == [(0, 15), (16, 23)]
    assert row.sd == pytest.approx(np.std((noise(1) + step(6.0))[:16], ddof=1))
    assert "since run 17 (2026-01-17)" in row.words
    assert "worse" in row.words


def test_a_better_value_is_drift_too_and_is_called_better(card):
    found = history(runs_of(card, values(fid=step(-6.0))))
    assert "lower (better)" in row_of(found, "fid").words
    assert found.exit_code == 1


def test_slow_drift_is_seen_where_no_two_runs_show_it(card):
    slow = np.maximum(0, np.arange(N) - 6) * 0.25
    found = history(runs_of(card, values(mmd2=slow)))
    row = row_of(found, "mmd2")
    assert row.status == "fail"
    assert row.largest_pair < row.effect
    assert "no two neighbouring runs show more than" in row.words


def test_limits_are_for_all_metrics_together(card):
    """The limit of one metric is that of 200 runs times the number of metrics."""
    from synthbench.drift.control_chart import limit_for

    runs = runs_of(card, values())
    assert row_of(history(runs), "fid").limit == limit_for(600)
    assert row_of(history(runs, metrics=["fid"]), "fid").limit == limit_for(200)
    assert row_of(history(runs, metrics=["fid"], false_alarm_runs=50), "fid").limit == limit_for(50)
    with pytest.raises(UsageError, match="--metric fdi"):
        history(runs, metrics=["fdi"])


def test_a_descriptive_metric_is_shown_and_fails_nothing(drifted):
    runs = [
        (file, card.model_copy(update={"values": tuple(
            row.model_copy(update={"role": "descriptive"}) if row.metric == "fid" else row
            for row in card.values)}))
        for file, card in drifted
    ]  # fmt: skip
    found = history(runs)
    assert row_of(found, "fid").status == "shown"
    assert row_of(found, "fid").since == 16
    assert found.exit_code == 0


# ---------------------------------------------------------------- what is left out


def test_what_cannot_be_compared_is_named_and_left_out(card):
    runs = runs_of(card, values())
    other = card.real.model_copy(update={"fingerprint": "f" * 64})
    space = card.protocol.space.model_copy(update={"shape": (9, 9, 9)})
    origin = card.origin.model_copy(update={"generator": "rival"})
    own = card.origin.model_copy(update={"generator": "mine"})
    for at, changed in (
        (2, runs[2][1].model_copy(update={"real": other})),
        (4, with_protocol(runs[4][1], space=space)),
        (6, with_protocol(runs[6][1], resamples=77)),
        (8, runs[8][1].model_copy(update={"origin": origin})),
        (N - 1, runs[-1][1].model_copy(update={"origin": own})),
    ):
        runs[at] = (runs[at][0], changed)
    found = history(runs)
    why = {one.file: one.why for one in found.left_out}
    assert list(why) == ["run-02.json", "run-04.json", "run-06.json", "run-08.json"]
    assert "real volumes" in why["run-02.json"]
    assert "space / shape" in why["run-04.json"]
    assert "resamples" in why["run-06.json"]
    assert "rival" in why["run-08.json"]
    assert len(found.runs) == N - 4
    assert len(row_of(found, "fid").values) == N - 4


def test_a_bandwidth_that_moved_by_rounding_is_the_same_protocol(card):
    runs = runs_of(card, values())
    from tests.drift.cards import with_bandwidth

    runs[3] = (runs[3][0], with_bandwidth(runs[3][1], 1 + 1e-7))
    runs[5] = (runs[5][0], with_bandwidth(runs[5][1], 1.5))
    assert [one.file for one in history(runs).left_out] == ["run-05.json"]


@pytest.mark.parametrize("n", [1, 9])
def test_few_runs_tell_nothing(card, n):
    found = history(runs_of(card, values(n)))
    assert (found.outcome, found.exit_code) == ("not comparable", 2)
    assert f"{n} comparable samples, 10 needed" in found.verdict


def test_images_that_are_scored_again_count_once_and_must_have_their_values(card):
    runs = runs_of(card, values())
    again = runs[3][1].model_copy(update={"created": runs[10][1].created})
    runs[10] = (runs[10][0], again)
    found = history(runs)
    assert found.runs[10].again == 3
    assert 10 not in row_of(found, "fid").points
    assert found.exit_code == 0
    rows = tuple(
        row.model_copy(update={"value": row.value + 0.01 * row.magnitude})
        if row.metric == "fid" else row for row in again.values
    )  # fmt: skip
    runs[10] = (runs[10][0], again.model_copy(update={"values": rows}))
    moved = history(runs)
    assert moved.exit_code == 1
    assert statuses(moved) == {"mmd2": "pass", "fid": "fail", "intensity": "pass"}
    assert "run 11 scores the images of run 4 again" in row_of(moved, "fid").words


def test_frozen_images_drift_slowly(card):
    """Each scoring moves by 2e-4 of the terms, a warning between neighbours; in all by 2e-3."""
    one = runs_of(card, values(1))[0][1]
    runs = []
    for i in range(11):
        rows = tuple(
            row.model_copy(update={"value": row.value + i * 2e-4 * row.magnitude})
            for row in one.values
        )
        created = f"2026-01-{i + 1:02}T00:00:00+00:00"
        card = one.model_copy(update={"values": rows, "created": created})
        runs.append((f"{i:02}.json", card))
    assert history(runs[:1]).exit_code == 2
    assert history([runs[0], runs[0]]).outcome == "pass"
    assert history(runs[:3]).outcome == "warn"
    assert history(runs).outcome == "drift"


def test_a_run_without_a_value_is_passed_over_but_not_the_newest(card):
    def without(one):
        rows = tuple(
            row.model_copy(update={"value": None}) if row.metric == "fid" else row
            for row in one.values
        )
        return one.model_copy(update={"values": rows})

    runs = runs_of(card, values())
    runs[5] = (runs[5][0], without(runs[5][1]))
    found = history(runs)
    assert row_of(found, "fid").values[5] is None
    assert len(row_of(found, "fid").points) == N - 1
    assert found.exit_code == 0
    runs[-1] = (runs[-1][0], without(runs[-1][1]))
    found = history(runs, metrics=["fid", "mmd2"])
    assert (statuses(found)["fid"], found.exit_code) == ("not compared", 2)


# ---------------------------------------------------------------- files


def test_runs_are_read_in_the_order_of_their_dates(card, tmp_path):
    runs = runs_of(card, values(4))
    save_runs(tmp_path / "h", [(f"{9 - i}.json", one) for i, (_, one) in enumerate(runs)])
    found = read_history(tmp_path / "h")
    assert [file for file, _ in found] == ["9.json", "8.json", "7.json", "6.json"]


def test_a_folder_that_is_no_history_is_refused_by_name(card, tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        read_history(tmp_path / "absent")
    (tmp_path / "h").mkdir()
    with pytest.raises(UsageError, match="no scorecard"):
        read_history(tmp_path / "h")
    undated = card.model_copy(update={"created": "yesterday"})
    save_runs(tmp_path / "h", [("a.json", undated)])
    with pytest.raises(ScorecardError, match=r"a\.json: created: .*'yesterday'"):
        read_history(tmp_path / "h")
    (tmp_path / "h" / "b.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ScorecardError, match=r"b\.json"):
        read_history(tmp_path / "h")


# ---------------------------------------------------------------- what is written


def test_table_page_junit_and_annotations_say_the_same(drifted):
    found = history(drifted)
    table, page = text_of(history_table(found)), history_page(found)
    for words in ("since run 17", "FID (voxels)", "drift: "):
        assert words in table
        assert words in page
    assert page.count('<svg class="lines"') == 6
    assert page.index("FID (voxels)</bdi></h3>") < page.index("MMD² (RBF) (voxels)</bdi></h3>")
    for word in ("<script", "http:", "https:"):
        assert word not in page
    suite = ET.fromstring(junit(found))
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["4", "2", "0"]
    assert len(workflow_commands(found)) == 2
    assert history_page(found) == page


def test_a_comment_has_two_reference_rows(drifted, card, tmp_path):
    found = history(drifted)
    newest = drifted[-1][1]
    text = comment(found, newest, references_of(drifted, found))
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines()}
    head = next(line for line in text.splitlines() if line.startswith("| metric"))
    assert "first run, 2026-01-01" in head
    assert "run before, 2026-01-23" in head
    change = newest.row("fid").value - drifted[0][1].row("fid").value
    assert f"+{change:.3g} ({change / 4:.2g} MDE)" in lines["FID (voxels)"]
    assert "**drift: FID" in text
    named = tmp_path / "rival.json"
    origin = card.origin.model_copy(update={"generator": "rival"})
    card.model_copy(update={"name": "a|rival", "origin": origin}).save(named)
    text = comment(found, newest, references_of(drifted, found, [named]))
    assert r"a\|rival" in text
    with pytest.raises(UsageError, match="at most two"):
        references_of(drifted, found, [named] * 3)
    with_protocol(card, resamples=77).save(named)
    with pytest.raises(ScorecardError, match="resamples"):
        references_of(drifted, found, [named])


def test_the_verb(drifted, tmp_path):
    folder = save_runs(tmp_path / "h", drifted)
    page, text, xml = (tmp_path / name for name in ("h.html", "c.md", "j.xml"))
    run = CliRunner().invoke
    files = ["--html", str(page), "--comment", str(text), "--junit", str(xml)]
    found = run(app, ["drift", "--history", str(folder), "--json", *files])
    assert found.exit_code == 1
    record = json.loads(found.stdout)
    assert (record["kind"], record["exit_code"]) == ("history", 1)
    assert "since run 17" in page.read_text(encoding="utf-8")
    assert text.read_text(encoding="utf-8").startswith("### synthbench: Drift")
    assert ET.parse(xml).getroot().get("failures") == "2"
    assert run(app, ["drift", "--history", str(folder), "--metric", "intensity"]).exit_code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "name two scorecards"),
        (["a.json"], "name two scorecards"),
        (["a.json", "b.json", "--html", "x.html"], "--html: it is for --history"),
        (["a.json", "--history", "h"], "two scorecards"),
        (["--history", "h", "--gate"], "--gate"),
        (["--history", "h", "--delta", "fid=1"], "--delta"),
        (["--history", "h", "--reference", "a.json"], "--comment"),
        (["--history", "h", "--false-alarm-runs", "3"], "no such folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["drift", *options])
    assert isinstance(found.exception, UsageError)
    assert words in str(found.exception)
