"""Dose-response curves: verdicts and inversions of curves made by hand."""

from __future__ import annotations

import io
import json

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from synthbench.errors import MetricError, ScorecardError
from synthbench.metrics.inference.contracts import Spread
from synthbench.records.cohort import CohortRecord
from synthbench.records.protocol import MaskRecord, Protocol, SpaceRecord
from synthbench.sensitivity.corruptions.corrupted import CORRUPTIONS
from synthbench.sensitivity.curve import Curve, Floor, Row
from synthbench.sensitivity.output import figure, table
from synthbench.sensitivity.read_back import Sensitivity

FLOOR = Floor(n=35, mean=10, low=9, high=11)
DOSES = (0.0, 1.0, 2.0, 4.0, 8.0)
PROTOCOL = Protocol(
    space=SpaceRecord(
        shape=(2, 2, 2), affine=tuple(np.eye(4).ravel()), intensity="unit", scaling="none"
    ),
    mask=MaskRecord(rule="all", voxels=8, sha256="0" * 64),
    extractors=(), settings={}, intervals={}, level=0.95, resamples=1000, floor_splits=200,
    permutations=1000, seed=0, n_real=71, n_synth=35,
)  # fmt: skip


def curve(*values, floor=FLOOR, doses=DOSES, direction="lower", target="floor", intervals=None):
    return Curve(
        doses=doses[: len(values)], values=values, intervals=intervals, floor=floor,
        direction=direction, target=target, unit="mm",
    )  # fmt: skip


RISING = curve(10, 10.5, 12, 16, 32)
TURNING = curve(10, 14, 20, 14, 10)


# --- verdicts -----------------------------------------------------------------------------------


def test_a_floor_is_that_of_the_spread():
    spread = Spread(mean=10.0, low=9.0, high=11.0, n=35, repeats=200)
    assert Floor.of(spread) == FLOOR
    assert FLOOR.half_width == 1


@pytest.mark.parametrize(
    ("values", "monotone"),
    [
        ((10, 10.5, 12, 16, 32), True),
        ((10, 9, 7, 3, 1), True),
        ((10, 12, 11.1, 16, 32), True),  # falls by 0.9, the floor's half-width is 1
        ((10, 13, 11.9, 16, 32), False),  # by 1.1
        ((10, 12.1, 10.5, 16, 32), False),  # by 1.1 to the floor's edge
        ((10, 13, 12.3, 11.6, 32), False),  # by 1.4 over two steps
        ((10, 14, 20, 14, 10), False),
        ((10, 10, 10, 10, 10), True),
        ((10, 10.9, 9.1, 10.9, 9.1), True),  # by 1.8, within the floor
        ((10, 8, 12, 16, 32), False),  # below the floor first, then above
    ],
)
def test_monotone_up_to_the_floors_half_width(values, monotone):
    assert curve(*values).monotone is monotone


def test_a_values_own_interval_widens_the_tolerance():
    """20, then 17: a fall of 3, which half an interval of 2 does not explain and one of 4 does."""
    for half, monotone in ((2, False), (4, True)):
        ends = tuple((v - half, v + half) for v in (10, 20, 17, 30, 40))
        assert curve(10, 20, 17, 30, 40, intervals=ends).monotone is monotone


@pytest.mark.parametrize(
    ("values", "leaves"),
    [
        # From 10.5 at 1 mm to 12 at 2 mm, 11 is passed a third of the way.
        ((10, 10.5, 12, 16, 32), 4 / 3),
        # Downwards past 9: from 10 at 0 to 8 at 1, half way.
        ((10, 8, 6, 4, 2), 0.5),
        ((10, 10.5, 10.2, 10.9, 9.1), None),
        # From the edge itself there is nothing to interpolate: the first dose outside.
        ((11, 12, 13, 14, 15), 1.0),
        # Outside before any damage.
        ((11.5, 12, 13, 14, 15), 0.0),
        # Outside by chance at 1 mm; it stays outside between 2 and 4 mm: 10.5 + 0.1 * 5 = 11.
        ((10, 11.2, 10.5, 15.5, 32), 2.2),
        # A curve that turns back leaves where it first does: 10 + 0.25 * 4 = 11.
        ((10, 14, 20, 14, 10), 0.25),
    ],
)
def test_leaves_the_floor_by_linear_interpolation(values, leaves):
    found = curve(*values).leaves_floor
    assert found == (None if leaves is None else pytest.approx(leaves))


