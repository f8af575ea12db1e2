"""A run as a source of volumes, with their sidecars."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

import synthbench
from synthbench import registry
from synthbench.cohorts.conditions import Conditions, Row
from synthbench.cohorts.requests import Choice, parse_choices, read_conditions, rows_for
from synthbench.errors import UsageError
from synthbench.generators.generator import Conditional, Guided
from synthbench.runs.folder import Run
from synthbench.runs.licence import licence
from synthbench.runs.sidecar import read_sidecar, sidecar_file
from synthbench.runtime.files import write_atomic
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import quantity
from synthbench.volumes.nifti import nifti_bytes

CLEAN_ABOVE = 0.05
"""What `brain_only` takes for tissue, on the intensity scale of [0, 1]."""


def brain_only(volume: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Set everything outside the brain to exactly zero.

    The brain is the largest face-connected component above `CLEAN_ABOVE`, with its holes filled;
    a volume without a voxel above that is all zero. Intensities inside are not touched.
    """
    labels, count = ndimage.label(volume > CLEAN_ABOVE)
    if count == 0:
        return np.zeros_like(volume)
    sizes = np.bincount(labels.ravel())[1:]
    inside = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
    return np.where(inside, volume, np.float32(0))


@dataclass(frozen=True)
class Source:
    """What the volumes of a call have in common.

    Attributes
    ----------
    run, plugin
        The run, and its generator.
    options
        Sampler and steps as asked for, None being the run's own; guidance where it was asked for.
    space
        The grid of the volumes.
    scale
        What a reader sees for an intensity of 1.
    clean
        Whether `brain_only` is applied.
    conditions
        Of the run; none of an unconditional one.
    origin
        What all sidecars agree on: everything but the seed, the conditions and the cost.
    """

    run: Run
    plugin: Any
    options: Mapping[str, str | int | float | None]
    space: Space
    scale: float
    clean: bool
    conditions: Conditions
    origin: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        run: Run | Path | str,
        sampler: str | None,
        steps: int | None,
        clean: bool,
        guidance: float | None = None,
    ) -> Source:
        """Open a finished run and settle how it samples.

        Raises
        ------
        SynthbenchError
            The run has not finished, or its generator has no such sampler or no guidance.
        """
        run = run if isinstance(run, Run) else Run.open(run)
        if not run.weights_file.is_file():
            run.load_weights()  # raises, and says what to do
        record = run.record
        plugin = registry.load("generators", record["generator"])()
        guided = {} if guidance is None else {"guidance": guidance}
        if guided and not isinstance(plugin, Guided):
            raise UsageError(f"--guidance: {record['generator']} has none. Leave it out.")
        conditions = Conditions.of_run(record)
        if conditions.names and not isinstance(plugin, Conditional):
            raise UsageError(
                f"{run.folder}: its record holds the conditions {', '.join(conditions.names)}, "
                f"but {record['generator']} takes none, so nothing learnt them. Train it again "
                "with conditions=[], or choose another generator."
            )
        affine = np.array(record["space"]["affine"]).reshape(4, 4)
        rule = run.config.get("intensity", "percentile")
        measured = quantity(rule)
        cleaning = f"zero outside the largest component above {CLEAN_ABOVE}, holes filled"
        origin = {
            "synthetic": True,
            "generator": record["generator"],
            **plugin.sampling(run, sampler, steps, **guided),
            "weights_sha256": record["weights_sha256"],
            "training_cohort": record["cohort"]["fingerprint"],
            "training_seconds": record.get("training_seconds"),
            "training_energy_kwh": (record.get("energy") or {}).get("kwh"),
            "licence": licence(record),
            "parameters": record.get("parameters"),
            "software": f"synthbench {synthbench.__version__}",
            "cleaned": cleaning if clean else None,
            **({} if measured is None else {"intensity": rule, "unit": measured.unit}),
        }
        return cls(
            run, plugin, {"sampler": sampler, "steps": steps, **guided},
            Space.of(record["space"]["shape"], affine),
            1.0 if measured is None else measured.scale, clean, conditions, origin,
        )  # fmt: skip

    def unfinished(self) -> list[str]:
        """Return a sentence to say where the run has weights, but was stopped before its end."""
        if self.run.record.get("finished"):
            return []
        return [
            f"{self.run.folder} did not finish: it has weights, and these are used, but its "
            "preview or its model card may be missing. Finish it: synthbench train --resume "
            f"--out {self.run.folder}"
        ]

    def refuse_unconditional(self, options: str) -> None:
        """Raise where the run has no conditions, naming the options that ask for some."""
        if not self.conditions.names:
            raise UsageError(
                f"{self.run.folder}: {self.origin['generator']} was trained without conditions, so "
                f"it can be asked for none: leave out {options}. What a generator is to be asked "
                "for, it is trained on: --set conditions=[age,sex], where it has that setting "
                "(synthbench list generators)."
            )

    def wanted(
        self, table: Path | str | Sequence[Row] | None, choices: Sequence[str]
    ) -> tuple[list[Row] | None, dict[str, Choice]]:
        """Read what a user asks for: the rows of a table, and choices by condition.

        Raises
        ------
        UsageError
            The run is not conditional, or what is asked for is not to be had.
        """
        if table is None and not choices:
            return None, {}
        self.refuse_unconditional("--condition and --conditions")
        if isinstance(table, (str, Path)):
            table = read_conditions(table, self.conditions)
        rows = None if table is None else list(table)
        self.conditions.encode(rows or [])  # raises where a value is not to be had
        return rows, parse_choices(choices, self.conditions)

    def rows(
        self, seeds: Sequence[int], table: Sequence[Row] | None, choices: Mapping[str, Choice]
    ) -> dict[int, Row]:
        """Return the conditions of each seed; see `synthbench.cohorts.requests.rows_for`."""
        made = rows_for(self.conditions, seeds, choices=choices, table=table)
        return dict(zip(seeds, made, strict=True))

    def draw(
        self, seeds: Sequence[int], rows: Sequence[Row]
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume a seed, under its row of conditions where the run is conditional."""
        requested = {"conditions": list(rows)} if self.conditions.names else {}
        volumes: Iterator[Float32[np.ndarray, "d h w"]] = self.plugin.sample(
            self.run, seeds, **self.options, **requested
        )
        return volumes

    def describe(self, out: Path) -> None:
        """Write what makes the folder a BIDS derivative."""
        description = {
            "Name": f"Synthetic volumes from {self.origin['generator']}",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "synthbench", "Version": synthbench.__version__}],
        }
        write_atomic(out / "dataset_description.json", json.dumps(description, indent=1).encode())

    def write(
        self,
        volume: Float32[np.ndarray, "d h w"],
        seed: int,
        file: Path,
        seconds: float,
        row: Row,
        *,
        drawn: Sequence[str] = (),
    ) -> None:
        """Write a volume, then its sidecar: a volume without one is drawn again.

        Parameters
        ----------
        volume
            In [0, 1], as the generator drew it.
        seed, row
            What it was drawn from; the row is empty where the run is not conditional.
        file, seconds
            Where it goes, and what it took.
        drawn
            The conditions that nobody asked for.
        """
        shown = brain_only(volume) if self.clean else volume
        requested = {
            "conditions": dict(row),
            "extrapolated": list(self.conditions.extrapolated(row)),
            "drawn": list(drawn),
        }
        about = {
            **self.origin,
            "seed": seed,
            **(requested if self.conditions.names else {}),
            "seconds": round(seconds, 3),
        }
        write_atomic(file, nifti_bytes(shown, self.space, "SYNTHETIC: synthbench", self.scale))
        write_atomic(sidecar_file(file), json.dumps(about, indent=1).encode())

    def drew(self, file: Path, row: Row | None) -> bool:
        """Whether a volume and its sidecar are of this source, and of this row if one is given.

        Returns
        -------
        True where they are, False where one of both is not there.

        Raises
        ------
        UsageError
            They are there, and of another origin or of other conditions.
        """
        if not (file.is_file() and sidecar_file(file).is_file()):
            return False
        found = read_sidecar(file)
        differs = _differences(found, self.origin)
        if row and found.get("conditions") != row:
            differs.append("other conditions")
        if differs:
            raise UsageError(f"{file}: already there with {', '.join(differs)}. Use another --out.")
        return True


_OF_THE_RUN = (
    "weights_sha256", "training_cohort", "training_seconds", "training_energy_kwh", "licence",
    "parameters", "intensity", "unit",
)  # fmt: skip
_SHOWN = {
    "generator": "generator",
    "sampler": "sampler",
    "steps": "number of steps",
    "guidance": "guidance",
    "software": "version",
}


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in words how the sidecar of a volume differs from the origin of those to be drawn."""
    keys = [key for key, value in wanted.items() if found.get(key) != value]
    words = [
        f"another {_SHOWN[key]} ({found.get(key)}, not {wanted[key]})"
        for key in keys
        if key in _SHOWN
    ]
    if "weights_sha256" in keys:
        words.append("the weights of another run")
    elif of_run := [key.replace("_", " ") for key in keys if key in _OF_THE_RUN]:
        words.append(f"another record of the run ({', '.join(of_run)})")
    if "cleaned" in keys:
        words.append("another cleaning" if found.get("cleaned") and wanted["cleaned"]
                     else "--clean" if found.get("cleaned") else "no --clean")  # fmt: skip
    known = (*_SHOWN, *_OF_THE_RUN, "cleaned")
    return words + [f"another {key.replace('_', ' ')}" for key in keys if key not in known]
