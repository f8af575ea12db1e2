"""From volumes to features, by every extractor.

Threads read and resample ahead while the network runs, the cache gives the rows of earlier
runs, and several processes divide the volumes among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from synthbench import registry
from synthbench.errors import MetricError, UsageError, WeightsError
from synthbench.records.protocol import ExtractorRecord, GridRecord
from synthbench.records.values import Missing
from synthbench.runtime.callbacks import Log, Progress, no_progress, shown
from synthbench.runtime.files import sha256_file
from synthbench.runtime.parallel import read_ahead
from synthbench.scoring.cache.keys import row_key
from synthbench.scoring.cache.parts import AllParts
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.sets import Readable, identity_of, name_of

if TYPE_CHECKING:
    from accelerate import PartialState

    from synthbench.metrics.extractors.weights import WeightFile


Volume: TypeAlias = Float32[np.ndarray, "d h w"]
Row: TypeAlias = Float32[np.ndarray, " dim"]

AT_ONCE = 16
"""Volumes in the network at once on a CPU: each takes about 0.3 GB on the paper's grid."""

KEPT_INSIDE = 0.5
"""The least share of a volume's intensity that must lie inside an extractor's own grid."""


@dataclass(frozen=True)
class Extractors:
    """Extractors that are loaded, and why others are not.

    Attributes
    ----------
    loaded
        The loaded ones, by name.
    missing
        Why each of the others is missing, by name.
    records
        The records of all of them, for the protocol.
    """

    loaded: dict[str, Any]
    missing: dict[str, Missing]
    records: list[ExtractorRecord]

    @property
    def names(self) -> list[str]:
        """The names of all, as the extractors define them: a user's file has a name of its own."""
        return [record.name for record in self.records]

    @property
    def untrained(self) -> tuple[str, ...]:
        """The names of those that say that they have random weights (`Extractor`)."""
        return tuple(n for n, found in self.loaded.items() if not getattr(found, "trained", True))


def named_extractors(names: Sequence[str]) -> dict[str, Any]:
    """Return extractors by the names they define, without fetching or loading weights.

    Raises
    ------
    UsageError
        A name is unknown, or two extractors define the same name.
    """
    found: dict[str, Any] = {}
    for requested in dict.fromkeys(names):
        extractor = registry.load("extractors", requested)()
        if extractor.name in found:
            raise UsageError(
                f"--extractor {requested}: another one is named '{extractor.name}' too. Rename "
                "one of the files, and the name in its YAML."
            )
        found[extractor.name] = extractor
    return found


def network_hashes(files: Iterable[Path]) -> frozenset[str]:
    """Return the SHA-256 of network files that a benchmark or a record may name.

    Raises
    ------
    UsageError
        A file cannot be read.
    """
    try:
        return frozenset(sha256_file(file) for file in files)
    except OSError as error:
        raise UsageError(
            f"--allow-network {error.filename}: cannot be read: {error.strerror}. Name the network "
            "file itself."
        ) from error


def check_networks(names: Iterable[str], allowed: frozenset[str]) -> None:
    """Check that a benchmark or a record names no network file but those that are allowed.

    A network runs as a program, and whoever wrote the benchmark chose it.

    Parameters
    ----------
    names
        Names of extractors.
    allowed
        The SHA-256 of network files.

    Raises
    ------
    UsageError
        A name is that of a file (`net:`, `slices:`) with another hash.
    """
    for name in names:
        scheme = name.partition(":")[0]
        if ":" not in name or scheme not in registry.FROM_FILE["extractors"]:
            continue
        if not allowed or registry.load("extractors", name)().file_sha256() not in allowed:
            raise UsageError(
                f"{name}: the benchmark or record names this network file, which would run on "
                "your machine. Look where it comes from (docs/extractors.md); if you trust it, "
                "allow exactly this file: --allow-network FILE"
            )


