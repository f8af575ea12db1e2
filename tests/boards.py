"""Benchmarks of random features, with their entries and what is kept of the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.kernels import median_bandwidth
from synthbench.records.cohort import CohortRecord
from synthbench.records.keys import JobKey
from synthbench.records.protocol import ExtractorRecord, MaskRecord, Protocol, SpaceRecord
from synthbench.records.readers import Estimated, ReaderComparison, ReaderRating, ReaderResult
from synthbench.records.scorecard import Origin, Scorecard
from synthbench.records.utility import Utility
from synthbench.records.values import FloorRecord, IntervalRecord, Value
from synthbench.registry import load
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.sample_data import JobData, SampleData

EXTRACTORS = ("first", "second")
METRICS = ("mmd2", "fid", "kid")
N, D = 24, 3


def features(seed: int, shift: float = 0.0, n: int = N) -> dict[str, np.ndarray]:
    """Features of one set by both extractors: the second sees twice the first."""
    x = np.random.default_rng(seed).normal(size=(n, D))
    x[:, 0] += shift
    return {"first": x, "second": 2 * x[:, ::-1]}


def make_protocol(real: Mapping[str, np.ndarray], *, n_synth: int = N, resamples: int = 200):
    """The protocol that these features freeze."""
    settings = {}
    for name in METRICS:
        for extractor in EXTRACTORS:
            key = f"{name} | {extractor}"
            settings[key] = {"formula": load("metrics", name).formula}
            if name == "mmd2":
                settings[key]["bandwidth"] = float(median_bandwidth(real[extractor]))
    return Protocol(
        space=SpaceRecord(shape=(2, 2, 2), affine=tuple(np.eye(4).ravel().tolist()),
                          intensity="percentile", scaling="as ever"),
        mask=MaskRecord(rule="all", voxels=8, sha256="0" * 64),
        extractors=tuple(
            ExtractorRecord(name=name, weights_sha256=name[0] * 64, preprocessing="none",
                            layer="last", dim=D)
            for name in EXTRACTORS
        ),
        settings=settings,
        intervals={name: load("metrics", name).interval for name in METRICS},
        level=0.95, resamples=resamples, floor_splits=10, permutations=10, seed=3,
        n_real=N, n_synth=n_synth,
    )  # fmt: skip


def make_materials(protocol: Protocol, real, synth, fingerprint: str) -> SampleData:
    """What would be kept of a scoring of these features."""
    n, m = len(real["first"]), len(synth["first"])
    return SampleData(
        real_fingerprint="r" * 64,
        synth_fingerprint=fingerprint,
        protocol=protocol,
        subjects={"real": np.arange(n), "synth": np.arange(m)},
        jobs={
            key: JobData(real[extractor], synth[extractor])
            for key in protocol.settings
            if (extractor := JobKey.parse(key).extractor) is not None
        },
    )


def make_card(name: str, sample_data: SampleData, **origin) -> Scorecard:
    """A scorecard whose values are those of its sample data."""
    values = []
    for key in sample_data.jobs:
        named = JobKey.parse(key)
        metric = load("metrics", named.metric)()
        value = estimate(sample_data.statistic(key))
        values.append(
            Value(
                metric=metric.name, label=metric.label, extractor=named.extractor,
                direction="lower", role=metric.role, label_with_n=metric.label_with_n,
                target="zero", value=value,
                interval=IntervalRecord(low=value - 0.1, high=value + 0.1, level=0.95,
                                        method="studentized", label="95% CI"),
                floor=FloorRecord(n=12, mean=0.0, low=-0.05, high=0.05, synth_mean=value),
            )
        )  # fmt: skip
    protocol = sample_data.protocol
    return Scorecard(
        name=name, created="2026-01-02T03:04:05+00:00",
        real=CohortRecord(n=N, subjects=N, fingerprint="r" * 64, available=N),
        synth=CohortRecord(n=N, subjects=N, fingerprint=sample_data.synth_fingerprint,
                           available=N),
        benchmark="b", protocol=protocol, protocol_hash=protocol.hash, values=tuple(values),
        origin=Origin(**origin), software={"synthbench": "0.1.0"},
    )  # fmt: skip


def make_board(folder: Path, shifts: Mapping[str, float], *, primary: str = "mmd2"):
    """Write a benchmark's folder; return its folder, and a source of sample data by card."""
    real = features(0)
    protocol = make_protocol(real)
    (folder / "entries").mkdir(parents=True)
    Benchmark(
        name="b", primary=primary, real_fingerprint="r" * 64, real_subjects=N, protocol=protocol
    ).save(folder)
    kept = {}
    for i, (name, shift) in enumerate(shifts.items()):
        fingerprint = f"{i:064d}"
        kept[fingerprint] = make_materials(protocol, real, features(10 + i, shift), fingerprint)
        card = make_card(name, kept[fingerprint], generator=name, weights_sha256="w" * 64)
        card.save(folder / "entries" / f"{name}.json")
    return folder, lambda card: kept.get(card.synth.fingerprint)


def make_verdict(**changed) -> Utility:
    """A verdict of 20 real and 200 synthetic volumes, in whole thousandths of AUC."""
    cohorts = {
        role: CohortRecord(n=n, subjects=n, fingerprint=role[0] * 64, available=n)
        for role, n in (("real", 20), ("synth", 200), ("test", 300))
    }
    held = Utility(
        label="sex", task="classification", model="probe", measure="auc", difference=0.195,
        low=0.091, high=0.299, level=0.95, p=0.002, verdict="helped",
        sentence="synthetic data helped: +19.5 points AUC, 95% CI +9.1 to +29.9",
        arms={"real": 0.724, "real + synthetic": 0.919}, n_real=20, n_synth=200, n_test=300,
        cohorts=cohorts, settings_hash="0" * 12,
    )  # fmt: skip
    return held.model_copy(update=changed)


def make_readers(accuracy: float = 0.71, level: float = 2.1, **changed) -> ReaderResult:
    """What 5 readers saw of 20 pairs, and of one rated item of four levels."""

    def around(value: float, half: float) -> Estimated:
        return Estimated(value=value, low=value - half, high=value + half)

    held = ReaderResult(
        study="5" * 64, generator="ours", readers=5,
        comparison=ReaderComparison(readers=5, cases=20, accuracy=around(accuracy, 0.1),
                                    equivalence_p=0.8, margin=0.1, verdict="told"),
        controls={"blurred": around(0.95, 0.04), "real": around(0.5, 0.1)},
        ratings=(ReaderRating(item="slices", question="Do slices fit?",
                              levels=("no", "little", "mostly", "yes"),
                              mean=around(level, 0.4), real=around(3.4, 0.3),
                              alpha=around(0.4, 0.2), ac2=around(0.5, 0.2)),),
        real_fingerprint="e" * 64,
    )  # fmt: skip
    return held.model_copy(update=changed)
