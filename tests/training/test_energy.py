"""Energy and GPU time, with a stand-in for codecarbon."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from synthbench.errors import UsageError
from synthbench.training import energy
from synthbench.training.energy import Meter, add, check_meter, gpu_hours, method


class Codecarbon:
    """Hands a reading to its handlers at each flush: 1, 2, 3 ... Wh, a third for each part."""

    def __init__(self, output_handlers, silent_after=None, **options):
        self.handlers, self.options = output_handlers, options
        self.flushes, self.silent_after, self.stopped = 0, silent_after, False

    def start(self): ...

    def flush(self):
        self.flushes += 1
        if self.silent_after is not None and self.flushes > self.silent_after:
            return
        kwh = self.flushes / 1000
        total = SimpleNamespace(
            energy_consumed=kwh, cpu_energy=kwh / 3, gpu_energy=kwh / 3, ram_energy=kwh / 3,
            duration=60.0 * self.flushes, gpu_count=2, codecarbon_version="9.9",
        )  # fmt: skip
        for handler in self.handlers:
            handler.out(total, None)

    def stop(self):
        self.stopped = True


@pytest.fixture
def codecarbon(monkeypatch):
    """Install the stand-in, and return those that were made and what they are made with."""
    made: list[Codecarbon] = []
    options: dict[str, int] = {}

    def make(**given):
        made.append(Codecarbon(**given, **options))
        return made[-1]

    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(OfflineEmissionsTracker=make))
    monkeypatch.setattr(energy, "find_spec", lambda name: object())
    return SimpleNamespace(made=made, options=options)


def test_a_reading_is_what_codecarbon_measured(codecarbon):
    """One flush on entry, one for the reading: 2 Wh in 120 s; four GPUs for 120 s are 4/30 h."""
    with Meter(gpus=4) as meter:
        reading = meter.reading()
    assert reading["kwh"] == pytest.approx(0.002)
    assert sum(reading[f"kwh_{part}"] for part in ("cpu", "gpu", "memory")) == pytest.approx(0.002)
    assert reading["seconds"] == 120
    assert reading["gpu_hours"] == pytest.approx(4 / 30)
    assert reading["sessions"] == 1
    assert codecarbon.made[0].stopped
    assert codecarbon.made[0].options["output_methods"] == []


def test_readings_grow_and_are_not_deltas(codecarbon):
    with Meter() as meter:
        first, second = meter.reading(), meter.reading()
    assert second["kwh"] == pytest.approx(1.5 * first["kwh"])


def test_sessions_add_up(codecarbon):
    """2 Wh from each of three sessions; a method is named once."""
    record = None
    for _ in range(3):
        with Meter(gpus=1) as meter:
            record = add(record, meter.reading())
    assert record is not None
    assert record["kwh"] == pytest.approx(0.006)
    assert record["seconds"] == 360
    assert record["gpu_hours"] == pytest.approx(0.1)
    assert record["sessions"] == 3
    assert len(record["methods"]) == 1


def test_add_changes_neither_record():
    old = {"kwh": 1.0, "methods": ["a"]}
    new = {"kwh": 2.0, "methods": ["b", "a"]}
    assert add(old, new) == {"kwh": 3.0, "methods": ["a", "b"]}
    assert (old, new) == ({"kwh": 1.0, "methods": ["a"]}, {"kwh": 2.0, "methods": ["b", "a"]})
    assert add(None, new) == new
    assert add(old, {}) == old


def test_the_meter_stops_when_training_fails(codecarbon):
    with pytest.raises(ZeroDivisionError), Meter():
        raise ZeroDivisionError
    assert codecarbon.made[0].stopped


def test_only_the_main_process_measures(codecarbon, monkeypatch):
    monkeypatch.setattr("synthbench.runtime.processes.is_main", lambda: False)
    with Meter() as meter:
        assert meter.reading() == {}
    assert codecarbon.made == []


def test_a_meter_without_readings_is_an_error(codecarbon):
    """Its errors are swallowed where they happen: silence is all there is to notice."""
    codecarbon.options["silent_after"] = 0
    with pytest.raises(UsageError, match="codecarbon gave no reading"), Meter():
        pass


def test_readings_that_cease_are_said(codecarbon, caplog):
    codecarbon.options["silent_after"] = 2
    with Meter() as meter:
        first = meter.reading()
        assert meter.reading() == first
    assert "no new reading" in caplog.text


def test_a_missing_package_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"'synthbench\[energy\]'"):
        check_meter()
    with pytest.raises(UsageError, match="codecarbon is not installed"), Meter():
        pass


def test_the_method_says_what_was_measured_and_what_estimated(tmp_path):
    total = SimpleNamespace(gpu_count=0, codecarbon_version="9.9")
    words = method(total, powercap=tmp_path)
    assert "CPU estimated from its load and rated power" in words
    assert "no GPU" in words
    assert "the whole machine" in words
    counter = tmp_path / "intel-rapl:0" / "energy_uj"
    counter.parent.mkdir()
    counter.write_text("12345", encoding="utf-8")
    total.gpu_count = 2
    words = method(total, machines=3, powercap=tmp_path)
    assert "CPU from RAPL counters" in words
    assert "GPU from its driver's counters" in words
    assert "1 of 3 machines" in words


def test_gpu_hours_count_every_gpu_for_the_whole_time():
    """Four GPUs for 90 minutes."""
    assert gpu_hours(5400, gpus=4) == 6
