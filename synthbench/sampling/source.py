"""A run as a source of volumes, with their sidecars."""

from __future__ import annotations

import json
import logging
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
from synthbench.generators.generator import Conditional, Guided, SampledInPrecision, has_random_fit
from synthbench.generators.unfinished import check_sampled, warning, with_weights
from synthbench.runs.collapse import collapse_of
from synthbench.runs.configuration import method
from synthbench.runs.folder import Run
from synthbench.runs.licence import licence
from synthbench.runs.seal import seal_folder
from synthbench.runs.sidecar import GridFields, read_sidecar, sidecar_file
from synthbench.runtime import tar
from synthbench.runtime.callbacks import Log
from synthbench.runtime.files import write_atomic
from synthbench.sampling.watermark import WatermarkKey, check_grid, mark
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import quantity
from synthbench.volumes.nifti import nifti_bytes

log = logging.getLogger("synthbench")

CLEAN_ABOVE = 0.05
"""Intensity in [0, 1] above which `brain_only` takes a voxel for tissue."""


def brain_only(volume: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Return the volume with exactly zero outside the brain; inside it is unchanged.

    The brain is the largest face-connected component above `CLEAN_ABOVE`, with its holes filled. A
    volume without a voxel above that becomes all zero.
    """
    labels, count = ndimage.label(volume > CLEAN_ABOVE)
    if count == 0:
        return np.zeros_like(volume)
    sizes = np.bincount(labels.ravel())[1:]
    inside = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
    return np.where(inside, volume, np.float32(0))


@dataclass(frozen=True)
class Source:
    """All that the volumes of one call have in common.

    Attributes
    ----------
    run, plugin
        The run, and its generator.
    options
        Requested sampler and steps, None for the run's own; guidance and precision where they are
        requested.
    space
        The grid of the volumes.
    scale
        The value that an intensity of 1 has in the file.
    clean
        True where `brain_only` is applied.
    conditions
        Conditions of the run; empty for an unconditional run.
    origin
        The fields that all sidecars share: all but the seed, the conditions and the time.
    watermark
        The key whose mark the volumes get; None: none.
    """

    run: Run
    plugin: Any
    options: Mapping[str, str | int | float | None]
    space: Space
    scale: float
    clean: bool
    conditions: Conditions
    origin: Mapping[str, Any]
    watermark: WatermarkKey | None = None

    @classmethod
    def of(
        cls,
        run: Run | Path | str,
        sampler: str | None,
        steps: int | None,
        clean: bool,
        guidance: float | None = None,
        watermark: WatermarkKey | None = None,
        precision: str | None = None,
    ) -> Source:
        """Return the source of a run with these options.

        A run that has not finished gives the weights of its newest good checkpoint.

        Raises
        ------
        SynthbenchError
            The run has no weights and no checkpoint, its generator has no such sampler or
            precision or no guidance, or its grid is too coarse for a watermark.
        """
        run = run if isinstance(run, Run) else Run.open(run)
        record = run.record
        plugin = registry.load("generators", record["generator"])()
        run = with_weights(run, plugin)
        check_sampled(run)
        asked: dict[str, float | str] = {}
        for option, value, takes_it in (
            ("guidance", guidance, isinstance(plugin, Guided)),
            ("precision", precision, isinstance(plugin, SampledInPrecision)),
        ):
            if value is not None:
                asked[option] = value
                if not takes_it:
                    raise UsageError(
                        f"--{option}: {record['generator']} has none to choose. Leave it out."
                    )
        conditions = Conditions.of_run(record)
        if conditions.names and not isinstance(plugin, Conditional):
            raise UsageError(
                f"{run.folder}: its record holds the conditions {', '.join(conditions.names)}, "
                f"but {record['generator']} takes none, so nothing learnt them. Train it again "
                "with conditions=[], or choose another generator."
            )
        affine = np.array(record["space"]["affine"]).reshape(4, 4)
        space = Space.of(record["space"]["shape"], affine)
        if watermark is not None:
            check_grid(space)
        rule = run.config.get("intensity", "percentile")
        measured = quantity(rule)
        cleaning = f"zero outside the largest component above {CLEAN_ABOVE}, holes filled"
        origin = {
            "synthetic": True,
            "generator": record["generator"],
            **plugin.sampling(run, sampler, steps, **asked),
            "weights_sha256": run.weights_sha256,
            "grid": GridFields.of(space),
            "method": method(run.config),
            "training_seed": run.config.get("seed"),
            "random_fit": has_random_fit(plugin),
            **_stopped_at(run),
            "training_cohort": record["cohort"]["fingerprint"],
            "training_seconds": record.get("training_seconds")
            if run.unfinished is None
            else round(run.unfinished.seconds, 1),
            "training_energy_kwh": (record.get("energy") or {}).get("kwh"),
            "licence": licence(record),
            "parameters": record.get("parameters"),
            "software": f"synthbench {synthbench.__version__}",
            "cleaned": cleaning if clean else None,
            **({} if measured is None else {"intensity": rule, "unit": measured.unit}),
            **({} if watermark is None else {"watermark": watermark.fields}),
        }
        return cls(
            run, plugin, {"sampler": sampler, "steps": steps, **asked},
            space,
            1.0 if measured is None else measured.scale, clean, conditions, origin,
            watermark,
        )  # fmt: skip

    def warnings(self) -> list[str]:
        """Return messages on a run that was stopped before its end, or whose samples collapsed."""
        collapsed = collapse_of(self.run.record)
        found = [] if collapsed is None else [f"{self.run.folder}: {collapsed}."]
        return [*self._unfinished(), *found]

    def _unfinished(self) -> list[str]:
        if self.run.unfinished is not None:
            return [warning(self.run)]
        if self.run.record.get("finished"):
            return []
        return [
            f"{self.run.folder} did not finish. Its weights are used, but its preview or its model "
            f"card may be missing. Finish it: synthbench train --resume --out {self.run.folder}"
        ]

    def refuse_unconditional(self, options: str) -> None:
        """Raise where the run has no conditions; the message says to leave out these options."""
        if not self.conditions.names:
            raise UsageError(
                f"{self.run.folder}: {self.origin['generator']} was trained without conditions, so "
                f"none can be requested: leave out {options}. To request conditions, train a "
                "generator that has the setting `conditions` with --set conditions=[age,sex] "
                "(synthbench list generators)."
            )

    def wanted(
        self, table: Path | str | Sequence[Row] | None, choices: Sequence[str]
    ) -> tuple[list[Row] | None, dict[str, Choice]]:
        """Return what a user requests: the rows of a table or None, and choices by condition.

        Raises
        ------
        UsageError
            The run is not conditional, or it has no such condition or level.
        """
        if table is None and not choices:
            return None, {}
        self.refuse_unconditional("--condition and --conditions")
        if isinstance(table, (str, Path)):
            table = read_conditions(table, self.conditions)
        rows = None if table is None else list(table)
        self.conditions.encode(rows or [])  # raises for an unknown condition or level
        return rows, parse_choices(choices, self.conditions)

    def rows(
        self, seeds: Sequence[int], table: Sequence[Row] | None, choices: Mapping[str, Choice]
    ) -> dict[int, Row]:
        """Return the conditions of each seed: from the table, the choices, or drawn by the seed."""
        rows = rows_for(self.conditions, seeds, choices=choices, table=table)
        return dict(zip(seeds, rows, strict=True))

    def draw(
        self, seeds: Sequence[int], rows: Sequence[Row]
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed, with its row of conditions where the run is conditional."""
        requested = {"conditions": list(rows)} if self.conditions.names else {}
        volumes: Iterator[Float32[np.ndarray, "d h w"]] = self.plugin.sample(
            self.run, seeds, **self.options, **requested
        )
        return volumes

    def describe(self, out: Path) -> None:
        """Write `dataset_description.json`, which makes the folder a BIDS derivative."""
        description = {
            "Name": f"Synthetic volumes from {self.origin['generator']}",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "synthbench", "Version": synthbench.__version__}],
        }
        write_atomic(out / "dataset_description.json", json.dumps(description, indent=1).encode())

    def seal(self, out: Path, volumes: Sequence[Path], log: Log) -> None:
        """Seal a folder of this source's volumes (`synthbench.runs.seal.seal_folder`)."""
        seal_folder(out, volumes, run=self.run, generator=self.origin["generator"], log=log)

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
        """Write a volume, then its sidecar. A volume without a sidecar counts as not written.

        Parameters
        ----------
        volume
            The generator's volume, in [0, 1].
        seed, row
            Its seed and its conditions; the row is empty where the run is not conditional.
        file, seconds
            File of the volume, and the time that it took.
        drawn
            Names of the conditions that were not requested.
        """
        content, sidecar = self.content(volume, seed, file, seconds, row, drawn=drawn)
        write_atomic(file, content)
        write_atomic(sidecar_file(file), sidecar)

    def content(
        self,
        volume: Float32[np.ndarray, "d h w"],
        seed: int,
        file: Path,
        seconds: float,
        row: Row,
        *,
        drawn: Sequence[str] = (),
    ) -> tuple[bytes, bytes]:
        """Return the bytes of a volume's file and of its sidecar; the parameters of `write`."""
        # A NIfTI file of integers cannot hold NaN. Zeros are written, and the sidecar says so.
        finite = np.isfinite(volume)
        broken = int(finite.size - finite.sum())
        volume = np.where(finite, volume, np.float32(0)) if broken else volume
        shown = brain_only(volume) if self.clean else volume
        if self.watermark is not None:
            shown = self._marked(shown, file, self.watermark)
        requested = {
            "conditions": dict(row),
            "extrapolated": list(self.conditions.extrapolated(row)),
            "drawn": list(drawn),
        }
        about = {
            **self.origin,
            "seed": seed,
            **(requested if self.conditions.names else {}),
            **({"not_finite": broken} if broken else {}),
            "seconds": round(seconds, 3),
        }
        if broken:
            log.warning(
                "%s: %d of %d voxels of the network's volume are NaN or infinite, and are written "
                "as 0: its training may have diverged", file, broken, volume.size,
            )  # fmt: skip
        content = nifti_bytes(shown, self.space, "SYNTHETIC: synthbench", self.scale)
        return content, json.dumps(about, indent=1).encode()

    def _marked(
        self, volume: Float32[np.ndarray, "d h w"], file: Path, key: WatermarkKey
    ) -> Float32[np.ndarray, "d h w"]:
        marked = mark(volume, self.space, key)
        if not marked.found:
            log.warning(
                "%s: its watermark is too weak to be found (z %.1f): this is no brain of even "
                "brightness, so the mark would have to be stronger than is allowed", file, marked.z,
            )  # fmt: skip
        return marked.volume

    def drew(self, file: Path, row: Row | None) -> bool:
        """Return True where a volume of this source, and of this row, is there with its sidecar.

        An empty row or None is not compared. False: the volume or its sidecar is missing.

        Raises
        ------
        UsageError
            Both are there, but have another origin or other conditions.
        """
        if not (tar.is_file(file) and tar.is_file(sidecar_file(file))):
            return False
        sidecar = read_sidecar(file)
        differs = _differences(sidecar, self.origin)
        if row and sidecar.get("conditions") != row:
            differs.append("other conditions")
        if differs:
            raise UsageError(f"{file}: already there with {', '.join(differs)}. Use another --out.")
        return True


