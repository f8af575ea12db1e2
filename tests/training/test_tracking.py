"""Trackers: TensorBoard for real where it is installed, the services behind stand-ins."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

from synthbench.errors import UsageError
from synthbench.training import tracking
from synthbench.training.tracking import Tracker, check_trackers, flattened, trackers

CONFIG = {"steps": 3, "space": {"shape": [4, 4, 4]}, "epochs": None, "flip": True}


class Recorder:
    """What Accelerate's trackers can do, kept in a list."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def store_init_configuration(self, values):
        self.calls.append(("config", values))

    def log(self, values, step):
        if step == self.fails_at:
            raise ConnectionError("server gone")
        self.calls.append((step, values))

    def finish(self):
        self.calls.append("finish")


@pytest.fixture
def services(monkeypatch):
    """Stand-ins by name for every service; what each is started with is kept beside them."""
    made, started = {}, []
    monkeypatch.setattr(tracking, "find_spec", lambda name: object())

    def start(name):
        def call(run_folder, known, first_step):
            started.append((name, run_folder.name, known, first_step))
            made[name] = Recorder()
            return made[name], f"{name}-id"

        return call

    for name in tracking._STARTED_BY:
        monkeypatch.setitem(tracking._STARTED_BY, name, start(name))
    return SimpleNamespace(made=made, started=started)


def test_settings_become_one_level_of_scalars():
    assert flattened(CONFIG) == {
        "steps": 3, "space.shape": "[4, 4, 4]", "epochs": "null", "flip": True,
    }  # fmt: skip


def test_numbers_go_to_every_tracker_that_was_asked_for(services, tmp_path):
    with trackers(["wandb", "mlflow", "wandb"], tmp_path, CONFIG) as tracker:
        tracker.log(1, {"loss": 0.5, "score": float("nan")})
        tracker.log(2, {"score": float("inf")})
    expected = [("config", flattened(CONFIG)), (1, {"loss": 0.5}), "finish"]
    assert {name: service.calls for name, service in services.made.items()} == {
        "wandb": expected, "mlflow": expected,
    }  # fmt: skip


def test_a_resumed_run_keeps_its_identity_and_sends_its_settings_once(services, tmp_path):
    with trackers(["mlflow"], tmp_path, CONFIG):
        pass
    with trackers(["mlflow", "wandb"], tmp_path, CONFIG, first_step=7):
        pass
    assert services.started == [
        ("mlflow", tmp_path.name, None, 0),
        ("mlflow", tmp_path.name, "mlflow-id", 7),
        ("wandb", tmp_path.name, None, 7),
    ]
    assert services.made["mlflow"].calls == ["finish"]
    assert services.made["wandb"].calls[0][0] == "config"


def test_trackers_are_finished_when_training_fails(services, tmp_path):
    with pytest.raises(ZeroDivisionError), trackers(["wandb"], tmp_path, CONFIG):
        raise ZeroDivisionError
    assert services.made["wandb"].calls[-1] == "finish"


def test_only_the_main_process_tracks(services, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_is_main", lambda: False)
    with trackers(["wandb"], tmp_path, CONFIG) as tracker:
        tracker.log(1, {"loss": 0.5})
    assert services.started == []
    assert list(tmp_path.iterdir()) == []


def test_nobody_asked_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_is_main", lambda: pytest.fail("asked for the main process"))
    with trackers([], tmp_path, CONFIG) as tracker:
        tracker.log(1, {"loss": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(caplog):
    gone, well = Recorder(fails_at=2), Recorder()
    tracker = Tracker({"gone": gone, "well": well})
    for step in (1, 2, 3):
        tracker.log(step, {"loss": 1.0})
    tracker.close()
    assert gone.calls == [(1, {"loss": 1.0})]
    assert well.calls == [(step, {"loss": 1.0}) for step in (1, 2, 3)] + ["finish"]
    assert "tracker gone failed at step 2 (server gone)" in caplog.text


def test_an_unknown_tracker_is_refused_with_the_closest():
    with pytest.raises(UsageError, match="no such tracker: did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])


def test_a_missing_package_is_named_with_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with (
        pytest.raises(UsageError, match=r"wandb is not installed. .*'synthbench\[trackers\]'"),
        trackers(["wandb"], tmp_path, CONFIG),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "remedy"), [("wandb", "WANDB_MODE=offline"), ("mlflow", "MLFLOW_TRACKING_URI")]
)
def test_a_service_that_does_not_start_says_what_to_do(
    services, tmp_path, monkeypatch, name, remedy
):
    def refuse(run_folder, known, first_step):
        raise RuntimeError("no account")

    monkeypatch.setitem(tracking._STARTED_BY, name, refuse)
    with pytest.raises(UsageError) as raised, trackers([name], tmp_path, CONFIG):
        pass
    assert "no account" in str(raised.value)
    assert remedy in str(raised.value)


class FakeAccelerate:
    """Stands in for one of Accelerate's tracker classes, and keeps its arguments."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options, self.is_started = arguments, options, False
        self.tracker = SimpleNamespace(id="w1", info=SimpleNamespace(run_id="m1"))

    def start(self):
        self.is_started = True


def test_wandb_writes_into_the_run_folder_and_resumes_by_its_id(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.WandBTracker", FakeAccelerate)
    service, identity = tracking._wandb(tmp_path / "run", "w1", 5)
    assert service.is_started
    assert identity == "w1"
    assert service.arguments == ("synthbench",)
    assert service.options == {
        "name": "run", "dir": str(tmp_path / "run" / "trackers"), "id": "w1", "resume": "allow",
    }  # fmt: skip


@pytest.mark.parametrize("server", [None, "http://server"])
def test_mlflow_stays_in_the_run_folder_unless_a_server_is_named(tmp_path, monkeypatch, server):
    uris: list[str] = []
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(set_tracking_uri=uris.append))
    monkeypatch.setattr("accelerate.tracking.MLflowTracker", FakeAccelerate)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    service, identity = tracking._mlflow(tmp_path / "run", None, 0)
    assert identity == "m1"
    assert service.options["run_name"] == "run"
    if server:
        assert uris == []
        assert service.options["logging_dir"] is None
    else:
        assert uris == [f"sqlite:///{tmp_path}/run/trackers/mlflow.db"]
        assert service.options["logging_dir"] == f"file://{tmp_path}/run/trackers/mlflow"


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_tensorboard_holds_each_step_once_after_a_resume(tmp_path):
    """Steps 1 to 3, killed, resumed after step 2: TensorBoard's own reader sees 1, 2, 3', 4."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with trackers(["tensorboard"], tmp_path, CONFIG) as tracker:
        for step, loss in ((1, 0.5), (2, 0.25), (3, 99.0)):
            tracker.log(step, {"loss": loss})
    with trackers(["tensorboard"], tmp_path, CONFIG, first_step=2) as tracker:
        for step, loss in ((3, 0.125), (4, 0.0625)):
            tracker.log(step, {"loss": loss})
    reader = EventAccumulator(str(tmp_path / "trackers" / "tensorboard"))
    reader.Reload()
    found = [(event.step, event.value) for event in reader.Scalars("loss")]
    assert found == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)]
    saved = list((tmp_path / "trackers" / "tensorboard").glob("*/hparams.yml"))
    assert len(saved) == 1
    assert json.loads((tmp_path / "trackers" / "ids.json").read_text(encoding="utf-8")).keys() == {
        "tensorboard"
    }
