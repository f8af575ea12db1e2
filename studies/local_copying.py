"""Copied parts: false alarms, power, and the verdict on generators of known kinds.

Usage: python studies/local_copying.py level --real DIR --repetitions 200
       python studies/local_copying.py scans --repetitions 200
       python studies/local_copying.py planted --real DIR --repetitions 20
       python studies/local_copying.py generators --real DIR
       python studies/local_copying.py time --real DIR

Prints the tables on copied parts of docs/numbers.md as Markdown. DIR is a cohort of registered
volumes with one scan per subject; it is resampled to 4 mm. Without --real the embedded cohort of
150 simulated brains is used. `scans` simulates smooth volumes and needs no cohort.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64
from pydantic import BaseModel
from scipy import ndimage, stats

from synthbench.cohorts.cohort import majority_mask
from synthbench.cohorts.reading import read_cohort
from synthbench.generators.generator import Generator
from synthbench.generators.local3d import Local3D, LocalSettings
from synthbench.generators.memorizer import Memorizer, MemorizerSettings
from synthbench.metrics.local_copying import (
    FLOOR,
    LEAST,
    LEVEL,
    PLACES,
    RATIO,
    SIDES,
    WORDS,
    LocalAssessment,
    LocalCopying,
    judged,
    labellings,
    sides_p_value,
)
from synthbench.metrics.nearest.patches import (
    Found,
    Rule,
    Search,
    contrast,
    distances_between,
    grid_places,
    nearest_subject,
    patches,
    search,
)
from synthbench.runs.folder import Run
from synthbench.simulation.subject import draw
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Drawn

PERMUTATIONS = 199
FROM_NOISE = LocalSettings(start="mean", sigma_max=2.0, steps=10)
"""So much noise on the mean that a sample is a mosaic of training patches."""
MILLIMETRES = 4.0
Volumes = Float32[np.ndarray, "n d h w"]


@dataclass(frozen=True)
class Material:
    """Volumes of distinct subjects on one grid, their mask, and the largest number of places."""

    volumes: Volumes
    mask: Bool[np.ndarray, "d h w"]
    space: Space
    places: int = PLACES


def material(real: Path | None, millimetres: float, places: int) -> Material:
    """Return a cohort at a voxel size, or the embedded cohort where none is named."""
    if real is None:
        subjects = [draw(0, index, (48, 56, 48)) for index in range(150)]
        space = Space((48, 56, 48), tuple(float(x) for x in subjects[0].affine.ravel()))
        volumes = np.stack([subject.volume for subject in subjects]).astype(np.float32)
    else:
        cohort = read_cohort(real)
        space = cohort.grid.regrid(spacing=millimetres)
        moved = cohort.volumes(space, "percentile")
        volumes = np.stack([moved[i] for i in range(len(moved))]).astype(np.float32)
    return Material(volumes, majority_mask(Drawn(space, list(volumes))), space, places)  # type: ignore[arg-type]


def interval(hits: int, n: int) -> str:
    """Return a share with its exact binomial 95% interval, in percent."""
    low, high = stats.binomtest(hits, n).proportion_ci()
    return f"{hits / n:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


# False alarms: distances between all real volumes once, then many random divisions.


@dataclass(frozen=True)
class Distances:
    """Distances between all volumes at all places: log distance by side, query, volume, place."""

    places: Int64[np.ndarray, "p 3"]
    logs: Mapping[int, Float32[np.ndarray, "p n n"]]

    def divided(self, synth: np.ndarray, train: np.ndarray, holdout: np.ndarray) -> Search:
        """Return what `search` finds where these volumes have these roles."""
        real = np.concatenate([train, holdout])
        found, between = {}, np.zeros((len(real), len(real)))
        for side, logs in self.logs.items():
            to_real = logs[:, synth][:, :, real].astype(np.float64)
            own = logs[:, real][:, :, real].astype(np.float64)
            places, m, n = to_real.shape
            nearest, copied = nearest_subject(to_real.reshape(-1, n), RATIO)
            gaps = contrast(to_real.reshape(-1, n), len(train)).reshape(places, m).mean(axis=0)
            own[:, np.arange(n), np.arange(n)] = np.inf
            _, alike = nearest_subject(own.reshape(-1, n), RATIO)
            units = np.exp(np.median(own.min(axis=2), axis=1))
            own[:, np.arange(n), np.arange(n)] = -np.inf
            between += (np.exp(own) / units[:, None, None]).mean(axis=0) / len(self.logs)
            found[side] = Found(
                nearest.reshape(1, places, m).swapaxes(1, 2),
                copied.reshape(1, places, m).swapaxes(1, 2),
                gaps,
                alike.reshape(places, n).mean(axis=1),
            )
        return Search(self.places, 0, found, between)


def all_distances(of: Material) -> Distances:
    """Return the distances between all volumes, the second of a pair as it is or mirrored."""
    places, _ = grid_places(of.mask, of.places)
    n = len(of.volumes)
    logs = {side: np.zeros((len(places), n, n), np.float32) for side in SIDES}
    sources = {"synth": of.volumes, "train": of.volumes, "holdout": of.volumes[:0]}
    for place, side, (_, plain, mirrored) in patches(sources, of.mask, places, SIDES):
        own = distances_between(plain, plain)
        np.fill_diagonal(own, np.inf)
        least = FLOOR * np.median(own.min(axis=1))
        either = np.minimum(own, distances_between(plain, mirrored))
        logs[side][place] = np.log(either.clip(min=least))
    return Distances(places, logs)


def verdict_of(compared: Search, n_train: int, n_holdout: int, seed: int) -> tuple[str, bool]:
    """Return the verdict, and whether the test of the shares rejects by itself."""
    rng = np.random.default_rng(seed)
    labels = labellings(n_train, n_holdout, PERMUTATIONS, rng)
    scales, place_map = judged(compared, labels, LEAST, LEVEL)
    sides_p = sides_p_value(compared.between_real, PERMUTATIONS, rng)
    found = LocalAssessment(
        scales, place_map, compared.places, 0, n_train, n_holdout, sides_p, LEVEL, None, 0
    )
    return found.verdict, min(scale.p for scale in scales) <= LEVEL


def level(of: Material, repetitions: int) -> None:
    """Print false alarms where training, hold-out and "synthetic" volumes are real ones."""
    distances = all_distances(of)
    n = len(of.volumes) // 3
    rows = Rows()
    for seed in range(repetitions):
        order = np.random.default_rng(seed).permutation(len(of.volumes))
        sets = order[:n], order[n : 2 * n], order[2 * n : 3 * n]
        rows.add(
            f"real volumes, {n} / {n} / {n}", *verdict_of(distances.divided(*sets), n, n, seed)
        )
        third = n // 3
        unequal = order[:n], order[n : n + third], order[2 * n : 3 * n]
        rows.add(
            f"real volumes, {n} / {third} / {n}",
            *verdict_of(distances.divided(*unequal), third, n, seed),
        )
    print(f"{Rows.head()}\n{rows.text()}")


class Rows:
    """Counts of verdicts, by what was scored."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}

    def add(self, name: str, verdict: str, rejected: bool) -> None:
        """Count one verdict."""
        row = self.counts.setdefault(name, dict.fromkeys((*WORDS, "rejected", "all"), 0))
        row[verdict] += 1
        row["rejected"] += rejected
        row["all"] += 1

    @staticmethod
    def head() -> str:
        """Return the head of the table."""
        head = "| scored (synth / training / hold-out) | p <= 0.05 | " + " | ".join(WORDS) + " |"
        return f"{head}\n|---|" + "---:|" * (1 + len(WORDS))

    def text(self) -> str:
        """Return the rows of the table."""
        lines = []
        for name, row in self.counts.items():
            cells = [interval(row[key], row["all"]) for key in ("rejected", *WORDS)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines)