@pytest.mark.parametrize(
    ("values", "direction", "target", "floor", "response"),
    [
        ((10, 20), "lower", "floor", FLOOR, "worse"),
        ((10, 5), "lower", "floor", FLOOR, "better"),
        ((10, 5), "higher", "floor", FLOOR, "worse"),
        ((10, 20), "higher", "floor", FLOOR, "better"),
        ((10, 10.5), "lower", "floor", FLOOR, "none"),
        ((10, 5), "zero", "zero", FLOOR, "better"),
        ((10, 5), "zero", "floor", FLOOR, "worse"),
        ((0, -2), "zero", "zero", Floor(n=9, mean=0, low=-1, high=1), "worse"),
    ],
)
def test_whether_damage_is_called_worse_or_better(values, direction, target, floor, response):
    made = curve(*values, direction=direction, target=target, floor=floor)
    assert made.response == response


def test_the_dynamic_range_is_in_half_widths():
    """32 is 22 above a mean of 10, and the half-width is 1; of a floor without width, no limit."""
    assert RISING.dynamic_range == 22
    assert curve(0, 1, floor=Floor(n=9, mean=0, low=0, high=0)).dynamic_range == np.inf


# --- the curve read backwards -------------------------------------------------------------------


def test_a_value_on_the_curve_is_the_dose_that_gives_it():
    """14 lies half way from 12 (2 mm) to 16 (4 mm); 24 half way from 16 (4 mm) to 32 (8 mm)."""
    found = RISING.equivalent(14, (12, 24))
    assert (found.relation, found.dose, found.low, found.high) == ("at", 3.0, 2.0, 6.0)
    assert str(found) == "3 mm [2, 6]"
    for value, dose in zip(RISING.values[2:], RISING.doses[2:], strict=True):
        assert RISING.equivalent(value).dose == pytest.approx(dose)


def test_a_falling_curve_is_read_as_well():
    """9 is passed at 0.5 mm; from 8 (1 mm) to 4 (2 mm), 6 is half way, and 5 three quarters."""
    falling = curve(10, 8, 4, 0, -20, direction="higher")
    found = falling.equivalent(6, (5, 7))
    assert (found.dose, found.low, found.high) == (1.5, 1.25, 1.75)


def test_within_the_floor_is_no_dose():
    """RISING is noticed from 4/3 mm; an interval that reaches 14 is compatible with 3 mm."""
    for value in (9, 10, 11):
        found = RISING.equivalent(value)
        assert (found.relation, found.dose) == ("within the floor", 0.0)
    assert str(RISING.equivalent(10)) == "within the floor (< 1.3 mm)"
    assert RISING.equivalent(10.5, (9, 14)).high == pytest.approx(3)
    assert RISING.equivalent(10.5, (9, 10.8)).high == pytest.approx(4 / 3)


def test_an_interval_that_reaches_into_the_floor_starts_at_zero():
    found = RISING.equivalent(14, (10.8, 40))
    assert (found.low, found.high) == (0.0, None)
    assert str(found) == "3 mm [0, > 8]"


def test_beyond_the_largest_dose_is_said():
    found = RISING.equivalent(50, (24, 80))
    assert (found.relation, found.dose, found.low, found.high) == ("beyond", 8.0, 6.0, None)
    assert str(found) == "> 8 mm [6, > 8]"
    assert str(RISING.equivalent(50)) == "> 8 mm"


