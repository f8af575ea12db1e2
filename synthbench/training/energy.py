"""The electricity and GPU time of a run, summed over its sessions.

codecarbon measures the energy, without its network calls. On a machine whose energy counters cannot
be read, codecarbon estimates instead. The record says which of both it was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from synthbench.errors import UsageError

log = logging.getLogger("synthbench")

INSTALL = "pip install 'synthbench[energy]'"
SUMMED = ("kwh", "kwh_cpu", "kwh_gpu", "kwh_memory", "seconds", "gpu_hours", "sessions")


def add(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of two sessions together.

    Numbers are summed; the methods are listed once each, in order of their first use.

    >>> first = {"kwh": 1.5, "seconds": 60.0, "methods": ["RAPL"]}
    >>> add(first, {"kwh": 0.5, "seconds": 30.0, "methods": ["estimate"]})
    {'kwh': 2.0, 'seconds': 90.0, 'methods': ['RAPL', 'estimate']}
    """
    if not old or not new:
        return dict(old or new)
    methods = list(dict.fromkeys([*old["methods"], *new["methods"]]))
    sums = {key: old.get(key, 0) + new.get(key, 0) for key in SUMMED if key in old or key in new}
    return {**sums, "methods": methods}


def gpu_hours(seconds: float, gpus: int) -> float:
    """Return the hours that a run held its GPUs, summed over them, busy or not.

    >>> gpu_hours(1800, gpus=4)
    2.0
    """
    return seconds * gpus / 3600


def check_meter() -> None:
    """Raise where codecarbon is missing; nothing is imported.

    Raises
    ------
    UsageError
        codecarbon is missing; the message has the command that installs it.
    """
    if find_spec("codecarbon") is None:
        raise UsageError(f"--energy: the package codecarbon is not installed: {INSTALL}")


class Meter:
    """Context manager: measures the energy of this machine, and the GPU time of all processes.

    Only the main process measures; in the others `reading` is empty.

    Parameters
    ----------
    gpus
        Number of GPUs of the run, on all machines.
    machines
        Number of machines of the run; only the energy of the first is measured.

    Raises
    ------
    UsageError
        On entry: codecarbon is not installed, or gives no readings.
    """

    def __init__(self, gpus: int = 0, machines: int = 1) -> None:
        self.gpus = gpus
        self.machines = machines
        self._tracker: Any = None
        self._totals = _Totals()

    def __enter__(self) -> Meter:
        check_meter()
        from synthbench.runtime.processes import is_main

        if is_main():
            self._tracker = _codecarbon(self._totals)
            self._tracker.start()
            if not self._refreshed():
                raise UsageError(
                    "--energy: codecarbon gave no reading; it printed the reason above. Leave "
                    f"--energy out, or update codecarbon: {INSTALL}"
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tracker is not None:
            self._tracker.stop()

    def reading(self) -> dict[str, Any]:
        """Return the energy and time since the meter was entered.

        Returns
        -------
        dict
            `kwh` and its parts `kwh_cpu`, `kwh_gpu` and `kwh_memory`; `seconds` of measurement;
            `gpu_hours`; `sessions`, 1; and `methods`, a text on how it was measured. Empty on all
            processes but the main one. `add` sums it with earlier sessions.
        """
        if self._tracker is None:
            return {}
        if not self._refreshed():
            log.warning("codecarbon gave no new reading: the energy is that of its last reading")
        total = self._totals.latest
        seconds = float(total.duration)
        return {
            "kwh": float(total.energy_consumed),
            "kwh_cpu": float(total.cpu_energy),
            "kwh_gpu": float(total.gpu_energy),
            "kwh_memory": float(total.ram_energy),
            "seconds": seconds,
            "gpu_hours": gpu_hours(seconds, self.gpus),
            "sessions": 1,
            "methods": [method(total, self.machines)],
        }

    def _refreshed(self) -> bool:
        """Ask for a reading; return True where one came. codecarbon hides its own errors."""
        before = self._totals.count
        self._tracker.flush()
        return self._totals.count > before


def method(total: Any, machines: int = 1, powercap: Path = Path("/sys/class/powercap")) -> str:
    """Return a text on how the energy was measured.

    Parameters
    ----------
    total
        codecarbon's `EmissionsData`.
    machines
        Number of machines of the run.
    powercap
        Folder in which Linux shows the processor's energy counters.
    """
    counters = powercap.glob("intel-rapl*/energy_uj")
    cpu = (
        "CPU from RAPL counters"
        if any(os.access(counter, os.R_OK) for counter in counters)
        else "CPU estimated from its load and rated power (no RAPL counter can be read)"
    )
    gpu = "GPU from its driver's counters" if total.gpu_count else "no GPU"
    where = "the whole machine" if machines == 1 else f"the whole of 1 of {machines} machines"
    return (
        f"codecarbon {total.codecarbon_version}: {cpu}; {gpu}; "
        f"memory estimated from its size; {where}"
    )


class _Totals:
    """An output of codecarbon: it keeps the newest reading."""

    def __init__(self) -> None:
        self.latest: Any = None
        self.count = 0

    def out(self, total: Any, delta: Any) -> None:
        self.latest = total
        self.count += 1

    def live_out(self, total: Any, delta: Any) -> None: ...

    def task_out(self, data: Any, experiment_name: str, output_dir: str) -> None: ...

    def exit(self) -> None: ...


def _codecarbon(totals: _Totals) -> Any:
    from codecarbon import OfflineEmissionsTracker

    # codecarbon logs its start before it reads `log_level`.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    return OfflineEmissionsTracker(
        output_methods=[],  # no emissions.csv in the working folder
        output_handlers=[totals],
        allow_multiple_runs=True,
        log_level="error",
        tracking_mode="machine",
    )
