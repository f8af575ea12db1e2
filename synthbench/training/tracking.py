"""Experiment trackers: a run's numbers, sent to TensorBoard, Weights & Biases or MLflow.

The trackers are Accelerate's. `RUN/loss.csv` and its like are written with or without them; a
tracker that fails in the middle of a run is left out from there on, with a warning.

RUN/trackers/tensorboard/   event files
RUN/trackers/wandb/         what wandb keeps; with WANDB_MODE=offline all there is
RUN/trackers/mlflow.db      MLflow's store, unless MLFLOW_TRACKING_URI names another
RUN/trackers/ids.json       which experiment of the service this run is, for its resumption
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
from synthbench.runtime.files import write_atomic

log = logging.getLogger("synthbench")

PROJECT = "synthbench"
INSTALL = "pip install 'synthbench[trackers]'"

Scalar = bool | int | float | str


def check_trackers(names: Sequence[str]) -> None:
    """Raise where a tracker is unknown or its package is missing; nothing is imported.

    Raises
    ------
    UsageError
        It names the closest tracker, or what to install.
    """
    for name in names:
        if name not in _STARTED_BY:
            raise UsageError(f"--track {name}: no such tracker: {near_miss(name, _STARTED_BY)}")
        if find_spec(name) is None:
            raise UsageError(
                f"--track {name}: the package {name} is not installed. Install it: {INSTALL}"
            )


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Return nested settings as one level of names; what is no scalar becomes JSON text.

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
    """Where a run's numbers go: any number of services, none on all but the main process.

    Attributes
    ----------
    services
        Accelerate's trackers by name, started.
    """

    services: dict[str, Any] = field(default_factory=dict)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers of a step; those that are not finite are left out.

        Parameters
        ----------
        step
            Optimizer steps done. Services expect it never to fall.
        values
            Numbers by name, such as `{"loss": 0.02, "validation/early": 0.01}`.
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
            # Whatever a service raises, hours of training must not be lost to it.
            except Exception as error:
                del self.services[name]
                log.warning(
                    "tracker %s failed at %s (%s): nothing more goes there; the run's own files "
                    "are complete",
                    name, when, error,
                )  # fmt: skip


@contextmanager
def trackers(
    names: Sequence[str], run_folder: Path, config: Mapping[str, Any], *, first_step: int = 0
) -> Iterator[Tracker]:
    """Start trackers, yield what numbers are sent to, and finish them.

    A run that is resumed goes on where it stopped: in the same folder, and under the same
    identity with services that give one.

    Parameters
    ----------
    names
        Of "tensorboard", "wandb" and "mlflow"; one that is named twice is started once.
    run_folder
        Files go to its subfolder `trackers`; its name is the run's name.
    config
        Sent as hyperparameters.
    first_step
        Steps that the run had done before.

    Raises
    ------
    UsageError
        A tracker is unknown, not installed, or does not start.
    """
    check_trackers(names)
    tracker = Tracker()
    # Trackers and torch, which tells the main process, are imported for those who ask for one.
    if names and _is_main():
        folder = run_folder / "trackers"
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
    # Each service raises errors of its own, for want of an account, a server or a file.
    except Exception as error:
        raise UsageError(
            f"--track {name}: it does not start: {error}\n{_REMEDY[name]}, or leave --track out."
        ) from error
    return service


@dataclass(frozen=True)
class _Identities:
    """What services call a run, so that a resumed one is not another."""

    file: Path

    def read(self) -> dict[str, str]:
        return dict(json.loads(self.file.read_text())) if self.file.is_file() else {}

    def write(self, identities: Mapping[str, str]) -> None:
        write_atomic(self.file, json.dumps(dict(identities), indent=1).encode())


# ---------------------------------------------------------------- one function a service


def _tensorboard(run_folder: Path, known: str | None, first_step: int) -> tuple[Any, str]:
    from accelerate.tracking import TensorBoardTracker

    # Steps that a killed run did beyond its checkpoint are done again: the old ones are purged.
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
    "tensorboard": f"Bring it up to date: {INSTALL}",
    "wandb": "Log in (wandb login), or keep it on this machine: WANDB_MODE=offline",
    "mlflow": "Check MLFLOW_TRACKING_URI; unset, it stays on this machine",
}
_STARTED_BY: dict[str, Callable[[Path, str | None, int], tuple[Any, str]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