# Several scans per subject


def scans(repetitions: int) -> None:
    """Print false alarms where subjects have several scans, in smooth simulated volumes."""
    designs = {
        "24 x 3 / 24 x 1": (24, 3, 24, 1), "24 x 1 / 24 x 3": (24, 1, 24, 3),
        "15 x 1 / 40 x 4": (15, 1, 40, 4), "15 x 4 / 40 x 1": (15, 4, 40, 1),
    }  # fmt: skip
    mask = np.ones((14, 14, 14), np.bool_)
    print(Rows.head())
    for icc in (0.5, 0.0, 0.95):
        for name, (n_train, of_train, n_holdout, of_holdout) in designs.items():
            rows = Rows()
            for seed in range(repetitions):
                rng = np.random.default_rng([seed, int(100 * icc)])
                sets = {
                    "synth": smooth(rng, 20, 1, icc),
                    "train": smooth(rng, n_train, of_train, icc),
                    "holdout": smooth(rng, n_holdout, of_holdout, icc),
                }
                index = {
                    "synth": np.arange(20),
                    "train": np.repeat(np.arange(n_train), of_train),
                    "holdout": np.repeat(np.arange(n_holdout), of_holdout),
                }
                compared = search(sets, index, mask, Rule(SIDES, 64, RATIO, FLOOR), rng)
                rows.add(f"20 / {name}, icc {icc}", *verdict_of(compared, n_train, n_holdout, seed))
            print(rows.text(), flush=True)


