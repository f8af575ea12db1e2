"""Regional morphometry: is it right, how often does it err, and what does it see?

Usage: python studies/regional.py truth [SUBJECTS]
       python studies/regional.py COHORT MEASURED.npz [DOSE_PERCENT ...]

`truth` draws subjects of the embedded cohort (24), measures the 85 regions, and correlates each
with the volume that the subject's own tissue labels have in the region's territory.

COHORT is a folder of skull-stripped T1 volumes in MNI152 space, whose participants.tsv has
ventricle_volume and icv. MEASURED.npz keeps the measured regions between runs: of the volumes as
they are, and with the lateral ventricles of the template enlarged by each dose. Three tables:

- the correlation of the ventricles with participants.tsv;
- between random disjoint sides of real people: how often max-t names a region (5% is right), and
  how often the left ventricle by itself differs;
- for each dose and n: how often max-t names a ventricle or any region, and how often the left
  ventricle differs where nobody asks for other regions (p <= 0.05). In further rows the measured
  ventricles are multiplied, which needs no image.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from synthbench.cohorts.reading import read_cohort
from synthbench.metrics.extractors.parcels import parcels
from synthbench.metrics.extractors.regions import SCALES, WHOLE, shares_of
from synthbench.metrics.extractors.tissue import MNI152_2MM
from synthbench.metrics.measures.morphometry import region_differences
from synthbench.sensitivity.corruptions.of_volumes import enlarge_ventricles
from synthbench.simulation.subject import draw
from synthbench.simulation.template import LABELS
from synthbench.volumes.grid import Space, resample

REGIONS = tuple(SCALES)
VENTRICLES = [REGIONS.index(f"lateral_ventricle_{side}") for side in ("left", "right")]
SIDES = (35, 70)
SPLITS = 200
FACTORS = (1.15, 1.3, 1.5, 1.66, 2.0)
SHAPE = (91, 109, 91)


def truth(subjects: int) -> None:
    """Print how regions follow the true tissue labels of simulated subjects."""
    atlas = parcels()
    value = {name: number for number, name in LABELS.items()}
    measured, true = [], []
    for index in range(subjects):
        one = draw(7, index, SHAPE)
        space = Space.of(SHAPE, one.affine)

        def share_of(*names: str, one=one, space=space) -> Float64[np.ndarray, "91 109 91"]:
            mask = np.isin(one.labels, [value[name] for name in names]).astype(np.float32)
            return resample(mask, space, MNI152_2MM).astype(np.float64)

        measured.append(list(shares_of(resample(one.volume, space, MNI152_2MM)).values()))
        head = share_of(*LABELS.values()).sum()
        grey, both = (
            np.bincount(atlas.labels.ravel(), tissue.ravel(), len(atlas.names) + 1)
            for tissue in (share_of("grey matter"), share_of("grey matter", "white matter"))
        )
        row = [
            (both if kind in WHOLE else grey)[label] / head
            for label, (name, kind) in enumerate(zip(atlas.names, atlas.kinds, strict=True), 1)
            if name in SCALES
        ]
        ventricles = share_of("lateral ventricles").sum(axis=(1, 2)) / head
        middle = len(ventricles) // 2
        half = ventricles[middle] / 2
        row += [ventricles[:middle].sum() + half, ventricles[middle + 1 :].sum() + half]
        true.append(row)
    x, y = np.array(true), np.array(measured)
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)])
    print(f"{subjects} simulated subjects: r of {len(r)} regions: median {np.median(r):.3f}, "
          f"5% {np.quantile(r, 0.05):.3f}, least {r.min():.3f} ({REGIONS[int(r.argmin())]}); "
          f"ventricles {', '.join(f'{r[v]:.3f}' for v in VENTRICLES)}")  # fmt: skip
    order = np.argsort(r)[:8]
    print("least:", ", ".join(f"{REGIONS[i]} {r[i]:.2f}" for i in order))


def measured_of(folder: Path, file: Path, doses: list[float]) -> dict[str, np.ndarray]:
    """Return the regions of all volumes by dose, measured where the file has none."""
    held = dict(np.load(file)) if file.exists() else {}
    cohort = read_cohort(folder, role="real")
    missing = [dose for dose in (0.0, *doses) if f"{dose:g}" not in held]
    if missing:
        volumes = cohort.volumes(MNI152_2MM, "percentile", 1, role="real")
        for dose in missing:
            rows = []
            for index in range(len(volumes)):
                volume = volumes[index]
                if dose:
                    volume = np.clip(enlarge_ventricles(volume, dose, MNI152_2MM), 0, 1)
                rows.append(list(shares_of(volume).values()))
            held[f"{dose:g}"] = np.array(rows)
            np.savez(file, **held)
    held["subjects"] = np.array([entry.subject for entry in cohort.entries])
    return held


def real(folder: Path, file: Path, doses: list[float]) -> None:
    """Print the tables of a real cohort."""
    import pandas as pd

    held = measured_of(folder, file, doses)
    x = held["0"]
    table = pd.read_csv(folder / "participants.tsv", sep="\t", index_col=0)
    table = table.loc[[s if s.startswith("sub-") else f"sub-{s}" for s in held["subjects"]]]
    stated = (table.ventricle_volume / table.icv).to_numpy()
    both = x[:, VENTRICLES].sum(axis=1)
    print(f"{len(x)} volumes: lateral ventricles over intracranial volume, r with "
          f"participants.tsv: {np.corrcoef(both, stated)[0, 1]:.3f}")  # fmt: skip
    spread = x[:, VENTRICLES].std(axis=0) / x[:, VENTRICLES].mean(axis=0)
    print("sd between people over mean:", ", ".join(f"{s:.2f}" for s in spread))
    for n in SIDES:
        if 2 * n > len(x):
            continue
        rng = np.random.default_rng(n)
        sides = [np.split(rng.permutation(len(x))[: 2 * n], 2) for _ in range(SPLITS)]
        null = [region_differences(x[a], x[b], resamples=300, seed=k)
                for k, (a, b) in enumerate(sides)]  # fmt: skip
        named = np.mean([(f.p <= 0.05).any() for f in null])
        within = np.array([np.mean(np.abs(f.d) < 0.2) for f in null])
        alone = np.mean([f.p_alone[VENTRICLES[0]] <= 0.05 for f in null])
        print(f"n = {n}: a region named between real sides: {named:.1%} of {SPLITS}, the left "
              f"ventricle by itself {alone:.1%}; regions "
              f"within 0.2: mean {within.mean():.0%}, central 95% "
              f"{np.quantile(within, 0.025):.0%} to {np.quantile(within, 0.975):.0%}")  # fmt: skip
        grown_sets = {f"images, {dose:g}%": held[f"{dose:g}"] for dose in doses}
        for factor in FACTORS:
            larger = x.copy()
            larger[:, VENTRICLES] *= factor
            grown_sets[f"measures, {100 * (factor - 1):.0f}%"] = larger
        for words, y in grown_sets.items():
            grown = (y[:, VENTRICLES].sum(axis=1) / both).mean() - 1
            found = [region_differences(x[a], y[b], resamples=300, seed=k)
                     for k, (a, b) in enumerate(sides)]  # fmt: skip
            by_all = np.mean([(f.p[VENTRICLES] <= 0.05).any() for f in found])
            alone = np.mean([f.p_alone[VENTRICLES[0]] <= 0.05 for f in found])
            any_region = np.mean([(f.p <= 0.05).any() for f in found])
            d = np.mean([f.d[VENTRICLES].mean() for f in found])
            print(f"  ventricles larger, {words} (measured {grown:+.0%}, d {d:.2f}): max-t names "
                  f"a ventricle {by_all:.0%}, any region {any_region:.0%}; the left one "
                  f"by itself {alone:.0%}")  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "truth":
        truth(int(sys.argv[2]) if len(sys.argv) > 2 else 24)
    else:
        real(Path(sys.argv[1]), Path(sys.argv[2]), [float(dose) for dose in sys.argv[3:]])
