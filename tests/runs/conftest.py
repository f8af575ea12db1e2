"""A finished run and its volumes, as training and sampling write them."""

from __future__ import annotations

import json

import pytest

from synthbench.runs.folder import Run

WEIGHTS = "ab" * 32


ADNI = {
    "name": "ADNI, prepared",
    "licence": "ADNI data use agreement",
    "terms": "Nothing at the level of a participant may be passed on.",
    "url": "https://ida.loni.usc.edu",
}


OPEN = {"name": "IXI", "licence": "CC BY-SA 3.0", "terms": "", "url": ""}


def make_run(folder, **record):
    """A finished run of pca-gaussian, as training writes it; no network is loaded."""
    run = Run(folder)
    folder.mkdir(exist_ok=True)
    run.write_config(
        {
            "generator": "pca-gaussian", "preset": None, "real": "/data/secret/train.tsv",
            "space": {"shape": [4, 4, 4], "spacing": None}, "intensity": "percentile",
            "seed": 3, "variance": 0.7,
        }
    )  # fmt: skip
    given = {
        "generator": "pca-gaussian", "finished": True,
        "cohort": {"fingerprint": "cd" * 32, "n": 70, "subjects": 68, "embedded": False},
        "sources": [OPEN],
        "subgroups": {"age": {"20 to 29": 40, "30 to 39": 28}, "sex": {"F": 68}},
        "space": {"shape": [4, 4, 4], "affine": [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1]},
        "accepted": ["background"], "initialised_from": None, "weights_sha256": WEIGHTS,
        "environment": {
            "python": "3.11.7", "cpus": 2, "gpus": ["A100", "A100"],
            "packages": {"synthbench": "0.1.0", "torch": "2.13.0"},
        },
        "training_seconds": 5400.0, "steps": 700, "processes": 4, "device": "cuda",
        "parameters": 47_500_000, "gpu_hours": 6.0,
        "energy": {"kwh": 1.25, "methods": ["codecarbon 3: RAPL counters"]},
    }  # fmt: skip
    run.update(**{**given, **record})
    return run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def sampled(tmp_path):
    """Volumes of seeds 0 to 2 and 7, with their sidecars, that took 2, 3, 4 and 5 seconds."""
    out = tmp_path / "synth"
    out.mkdir()
    files = []
    for seed, seconds in ((0, 2.0), (1, 3.0), (2, 4.0), (7, 5.0)):
        files.append(out / f"synth-{seed:06d}.nii.gz")
        sidecar = {
            "seed": seed, "seconds": seconds, "sampler": "ddim", "steps": 25,
            "weights_sha256": WEIGHTS, "cleaned": None,
        }  # fmt: skip
        files[-1].with_name(f"synth-{seed:06d}.json").write_text(
            json.dumps(sidecar), encoding="utf-8"
        )
    return files


def cells(text):
    """The two-column tables of a card."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1] for line in lines if len(line) == 2}
