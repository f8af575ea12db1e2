"""The study of tiled diffusion transformers on embedded data: mean diffusivity, sex, then disease.

Usage: python studies/tiled_diffusivity.py --out FOLDER [--real 40] [--test 40] [--target 60]
           [--synth 80] [--shape 24 28 24] [--first-steps 600] [--steps 600] [--seeds 2]
           [--epochs 8] [--guidance 1] [--pretrained RUN]

The steps of the source study (Cam-CAN, 2025), with simulated people:

1. maps of mean diffusivity, in mm2/s, of men and women; a target cohort where half are patients;
2. a first training on T1-weighted volumes, in place of the photographs that the published weights
   know (--pretrained RUN: a run of such weights takes its place);
3. fine-tuning on the maps of the real cohort, with sex as the label;
4. sampling as many women as men;
5. MS-SSIM and MMD² against maps of other people, in the space of the voxels;
6. a network that classifies sex, trained on real, synthetic and both, tested on other people;
7. the same networks, fine-tuned on the disease of the target cohort (transfer).

In patients the diffusivity of grey and white matter is 8% higher. What is in FOLDER already is used
again. The tables and both verdicts go to standard output.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from jaxtyping import Float32
from scipy import ndimage

from synthbench.runs.folder import Run
from synthbench.sampling.sampling import sample
from synthbench.scoring.scoring import score
from synthbench.simulation.cohort import atlas_cohort
from synthbench.simulation.subject import Subject, draw
from synthbench.training.training import train
from synthbench.utility.network import NetworkSettings
from synthbench.utility.study import utility
from synthbench.utility.transfer import Transfer

DIFFUSIVITY = {1: 0.80e-3, 2: 0.72e-3, 3: 3.0e-3, 4: 3.0e-3}
"""Mean diffusivity of grey matter, white matter and the two fluids (`LABELS`), in mm2/s."""

INTENSITY = "constant:0.0035:mm2/s"
IN_PATIENTS = 1.08
BLUR, NOISE = 0.5, 0.04e-3  # of voxels; mm2/s
SEEDS = {"real": 1, "test": 2, "target": 3}


def diffusivity(
    subject: Subject, rng: np.random.Generator, *, patient: bool = False
) -> Float32[np.ndarray, "d h w"]:
    """Return a map of mean diffusivity, in mm2/s; 0 outside the brain.

    Each tissue has one value, which varies by 2% between people. Voxels are blurred, as mixtures of
    tissues are, and have Gaussian noise.
    """
    brain = subject.labels > 0
    values = np.zeros(5)
    for label, value in DIFFUSIVITY.items():
        raised = IN_PATIENTS if patient and label in (1, 2) else 1.0
        values[label] = value * raised * (1 + 0.02 * rng.standard_normal())
    blurred = ndimage.gaussian_filter(values[subject.labels], BLUR)
    inside = ndimage.gaussian_filter(brain.astype(np.float64), BLUR)
    noisy = blurred / np.maximum(inside, 1e-6) + NOISE * rng.standard_normal(brain.shape)
    return np.where(brain, noisy.clip(0.1e-3, 3.4e-3), 0).astype(np.float32)


def maps(folder: Path, role: str, n: int, shape: tuple[int, int, int]) -> Path:
    """Write the maps of n people with their sex and diagnosis, half of them patients."""
    table = folder / "participants.tsv"
    if table.is_file():
        return folder
    folder.mkdir(parents=True)
    rows = []
    for index in range(n):
        subject = draw(SEEDS[role], index, shape)
        patient = index % 4 in (1, 2)  # as many men as women among them, on average
        rng = np.random.default_rng([SEEDS[role], index])
        values = diffusivity(subject, rng, patient=role == "target" and patient)
        name = f"sub-{role}{index:03d}"
        nib.save(nib.Nifti1Image(values, subject.affine), folder / f"{name}_md.nii.gz")
        rows.append({"participant_id": name, "sex": subject.sex, "age": subject.age,
                     "diagnosis": "patient" if patient else "control"})  # fmt: skip
    pd.DataFrame(rows).to_csv(table, sep="\t", index=False)
    return folder


def trained(out: Path, real: Path, *settings: str, init: Path | None = None) -> Run:
    """Return a run of `dit-tiles`: one that is there, or a new one."""
    if (out / "run.json").is_file():
        return train(out=out, resume=True, log=print)
    config = None if init is None else init / "config.yaml"
    return train(
        "dit-tiles", out=out, real=real, preset=None if config else "tiny", config=config,
        init=init, overrides=settings, log=print,
    )  # fmt: skip


def main() -> None:
    """Print the tables and the verdicts."""
    given = _arguments()
    out, shape = given.out, tuple(given.shape)
    size = f"space.shape=[{','.join(map(str, shape))}]"
    real = maps(out / "real", "real", given.real, shape)
    test = maps(out / "test", "test", given.test, shape)
    target = maps(out / "target", "target", given.target, shape)
    first = given.pretrained
    if first is None:
        t1 = out / "t1"
        if not (t1 / "participants.tsv").is_file():
            atlas_cohort(given.real, t1, seed=4, shape=shape)
        first = trained(
            out / "first", t1, size, "tile_multiple=8", "patch=8", "sample_size=144",
            "heads=4", "head_width=32", "layers=4", f"steps={given.first_steps}",
        ).folder  # fmt: skip
    tuned = trained(
        out / "tuned", real, size, f"steps={given.steps}", "epochs=null", "conditions=[sex]",
        f"intensity={INTENSITY}", "batch_size=4", init=first,
    )  # fmt: skip
    synth = out / "synth"
    sample(tuned, given.synth, synth, choices=["sex=F,M"], guidance=given.guidance, log=print)
    card = score(
        test, synth, train=real, extractors=("voxels",), metrics=("mmd2", "ms_ssim", "kid"),
        intensity=INTENSITY, accept=["registered"],
    )  # fmt: skip
    print("\n| metric | value | 95% CI |\n|---|---|---|")
    for row in card.values:
        span = "" if row.interval is None else f"{row.interval.low:.4g} to {row.interval.high:.4g}"
        # A value is missing where all samples are the same, as after a few steps.
        print(f"| {row.label} | {'-' if row.value is None else f'{row.value:.4g}'} | {span} |")
    record = utility(
        real, synth, test, "sex", model="cnn", intensity=INTENSITY, ratios=(),
        network=NetworkSettings(seeds=given.seeds, epochs=given.epochs),
        transfer=Transfer("diagnosis", target), accept=["registered"],
    )  # fmt: skip
    for title, arms in (("sex", record.arms), ("diagnosis (transfer)", record.transfer_arms)):
        print(f"\n| arm, {title} | real | synthetic | tested | AUC | 95% CI |")
        print("|---|---|---|---|---|---|")
        for arm in arms:
            auc = arm.values[record.measures[0]]
            print(f"| {arm.name} | {arm.real} | {arm.synth} | {arm.tested} | {auc.value:.3f} | "
                  f"{auc.low:.3f} to {auc.high:.3f} |")  # fmt: skip
    print(f"\nsex: {record.summary.sentence}")
    assert record.transfer is not None
    print(f"diagnosis: {record.transfer.sentence}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    for name, default in (("real", 40), ("test", 40), ("target", 60), ("synth", 80)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--shape", type=int, nargs=3, default=(24, 28, 24))
    parser.add_argument("--first-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--pretrained", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