def load_extractors(
    names: Sequence[str],
    log: Log,
    allowed: frozenset[str] | None = None,
    progress: Progress = no_progress,
) -> Extractors:
    """Return loaded extractors; their weights are fetched on first use.

    Parameters
    ----------
    names
        Names in the registry.
    log
        Called with a sentence for the user.
    allowed
        Where a benchmark or a record chose the names: the SHA-256 of the network files that it
        may name (`check_networks`). None: the user chose the names.
    progress
        Called with (what, done, total) while weights are fetched.

    Raises
    ------
    UsageError
        A name is unknown, or two extractors define the same name.
    """
    if allowed is not None:
        check_networks(names, allowed)
    loaded: dict[str, Any] = {}
    missing: dict[str, Missing] = {}
    records: list[ExtractorRecord] = []
    for name, extractor in named_extractors(names).items():
        try:
            _make_ready(extractor, log, progress)
            loaded[name] = extractor
        except WeightsError as error:
            missing[name] = to_fetch(name)
            log(str(error))
        records.append(
            ExtractorRecord(
                name=name, weights_sha256=extractor.weights_sha256, layer=extractor.layer,
                preprocessing=extractor.preprocessing, dim=extractor.dim,
                grid=_grid_record(extractor.space),
            )
        )  # fmt: skip
    return Extractors(loaded, missing, records)


def to_fetch(name: str) -> Missing:
    """Return why a row has no value where the extractor's weights are missing."""
    return Missing(reason="weights", text=f"synthbench fetch {name}")


def _grid_record(space: Space | None) -> GridRecord | None:
    return None if space is None else GridRecord(shape=space.shape, affine=space.affine)


def _make_ready(extractor: Any, log: Log, progress: Progress) -> None:
    file = getattr(extractor, "weight_file", None)
    if file is not None:
        _fetch_once(file, log, progress)
    load = getattr(extractor, "load", None)
    if load is not None:
        load()


def _fetch_once(file: WeightFile, log: Log, progress: Progress) -> None:
    """Fetch a missing weight file in one process of each machine; the others wait."""
    from synthbench.metrics.extractors import weights
    from synthbench.runtime.processes import processes

    state = processes()
    try:
        if state.is_local_main_process and weights.locate(file) is None:
            log(f"fetching {file.name} ({file.megabytes} MB, licence {file.licence}) ...")
            weights.fetch(file, progress=progress)
    finally:
        # Also after a failure: loading then reports the missing file in every process.
        state.wait_for_everyone()


def add_features(
    samples: Iterable[Sample],
    extractors: Extractors,
    context: Context,
    *,
    may_refuse: Collection[str] = (),
) -> None:
    """Add the features of every loaded extractor to every sample.

    Parameters
    ----------
    samples, extractors, context
        They decide what is computed.
    may_refuse
        Roles of samples in which a volume may be refused: its features are NaN then.

    Raises
    ------
    MetricError
        An extractor refuses a volume of another role, or such a volume lies outside the
        extractor's grid.
    """
    for name, extractor in extractors.loaded.items():
        for sample in samples:
            bar = shown(f"{name}, {sample.role}", context.progress)
            try:
                sample.features[name] = extract(
                    extractor, sample.inputs, context.batch_size, bar,
                    cache=context.cache if context.parts is None else context.parts,
                    workers=context.workers, may_refuse=sample.role in may_refuse,
                )  # fmt: skip
            except MetricError as error:
                raise error.at(sample.role) from error


def refused(sample: Sample) -> list[int]:
    """Return the indices of the volumes that an extractor refused, of a sample that may have some.

    Features that are not finite cannot be scored either.
    """
    usable = np.ones(len(sample), dtype=bool)
    for rows in sample.features.values():
        usable &= np.isfinite(rows).all(axis=1)
    return np.flatnonzero(~usable).tolist()


