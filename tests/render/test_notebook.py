"""What notebooks show of records: one line, a table, a data frame, a figure."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from synthbench.drift.drift import drift
from synthbench.errors import UsageError
from synthbench.leaderboard.ranking import Comparisons
from synthbench.records.scorecard import Scorecard
from synthbench.sensitivity.curve import Curve, Floor, Row
from synthbench.sensitivity.read_back import Sensitivity

ROOT = Path(__file__).parents[2]
ENTRIES = ROOT / "tests/data/ixi-hh-4mm/entries"


@pytest.fixture(autouse=True)
def _no_windows():
    matplotlib.use("Agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.fixture(scope="module")
def card():
    return Scorecard.load(ENTRIES / "memorizer.json")


@pytest.fixture(scope="module")
def study(card):
    curve = Curve(doses=(0, 1, 2), values=(0.0, 1.0, 3.0), direction="lower", target="zero",
                  floor=Floor(n=9, mean=0.0, low=-0.5, high=0.5), unit="mm")  # fmt: skip
    row = Row(corruption="blur", corruption_label="blur", words="blurred by {}", metric="fid",
              label="FID", extractor="voxels", curve=curve, monotone=curve.monotone,
              leaves_floor=curve.leaves_floor, response=curve.response)  # fmt: skip
    return Sensitivity(created="2026-01-01", real=card.real, n=9, protocol=card.protocol, seed=0,
                       rows=(row,))  # fmt: skip


@pytest.fixture(scope="module")
def records(card, study):
    comparisons = Comparisons.find(ROOT / "leaderboards/ixi-hh-4mm")
    return {"card": card, "study": study, "comparisons": comparisons, "drift": drift(card, card)}


class Cells(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("name", ["card", "study", "comparisons", "drift"])
def test_a_record_is_a_line_a_table_a_frame_and_a_figure(name, records):
    record = records[name]
    assert len(repr(record)) < 200
    assert "\n" not in repr(record)
    frame = record.to_frame()
    assert len(frame) > 0
    shown = Cells(record._repr_html_())
    assert shown.tags.count("tr") == 1 + min(len(frame), 40)
    assert record.title in shown.text
    axes = record.plot()
    assert record.plot(ax=axes) is axes
    axes.figure.canvas.draw()
    names = {label.get_text() for label in axes.get_yticklabels()}
    expected = {"card": "MMD² (RBF)", "comparisons": "memorizer", "drift": "FID (random-resnet10)"}
    assert expected.get(name) in names | {None}


def test_the_frame_of_a_scorecard_holds_its_numbers(card):
    frame = card.to_frame().set_index(["metric", "extractor"])
    for value in card.values:
        row = frame.loc[(value.metric, value.extractor if value.extractor else np.nan)]
        row = row if row.ndim == 1 else row.iloc[0]
        assert row["value"] == value.value
        if value.floor:
            assert (row["floor"], row["floor_n"]) == (value.floor.mean, value.floor.n)


def test_the_figure_of_a_scorecard_is_in_widths_of_the_floor(card):
    """Where the synthetic set at the floor's n is at the floor's edge, the mark is at 1."""
    value = card.row("fid")
    floor = value.floor.model_copy(update={"synth_mean": value.floor.high})
    moved = card.model_copy(update={"values": (value.model_copy(update={"floor": floor}),)})
    (line,) = moved.plot().get_lines()
    assert list(line.get_xdata()) == [1.0]


def test_the_frame_of_a_study_has_a_row_per_dose(study):
    frame = study.to_frame()
    assert frame["dose"].tolist() == [0, 1, 2]
    assert frame["value"].tolist() == [0.0, 1.0, 3.0]
    (line,) = study.plot("blur").get_lines()
    assert list(line.get_ydata()) == [0.0, 2.0, 6.0]  # the floor's half-width is 0.5


def test_a_wrong_name_is_refused_with_the_nearest(study, records):
    with pytest.raises(UsageError, match="did you mean 'blur'"):
        study.plot("blurr")
    with pytest.raises(UsageError, match="did you mean 'kid'"):
        records["comparisons"].plot("kidd")


def test_names_are_no_markup(card):
    poisoned = card.model_copy(update={"name": "<script>x</script>$y$"})
    assert "<script>" not in poisoned._repr_html_()
    assert "<script>" in repr(poisoned)
    poisoned.plot().figure.canvas.draw()


def test_other_records_are_short_too(card):
    assert repr(card.model_copy()) == repr(card)
    assert len(repr(records_of_a_benchmark())) < 100


def records_of_a_benchmark():
    from synthbench.scoring.benchmark import Benchmark

    return Benchmark.load(ROOT / "leaderboards/ixi-hh-4mm")
