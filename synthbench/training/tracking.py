"""Experiment trackers: a run's numbers, sent to TensorBoard, Weights & Biases or MLflow.

The trackers are Accelerate's. `RUN/loss.csv` and the other logs are written with or without them. A
tracker that fails during a run gets no more values, with a warning.

RUN/trackers/tensorboard/   event files
RUN/trackers/wandb/         wandb's files; with WANDB_MODE=offline all data
RUN/trackers/mlflow.db      MLflow's store, unless MLFLOW_TRACKING_URI names another
RUN/trackers/ids.json       names of this run at the services, so that a resumed run continues them
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthbench.errors import UsageError, near_miss
from synthbench.runtime.documents import json_fields
from synthbench.runtime.files import is_held, write_atomic

log = logging.getLogger("synthbench")

PROJECT = "synthbench"
INSTALL = "pip install 'synthbench[trackers]'"

Scalar = bool | int | float | str


def check_trackers(names: Sequence[str]) -> None:
    """Raise where a tracker is unknown or its package is missing; nothing is imported.

    Raises
    ------
    UsageError
        The message names the nearest tracker, or the command that installs it.
    """
    for name in names:
        if name not in _STARTED_BY:
            raise UsageError(f"--track {name}: no such tracker: {near_miss(name, _STARTED_BY)}")
        if find_spec(name) is None:
            raise UsageError(
                f"--track {name}: the package {name} is not installed. Install it: {INSTALL}"
            )


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Return nested settings as one level of names; a value that is no scalar becomes JSON text.

    >>> flattened({"space": {"shape": [48, 56, 48]}, "steps": 400, "epochs": None})
    {'space.shape': '[48, 56, 48]', 'steps': 400, 'epochs': 'null'}
    """
    flat: dict[str, Scalar] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{key}."))
        elif isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, default=str)
    return flat


@dataclass
class Tracker:
    """Sends a run's values to any number of services; to none in processes but the main one.

    Attributes
    ----------
    services
        Accelerate's trackers by name; all are started.
    """

    services: dict[str, Any] = field(default_factory=dict)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of a step; values that are not finite are left out.

        Parameters
        ----------
        step
            Optimizer steps done. Services expect that it never decreases.
        values
            Values by name, such as `{"loss": 0.02, "validation/early": 0.01}`.
        """
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if finite:
            self._each(f"step {step}", lambda service: service.log(finite, step=step))

    def close(self) -> None:
        """Finish every service's record."""
        self._each("the end", lambda service: service.finish())
        self.services.clear()

    def _each(self, when: str, call: Callable[[Any], None]) -> None:
        for name, service in list(self.services.items()):
            try:
                call(service)
            # Any error: hours of training must not be lost because a service fails.
            except Exception as error:
                del self.services[name]
                log.warning(
                    "tracker %s failed at %s (%s): it gets no more values; the run's own files are "
                    "complete",
                    name, when, error,
                )  # fmt: skip


@contextmanager
def trackers(
    names: Sequence[str], run_folder: Path, config: Mapping[str, Any], *, first_step: int = 0
) -> Iterator[Tracker]:
    """Start trackers, yield a `Tracker` that sends values to them, and finish them.

    A resumed run continues its record: in the same folder, and with the same name at services that
    give one.

    Parameters
    ----------
    names
        Names from "tensorboard", "wandb" and "mlflow"; a repeated name counts once.
    run_folder
        Files go to its subfolder `trackers`; its name is the run's name.
    config
        Settings, sent as hyperparameters.
    first_step
        Steps of the run before this session.

    Raises
    ------
    UsageError
        A tracker is unknown, not installed, or does not start.
    """
    check_trackers(names)
    tracker = Tracker()
    # Without trackers neither their packages nor torch, which knows the main process, is imported.
    if names and _is_main():
        folder = run_folder / "trackers"
        is_held(folder / "events")
        folder.mkdir(parents=True, exist_ok=True)
        for name in dict.fromkeys(names):
            tracker.services[name] = _started(name, run_folder, config, first_step)
    try:
        yield tracker
    finally:
        tracker.close()


def _is_main() -> bool:
    from synthbench.runtime.processes import is_main

    return is_main()


def _started(name: str, run_folder: Path, config: Mapping[str, Any], first_step: int) -> Any:
    ids = _Identities(run_folder / "trackers" / "ids.json")
    known = ids.read()
    try:
        service, identity = _STARTED_BY[name](run_folder, known.get(name), first_step)
        if name not in known:
            service.store_init_configuration(flattened(config))
            ids.write({**known, name: identity})
    # Each service has its own errors, for example without an account, a server or a file.
    except Exception as error:
        raise UsageError(
            f"--track {name}: it does not start: {error}\n{_REMEDY[name]}, or leave --track out."
        ) from error
    return service


@dataclass(frozen=True)
class _Identities:
    """The names of a run at the services; with them a resumed run is no new run there."""

    file: Path

    def read(self) -> dict[str, str]:
        if not self.file.is_file():
            return {}
        fix = "Delete it: the services then start a new run."
        found = json_fields(self.file, error=UsageError, fix=fix)
        for name, identity in found.items():
            if not isinstance(identity, str):
                raise UsageError(f"{self.file}: {name}: a text is needed. {fix}")
        return found

    def write(self, identities: Mapping[str, str]) -> None:
        write_atomic(self.file, json.dumps(dict(identities), indent=1).encode())


# ---------------------------------------------------------------- one function per service


def _tensorboard(run_folder: Path, known: str | None, first_step: int) -> tuple[Any, str]:
    from accelerate.tracking import TensorBoardTracker

    # A killed run did steps after its last checkpoint. They are done again, so they are removed.
    purge = {"purge_step": first_step + 1} if known else {}
    service = TensorBoardTracker("tensorboard", run_folder / "trackers", **purge)
    service.start()
    return service, "tensorboard"


def _wandb(run_folder: Path, known: str | None, first_step: int) -> tuple[Any, str]:
    from accelerate.tracking import WandBTracker

    folder = str(run_folder / "trackers")
    service = WandBTracker(PROJECT, name=run_folder.name, dir=folder, id=known, resume="allow")
    service.start()
    return service, service.tracker.id


def _mlflow(run_folder: Path, known: str | None, first_step: int) -> tuple[Any, str]:
    import mlflow
    from accelerate.tracking import MLflowTracker

    artifacts = None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        folder = (run_folder / "trackers").resolve()
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        artifacts = (folder / "mlflow").as_uri()
    service = MLflowTracker(PROJECT, logging_dir=artifacts, run_id=known, run_name=run_folder.name)
    service.start()
    return service, service.tracker.info.run_id


_REMEDY = {
    "tensorboard": f"Update it: {INSTALL}",
    "wandb": "Log in (wandb login), or keep the data on this machine: WANDB_MODE=offline",
    "mlflow": "Check MLFLOW_TRACKING_URI; without it, the data stays on this machine",
}
_STARTED_BY: dict[str, Callable[[Path, str | None, int], tuple[Any, str]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
