"""The accuracy of the extractor `anatomy`: for known volumes, at 4 mm, and for damaged images.

Usage: python studies/anatomy.py COHORT [VOLUMES_UNDER_DAMAGE]

COHORT is a folder of skull-stripped T1 volumes in MNI152 space. Its participants.tsv has
ventricle_volume and brain_volume, and icv if these were measured before registration (all in mm3;
dividing by icv removes head size). The embedded cohort is one: `synthbench data atlas`.

The second table gives the change of each measure after damage: the mean and the standard deviation
of the change, both in standard deviations of the measure over the cohort, and the correlation of
damaged with undamaged values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float32
from scipy import stats

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.metrics.extractors.anatomy import MEASURES, brain_fraction, volumes_of
from synthbench.metrics.extractors.tissue import MNI152_2MM
from synthbench.sensitivity.corruptions.of_volumes import add_noise, blur, shade, shift
from synthbench.volumes.grid import resample

Volume = Float32[np.ndarray, "91 109 91"]
Damage = Callable[[Volume, np.random.Generator], Volume]

GRID_4MM = MNI152_2MM.regrid((48, 56, 48), spacing=4.0)
SPACING = MNI152_2MM.spacing


def at_4mm(volume: Volume, _: np.random.Generator) -> Volume:
    """Return a volume resampled to 4 mm and back."""
    return resample(resample(volume, MNI152_2MM, GRID_4MM), GRID_4MM, MNI152_2MM)


def moved(*millimetres: float) -> Damage:
    """Return a function that translates a volume by so many millimetres."""
    return lambda volume, _: np.clip(shift(volume, np.array(millimetres), SPACING), 0, 1)


DAMAGE: dict[str, Damage] = {
    "at 4 mm and back": at_4mm,
    "Rician noise, sd 0.03": lambda v, rng: np.clip(add_noise(v, 0.03, rng), 0, 1),
    "Rician noise, sd 0.06": lambda v, rng: np.clip(add_noise(v, 0.06, rng), 0, 1),
    "blur, sigma 1 voxel": lambda v, _: np.clip(blur(v, 2.3548 * SPACING[0], SPACING), 0, 1),
    "bias field, 20% peak to peak": lambda v, rng: shade(v, 0.2, MNI152_2MM, rng),
    "bias field, 40% peak to peak": lambda v, rng: shade(v, 0.4, MNI152_2MM, rng),
    "gamma 0.8": lambda v, _: v**0.8,
    "gamma 1.25": lambda v, _: v**1.25,
    "intensities halved": lambda v, _: v * np.float32(0.5),
    "2 mm to the right": moved(2, 0, 0),
    "2 mm to the front": moved(0, 2, 0),
    "2 mm upwards": moved(0, 0, 2),
    "2 mm downwards": moved(0, 0, -2),
    "mirrored": lambda v, _: v[::-1],
}


def measured(volumes: Iterable[Volume]) -> pd.DataFrame:
    """Return `MEASURES` and the brain fraction of each volume."""
    table = pd.DataFrame([volumes_of(volume) for volume in volumes])
    table["brain_fraction"] = [brain_fraction(row) for row in table.to_dict("records")]
    return table


def given(cohort: Cohort) -> pd.DataFrame:
    """Return the volumes of participants.tsv, also relative to icv, in the cohort's order."""
    subjects = [entry.subject for entry in cohort.entries]
    table = cohort.participants.reindex(subjects).apply(pd.to_numeric, errors="coerce")
    columns = {
        "ventricle_volume": table["ventricle_volume"],
        "brain_volume": table["brain_volume"],
    }
    if "icv" in table:
        columns |= {f"{name} / icv": column / table["icv"] for name, column in columns.items()}
    return pd.DataFrame(columns).reset_index(drop=True)


def agreement_rows(label: str, mine: pd.DataFrame, truth: pd.DataFrame) -> list[str]:
    """Return rows with correlations of measures with the known volumes."""
    rows = []
    rest = truth["ventricle_volume"].rank() < len(truth)
    for name, column in truth.items():
        for measure in (
            ("ventricle_volume",)
            if "ventricle" in str(name)
            else (
                "brain_volume",
                "brain_fraction",
            )
        ):
            x, y = mine[measure], column
            r, without = (
                float(stats.pearsonr(x[keep], y[keep]).statistic) for keep in (y.notna(), rest)
            )
            rho = float(stats.spearmanr(x, y).statistic)
            ratio = "" if "icv" in str(name) else f"{1000 * x.mean() / y.mean():.2f}"
            if measure == "brain_fraction":
                ratio = ""
            rows.append(
                f"| {label} | {measure} | {name} | {r:.3f} | {without:.3f} | {rho:.3f} | {ratio} |"
            )
    return rows


def damage_row(label: str, before: pd.DataFrame, after: pd.DataFrame, sd: pd.Series) -> str:
    """Return a row: mean ± sd of the change, in standard deviations, and the correlation."""
    cells = []
    for name in MEASURES:
        sign = -1.0 if label == "mirrored" and name == "ventricle_asymmetry" else 1.0
        change = (sign * after[name] - before[name]) / sd[name]
        r = np.corrcoef(sign * after[name], before[name])[0, 1]
        cells.append(f"{change.mean():+.2f} ± {change.std():.2f} ({r:.3f})")
    return f"| {label} | {' | '.join(cells)} |"


def damaged(volumes: list[Volume], damage: Damage) -> list[Volume]:
    """Return damaged volumes, each with its own seed."""
    return [
        np.ascontiguousarray(damage(volume, np.random.default_rng(index)))
        for index, volume in enumerate(volumes)
    ]


def main(path: str, under_damage: int) -> None:
    """Print both tables."""
    cohort = read_cohort(path)
    truth = given(cohort)
    at_2mm = cohort.volumes(MNI152_2MM)
    whole = measured(at_2mm)
    coarse = measured(at_4mm(volume, np.random.default_rng(0)) for volume in at_2mm)
    print("| volumes | measure | with | Pearson r | without the largest | Spearman | ratio |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for label, mine in (("as given", whole), ("at 4 mm and back", coarse)):
        print("\n".join(agreement_rows(label, mine, truth)))

    sd = whole.std()
    print(f"\n| n = {len(cohort)} | {' | '.join(MEASURES)} |")
    print("| --- |" + " ---: |" * len(MEASURES))
    print(f"| mean, mL | {' | '.join(f'{whole[name].mean():.1f}' for name in MEASURES)} |")
    print(f"| sd, mL | {' | '.join(f'{sd[name]:.1f}' for name in MEASURES)} |")

    chosen = np.linspace(0, len(cohort) - 1, min(under_damage, len(cohort))).astype(int)
    volumes = [at_2mm[int(index)] for index in chosen]
    before = whole.iloc[chosen].reset_index(drop=True)
    print(f"\n| n = {len(chosen)}: shift ± sd of the change (r) | {' | '.join(MEASURES)} |")
    print("| --- |" + " ---: |" * len(MEASURES))
    for label, damage in DAMAGE.items():
        print(damage_row(label, before, measured(damaged(volumes, damage)), sd), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20)