def smooth(rng: np.random.Generator, subjects: int, visits: int, icc: float) -> Volumes:
    """Return smooth volumes: a share `icc` of the variance is that between subjects."""
    fields = [
        ndimage.gaussian_filter(rng.standard_normal((count, 14, 14, 14)), (0, 3, 3, 3))
        for count in (subjects, subjects * visits)
    ]
    both = np.sqrt(icc) * np.repeat(fields[0], visits, axis=0) + np.sqrt(1 - icc) * fields[1]
    fields32: Volumes = both.astype(np.float32)
    return fields32


# Planted copies, and generators of known kinds


def sampled(
    plugin: Generator, settings: BaseModel, train: Volumes, space: Space, n: int
) -> Volumes:
    """Return n samples of a generator that is fitted to training volumes."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        run.write_config(settings.model_dump(mode="json"))
        run.update(space={"shape": space.shape, "affine": space.affine})
        plugin.fit(Drawn(space, list(train)), settings, run)  # type: ignore[arg-type]
        return np.stack(list(plugin.sample(run, range(n))))


def gaussian(train: Volumes, n: int) -> Volumes:
    """Return n samples of the Gaussian with the training volumes' mean and covariance."""
    rows = train.reshape(len(train), -1)
    mean = rows.mean(axis=0)
    scores = np.random.default_rng(0).standard_normal((n, len(rows)), np.float32)
    drawn = mean + scores @ (rows - mean) / np.float32(np.sqrt(len(rows) - 1))
    samples: Volumes = np.clip(drawn, 0, 1).reshape(n, *train.shape[1:])
    return samples