def extract(
    extractor: Any,
    volumes: Readable,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    cache: Cache | AllParts | None = None,
    workers: int = 2,
    may_refuse: bool = False,
) -> Float32[np.ndarray, "n dim"]:
    """Return the features of every volume, computed on the GPU where there is one.

    Under `accelerate launch` or `torchrun`, process r of w takes volumes r, r + w, ..., and every
    process returns all rows. A row depends on its volume alone, so it is the same for any number
    of processes, and with or without the cache.

    Parameters
    ----------
    extractor
        An object with the methods of `synthbench.metrics.extractors.extractor.Extractor`.
    volumes
        In the common space, intensities in [0, 1]. They are resampled to the extractor's own grid
        where it has one.
    batch_size
        Volumes that the extractor gets at once; None: one on a GPU, on a CPU one per thread of
        torch, at most 16.
    progress
        Called with (done, total) of this process.
    cache
        Gives the rows of earlier runs and keeps those of this one, or gives those that other jobs
        computed. Volumes without an identity are neither searched nor kept.
    workers
        Threads that read and resample ahead; there are more where a batch needs more.
    may_refuse
        The row of a volume that would be an error is NaN.

    Raises
    ------
    MetricError
        The extractor refuses a volume, or less than half of a volume's intensity lies inside the
        extractor's own grid.
    UsageError
        Accelerate was requested for several processes and started one.
    """
    import torch

    from synthbench.runtime.processes import processes

    state = processes()
    device = str(state.device) if state.device.type == "cuda" else "cpu"
    share = range(state.process_index, len(volumes), state.num_processes)
    kept = _KeptRows(cache, extractor, volumes, _computed_with(device))
    own = np.zeros((len(share), extractor.dim), dtype=np.float32)
    places = {index: place for place, index in enumerate(share)}
    missing = []
    for index, place in places.items():
        found = kept.find(index)
        if found is None:
            missing.append(index)
        else:
            own[place] = found
    done = len(share) - len(missing)
    if batch_size is None:
        batch_size = min(torch.get_num_threads(), AT_ONCE) if device == "cpu" else 1
    # Each thread reads two volumes ahead, which together must be a batch at least.
    workers = max(workers, batch_size // 2)
    ahead = zip(missing, read_ahead(_reader(volumes, extractor), missing, workers), strict=True)
    while batch := dict(islice(ahead, batch_size)):
        for index, row in _rows(extractor, volumes, batch, device):
            if isinstance(row, MetricError):
                if not may_refuse:
                    raise row
                own[places[index]] = np.nan
                continue
            kept.keep(index, row)
            own[places[index]] = row
        done += len(batch)
        if progress:
            progress(done, len(share))
    return _gathered(own, len(volumes), state)


def _computed_with(device: str) -> str:
    return f"torch {version('torch')}, {device.partition(':')[0]}"


def row_keys(extractor: Any, volumes: Readable) -> list[str]:
    """Return the key of each volume's features, as this machine computes them.

    Raises
    ------
    UsageError
        A volume has no identity: a program holds it.
    """
    from synthbench.runtime.processes import processes

    computed_with = _computed_with(processes().device.type)
    keys = []
    for index in range(len(volumes)):
        identity = identity_of(volumes, index)
        if identity is None:
            raise UsageError("features of parts: only volumes of files can be divided among jobs.")
        keys.append(row_key(extractor, identity, computed_with))
    return keys


@dataclass(frozen=True)
class _KeptRows:
    """The rows of one set of volumes in the cache, by the volumes' index."""

    cache: Cache | AllParts | None
    extractor: Any
    volumes: Readable
    computed_with: str

    def find(self, index: int) -> Row | None:
        key = self._key(index)
        if self.cache is None or key is None:
            return None
        return self.cache.find(key, self.extractor.name, self.extractor.dim)

    def keep(self, index: int, row: Row) -> None:
        key = self._key(index)
        if self.cache is not None and key is not None and np.isfinite(row).all():
            self.cache.keep(key, self.extractor.name, row)

    def _key(self, index: int) -> str | None:
        volume = identity_of(self.volumes, index)
        if self.cache is None or volume is None:
            return None
        return row_key(self.extractor, volume, self.computed_with)


def _reader(volumes: Readable, extractor: Any) -> Callable[[int], Volume | MetricError]:
    """Return the function that reads a volume on the grid that the extractor takes.

    It returns an error for a volume that lies outside this grid.
    """
    target: Space | None = extractor.space
    if target is None or target.same_grid(volumes.space):
        return volumes.__getitem__

    def read(index: int) -> Volume | MetricError:
        volume = volumes[index]
        moved = resample(volume, volumes.space, target)
        inside = _integral(moved, target) / _integral(volume, volumes.space)
        # A blank volume gives NaN, for which the comparison is false: the extractor refuses it.
        if inside < KEPT_INSIDE:
            return MetricError(
                f"{extractor.name} has a grid of its own, {target} in millimetres of MNI152. At "
                f"least {KEPT_INSIDE:.0%} of a volume's intensity must lie inside it; found "
                f"{inside:.0%} for {name_of(volumes, index)} ({volumes.space}). Register the "
                "volumes to MNI152 and write them with its affine, or use an extractor without a "
                "grid: --extractor random-resnet10",
                "outside the grid",
                needed=KEPT_INSIDE,
                found=float(inside),
            )
        return moved

    return read


def _integral(volume: Volume, space: Space) -> np.ndarray:
    """Return the sum of intensities times the volume of a voxel in mm^3, as a NumPy scalar."""
    return np.asarray(volume.sum(dtype=np.float64) * np.prod(space.spacing))


def _rows(
    extractor: Any, volumes: Readable, batch: Mapping[int, Volume | MetricError], device: str
) -> Iterator[tuple[int, Row | MetricError]]:
    """Yield the features of each volume of a batch, or why it has none."""
    readable = {i: volume for i, volume in batch.items() if not isinstance(volume, MetricError)}
    yield from ((i, error) for i, error in batch.items() if isinstance(error, MetricError))
    if not readable:
        return
    rows = _features(extractor, volumes, readable, device)
    if not isinstance(rows, MetricError):
        yield from zip(readable, rows, strict=True)
    elif len(readable) == 1:
        yield next(iter(readable)), rows
    else:
        # Again one by one, so that only what is due to a volume is said of it.
        for index, volume in readable.items():
            yield from _rows(extractor, volumes, {index: volume}, device)


def _features(
    extractor: Any, volumes: Readable, batch: Mapping[int, Volume], device: str
) -> Float32[np.ndarray, "b dim"] | MetricError:
    """Return the features of a batch, or the extractor's error, which names the volumes."""
    import torch

    stacked = torch.from_numpy(np.stack(list(batch.values()))[:, None]).to(device)
    try:
        rows: Float32[np.ndarray, "b d"] = extractor.features(stacked).cpu().numpy()
    except MetricError as error:
        return error.at("; ".join(name_of(volumes, index) for index in batch))
    if rows.shape != (len(batch), extractor.dim):
        raise MetricError(
            f"{extractor.name}: its `dim` declares {extractor.dim} features per volume; found an "
            f"array of shape {rows.shape} for {len(batch)} volumes. Fix the extractor.",
            "other length",
        )
    return rows


def _gathered(
    own: Float32[np.ndarray, "k dim"], n: int, state: PartialState
) -> Float32[np.ndarray, "n dim"]:
    """Return the rows of all n volumes on every process; process r of w has rows r, r + w, ..."""
    if state.num_processes == 1:
        return own
    import torch
    from accelerate.utils import gather

    places = -(-n // state.num_processes)
    # Gathering needs equal shapes, so processes with one volume fewer add a row of zeros.
    padded = np.pad(own, ((0, places - len(own)), (0, 0)))
    together = gather(torch.from_numpy(padded).to(state.device)).cpu().numpy()
    by_process = together.reshape(state.num_processes, places, own.shape[1])
    return np.ascontiguousarray(by_process.swapaxes(0, 1).reshape(-1, own.shape[1])[:n])