def _stopped_at(run: Run) -> dict[str, int]:
    """Return the field of sidecars that says at which step an unfinished run was sampled."""
    return {} if run.unfinished is None else {"unfinished_at_step": run.unfinished.step}


_OF_THE_RUN = (
    "weights_sha256", "training_cohort", "training_seconds", "training_energy_kwh", "licence",
    "parameters", "intensity", "unit", "unfinished_at_step",
)  # fmt: skip
_NEWER = ("method", "training_seed", "random_fit", "grid")
"""Fields that sidecars of earlier versions lack; the weights tell those apart."""

_SHOWN = {
    "generator": "generator",
    "sampler": "sampler",
    "steps": "number of steps",
    "guidance": "guidance",
    "software": "version",
}


def _differences(sidecar: Mapping[str, Any], origin: Mapping[str, Any]) -> list[str]:
    """Return, for a message, how the sidecar of a volume differs from the origin of new ones."""
    keys = [
        key
        for key, value in origin.items()
        if sidecar.get(key) != value and (key in sidecar or key not in _NEWER)
    ]
    differences = [
        f"another {_SHOWN[key]} ({sidecar.get(key)}, not {origin[key]})"
        for key in keys
        if key in _SHOWN
    ]
    if "weights_sha256" in keys:
        differences.append("the weights of another run, or of another step of this one")
    elif of_run := [key.replace("_", " ") for key in keys if key in _OF_THE_RUN]:
        differences.append(f"another record of the run ({', '.join(of_run)})")
    of_both = [one.get("precision", "fp32") for one in (sidecar, origin)]
    if of_both[0] != of_both[1]:
        differences.append(f"another precision ({of_both[0]}, not {of_both[1]})")
    if sidecar.get("watermark") != origin.get("watermark"):
        differences.append(_marks(sidecar.get("watermark"), origin.get("watermark")))
    if "cleaned" in keys:
        differences.append("another cleaning" if sidecar.get("cleaned") and origin["cleaned"]
                           else "--clean" if sidecar.get("cleaned") else "no --clean")  # fmt: skip
    known = (*_SHOWN, *_OF_THE_RUN, "cleaned", "watermark", "precision")
    return differences + [f"another {key.replace('_', ' ')}" for key in keys if key not in known]


def _marks(there: object, wanted: object) -> str:
    """Return, for a message, which watermark a volume has that is not the wanted one."""
    if there is None:
        return "no watermark"
    return "a watermark" if wanted is None else "the watermark of another key"