def planted(
    synth: Volumes, train: Volumes, mask: Bool[np.ndarray, "d h w"], side: int, share: float,
    rng: np.random.Generator,
) -> Volumes:  # fmt: skip
    """Return volumes of which a share has cubes of one training volume over 5% of the mask."""
    copies, voxels = synth.copy(), np.argwhere(mask)
    for i in rng.permutation(len(synth))[: round(share * len(synth))]:
        source = train[rng.integers(len(train))]
        taken = np.zeros(mask.shape, np.bool_)
        while (taken & mask).sum() < 0.05 * len(voxels):
            centre = voxels[rng.integers(len(voxels))]
            taken[tuple(slice(max(c - side // 2, 0), c + side // 2 + 1) for c in centre)] = True
        copies[i][taken] = source[taken]
    return copies


def assessed(of: Material, synth: Volumes, train: Volumes, holdout: Volumes) -> LocalAssessment:
    """Return the whole finding."""
    sources = {"synth": synth, "train": train, "holdout": holdout}
    return LocalCopying().assess(
        sources, of.mask, permutations=PERMUTATIONS, seed=0, places=of.places
    )


def divided(of: Material, seed: int, parts: int) -> list[Volumes]:
    """Return random disjoint sets of equal size."""
    order = np.random.default_rng(seed).permutation(len(of.volumes))
    n = len(order) // parts
    return [of.volumes[order[i * n : (i + 1) * n]] for i in range(parts)]


def power(of: Material, repetitions: int) -> None:
    """Print how often cubes are found that were planted into unseen real volumes."""
    print(Rows.head())
    for side, share in ((9, 0.3), (5, 1.0), (11, 0.15), (9, 1.0)):
        rows = Rows()
        for seed in range(repetitions):
            synth, train, holdout = divided(of, seed, 3)
            rng = np.random.default_rng([seed, side])
            copies = planted(synth, train, of.mask, side, share, rng)
            found = assessed(of, copies, train, holdout)
            name = f"cubes of {side} over 5%, in {share:.0%} of {len(synth)} volumes"
            rows.add(name, found.verdict, min(s.p for s in found.scales) <= LEVEL)
        print(rows.text(), flush=True)


def generators(of: Material) -> None:
    """Print the finding on generators of known kinds, once each."""
    train, holdout = divided(of, 0, 2)
    third = divided(of, 0, 3)
    n = len(train)
    print("| generator | copied, over chance: 3 / 5 / 9 | gap: 3 / 5 / 9 | verdict |")
    print("|---|---|---|---|")
    kinds: Mapping[str, Callable[[], Sequence[Volumes]]] = {
        "unseen real volumes": lambda: third,
        "Gaussian fitted to them": lambda: (gaussian(train, n), train, holdout),
        "Gaussian fitted to 15": lambda: (gaussian(train[:15], n), train[:15], holdout),
        "unseen, hold-out 5% brighter": lambda: (third[0], third[1], 1.05 * third[2]),
        "memorizer": lambda: (
            sampled(Memorizer(), MemorizerSettings(), train, of.space, n), train, holdout
        ),
        "cubes of 9 over 5%, in all": lambda: (
            planted(third[0], third[1], of.mask, 9, 1.0, np.random.default_rng(0)), *third[1:]
        ),
        "local3d, 6 volumes": lambda: (
            sampled(Local3D(), LocalSettings(), train, of.space, 6), train, holdout
        ),
        "local3d from noise alone, 6 volumes": lambda: (
            sampled(Local3D(), FROM_NOISE, train, of.space, 6), train, holdout
        ),
    }  # fmt: skip
    for name, make in kinds.items():
        found = assessed(of, *make())
        shares = " / ".join(f"{100 * s.share:+.2f}%" for s in found.scales)
        gaps = " / ".join(f"{s.gap:+.3f}" for s in found.scales)
        print(f"| {name} | {shares} | {gaps} | {found.text} |", flush=True)


def timed(of: Material) -> None:
    """Print time and memory of one assessment with 1000 permutations."""
    train, holdout = divided(of, 0, 2)
    wall, own = time.perf_counter(), time.process_time()
    sources = {"synth": train[::-1] * np.float32(0.9), "train": train, "holdout": holdout}
    found = LocalCopying().assess(sources, of.mask, permutations=1000, seed=0, places=of.places)
    print(
        f"{len(train)} / {len(train)} / {len(holdout)} volumes of {of.space}, {len(found.places)} "
        f"places: {time.perf_counter() - wall:.0f} s, {time.process_time() - own:.0f} s of one "
        f"core, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB with the volumes"
    )


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("level", "scans", "planted", "generators", "time"))
    parser.add_argument("--real", type=Path, help="a cohort; without it, the embedded one")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--spacing", type=float, default=MILLIMETRES, help="in mm")
    parser.add_argument("--places", type=int, default=PLACES, help="at most")
    asked = parser.parse_args()
    if asked.table == "scans":
        scans(asked.repetitions)
        return
    of = material(asked.real, asked.spacing, asked.places)
    if asked.table == "level":
        level(of, asked.repetitions)
    elif asked.table == "planted":
        power(of, asked.repetitions)
    elif asked.table == "generators":
        generators(of)
    else:
        timed(of)


if __name__ == "__main__":
    main()