def test_the_other_side_of_the_floor_is_no_dose():
    found = RISING.equivalent(5)
    assert (found.relation, found.dose) == ("other side", 0.0)
    assert "other side" in str(found)


def test_a_saturated_curve_says_at_least():
    """From 2 mm on the curve rises by 0.9 in all, less than the half-width of 1."""
    saturated = curve(10, 20, 30, 30.5, 30.9)
    assert saturated.saturates_at == 2
    found = saturated.equivalent(30.6, (20, 31))
    assert (found.relation, found.dose, found.low, found.high) == ("at least", 2.0, 1.0, None)
    assert str(found) == "≥ 2 mm [1, > 8]"
    # 31.5 is above the last value by less than the tolerance; 40 is not.
    assert saturated.equivalent(31.5).relation == "at least"
    assert saturated.equivalent(40).relation == "beyond"
    assert saturated.equivalent(25).dose == pytest.approx(1.5)
    assert RISING.saturates_at is None


def test_a_plateau_in_the_middle_says_at_least_and_where_it_ends():
    """20 is reached at 1 mm and left at 4 mm; the interval's upper end is read there."""
    found = curve(10, 20, 20, 20, 40).equivalent(20, (15, 20))
    assert (found.relation, found.dose, found.low, found.high) == ("at least", 1.0, 0.5, 4.0)


def test_a_fall_within_the_tolerance_is_averaged_out():
    """20.5 and 19.5 become 20 at both 1 and 2 mm, by isotonic regression."""
    found = curve(10, 20.5, 19.5, 30, 40).equivalent(15)
    assert found.dose == pytest.approx(0.5)


@pytest.mark.parametrize("made", [TURNING, curve(10, 10.5, 10.2, 10.9, 10.1)])
def test_a_curve_that_turns_round_or_sees_nothing_has_no_inverse(made):
    assert made.equivalent(15) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"doses": (1.0, 2.0), "values": (1.0, 2.0)}, "must ascend from 0"),
        ({"doses": (0.0, 2.0, 2.0), "values": (1.0, 2.0, 3.0)}, "must ascend from 0"),
        ({"doses": (0.0, 1.0), "values": (1.0,)}, "2 doses, 1 values"),
        ({"doses": (0.0,), "values": (1.0,)}, "two doses at least"),
        ({"doses": (0.0, 1.0), "values": (1.0, float("nan"))}, "must be finite"),
        ({"doses": (0.0, 1.0), "values": (1.0, 2.0), "intervals": ((0.0, 1.0),)}, "1 intervals"),
    ],
)
def test_what_is_no_curve_is_said(changes, message):
    with pytest.raises(MetricError, match=message):
        Curve(floor=FLOOR, direction="lower", target="floor", **changes)


# --- the record ---------------------------------------------------------------------------------


@pytest.fixture
def study():
    turning = curve(10, 14, 20, 14, 10)
    rewarded = curve(10, 8, 6, 4, 2)
    blind = curve(10, 10, 10, 10, 10)
    rows = [
        Row.of(CORRUPTIONS["blur"], "fid", "FID", RISING, "a"),
        Row.of(CORRUPTIONS["blur"], "fid", "FID", turning, "b"),
        Row.of(CORRUPTIONS["modes"], "fid", "FID", rewarded, "a"),
        Row.of(CORRUPTIONS["blur"], "gap", "MS-SSIM gap", blind),
    ]
    return Sensitivity(
        created="2025-01-01T00:00:00Z",
        real=CohortRecord(n=71, subjects=71, fingerprint="0" * 64, available=71),
        n=35, protocol=PROTOCOL, seed=0, rows=tuple(rows),
    )  # fmt: skip


def test_curves_of_schema_1_are_drawn_as_before(study, tmp_path):
    """Schema 1 left to the code which metrics a figure draws: one of a family."""
    fields = json.loads(study.model_dump_json()) | {"schema_version": 1}
    for row in fields["rows"]:
        del row["drawn"]
    (tmp_path / "s.json").write_text(json.dumps(fields), encoding="utf-8")
    drawn = {row.metric: row.drawn for row in Sensitivity.load(tmp_path / "s.json").rows}
    assert drawn == {"fid": True, "gap": False}


def test_a_study_is_read_as_it_was_written(study, tmp_path):
    study.save(tmp_path / "s.json")
    assert Sensitivity.load(tmp_path / "s.json") == study
    assert study.row("blur", "fid").extractor == "a"
    assert study.row("blur", "fid", "b").monotone is False
    assert study.row("flip", "fid") is None


def test_a_value_is_read_back_on_every_curve_that_allows_it(study):
    """FID 14 by extractor a: 3 mm of blur, and on the side that dropped modes do not lead to."""
    found = study.equivalents("fid", 14, extractor="a")
    assert {name: e.relation for name, e in found.items()} == {"blur": "at", "modes": "other side"}
    assert study.equivalents("fid", 14, extractor="b") == {}
    row = study.row("blur", "fid")
    assert row.sentence(found["blur"]) == "blurred by 3 mm (FWHM)"
    assert row.sentence(RISING.equivalent(99)) == "blurred by more than 8 mm (FWHM)"
    assert row.sentence(RISING.equivalent(10)) == "blurred by less than 1.3 mm (FWHM)"
    assert row.sentence(RISING.equivalent(10, (9, 99))) == "blurred by 0 to more than 8 mm (FWHM)"
    assert row.sentence(RISING.equivalent(5)) == "unlike any dose of blur"
    assert str(found["blur"]) == "3 mm (FWHM)"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d["rows"][0].update(leaves_floor=0.1), "it was edited"),
        (lambda d: d["rows"][0].update(monotone=False), "it was edited"),
        (lambda d: d["rows"][0].update(path="x"), "path: Extra inputs"),
        (lambda d: d.update(schema_version=3), "which a newer synthbench wrote"),
        (lambda d: d["rows"].append(d["rows"][0]), "one row per corruption"),
    ],
    ids=["leaves", "monotone", "extra", "schema", "twice"],
)
def test_a_changed_file_is_refused(study, tmp_path, edit, message):
    file = tmp_path / "s.json"
    content = json.loads(study.model_dump_json())
    edit(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ScorecardError, match=message):
        Sensitivity.load(file)


def test_what_is_no_record_is_refused(tmp_path):
    with pytest.raises(ScorecardError, match="cannot be read"):
        Sensitivity.load(tmp_path / "absent.json")
    (tmp_path / "s.json").write_text("{", encoding="utf-8")
    with pytest.raises(ScorecardError, match="not a sensitivity record of schema 2"):
        Sensitivity.load(tmp_path / "s.json")
    (tmp_path / "s.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ScorecardError, match="is not text"):
        Sensitivity.load(tmp_path / "s.json")


# --- table and figure ---------------------------------------------------------------------------


def test_the_table_says_from_which_dose_on(study):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(study))
    lines = console.export_text().splitlines()
    blurred = [line for line in lines if line.startswith("blur, mm (FWHM)")]
    assert [line[15:].strip() for line in blurred] == ["1.3", "0.25 ~", "not seen"]
    modes = next(line for line in lines if line.startswith("dropped modes"))
    assert modes.endswith("0.5 better")
    assert f"real 71 | 35 per side | protocol {PROTOCOL.hash}" in lines[0]
    assert any(line.startswith("~ turns back") for line in lines)


def test_the_figure_is_the_same_bytes_twice(study, tmp_path):
    for name in ("a", "b"):
        figure(study, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert min(picture.shape[:2]) > 300
    with pytest.raises(MetricError, match="no metric 'kid'"):
        figure(study, tmp_path / "c.png", metrics=["kid"])
