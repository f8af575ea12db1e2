"""Scorecards that differ in one thing, and sample data of features without volumes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from synthbench.metrics.inference.resampling import estimate, magnitude
from synthbench.records.values import FloorRecord
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.sample_data import JobData, SampleData

EXTRACTOR = "voxels"
METRICS = ("mmd2", "fid", "intensity")
KEYS = [f"{name} | {EXTRACTOR}" for name in ("mmd2", "fid")]
N, D = 40, 12


def with_protocol(card, **changes):
    """The card as if it had been scored under another protocol, with the values that it has."""
    protocol = card.protocol.model_copy(update=changes)
    return card.model_copy(update={"protocol": protocol, "protocol_hash": protocol.hash})


def with_values(card, factor):
    """The card with every value moved by a factor of its terms."""
    rows = [row.model_copy(update={"value": row.value + factor * row.magnitude})
            for row in card.values]  # fmt: skip
    return card.model_copy(update={"values": tuple(rows)})


def with_bandwidth(card, factor):
    settings = json.loads(json.dumps(card.protocol.settings))
    settings[f"mmd2 | {EXTRACTOR}"]["bandwidth"] *= factor
    return with_protocol(card, settings=settings)


def with_weights(card, sha256):
    (record,) = card.protocol.extractors
    return with_protocol(card, extractors=(record.model_copy(update={"weights_sha256": sha256}),))


def with_mask(card):
    mask = card.protocol.mask.model_copy(update={"sha256": "0" * 64, "voxels": 9})
    return with_protocol(card, mask=mask)


def with_software(card, **versions):
    return card.model_copy(update={"software": {**card.software, **versions}})


def row_of(found, metric) -> Any:
    return next(row for row in found.metrics if row.metric == metric)


def statuses(found):
    return {row.metric: row.status for row in found.metrics}


def features(seed, n=N, shift=0.0, spread=1.0):
    rng = np.random.default_rng(seed)
    return shift + spread * rng.standard_normal((n, D))


def sample_data_of(card, real, synth, seeds=None, fingerprint="b"):
    """Sample data of features that no volumes are behind."""
    protocol = card.protocol.model_copy(
        update={"n_real": len(real), "n_synth": len(synth), "resamples": 400, "permutations": 400}
    )
    settings = json.loads(json.dumps(protocol.settings))
    settings[KEYS[0]]["bandwidth"] = 4.0
    return SampleData(
        real_fingerprint="a" * 64,
        synth_fingerprint=fingerprint * 64,
        protocol=protocol.model_copy(update={"settings": settings}),
        subjects={"real": np.arange(len(real)), "synth": np.arange(len(synth))},
        jobs={key: JobData(real, synth) for key in KEYS},
        seeds=seeds,
    )


def card_of(card, sample_data, detectable=0.05, **updates):
    """The scorecard that scoring these features would give, with its sample data in the cache."""
    rows = []
    for row in card.values:
        if row.metric in ("mmd2", "fid"):
            statistic = sample_data.row_statistic(row)
            floor = FloorRecord(n=20, mean=0.0, low=0.0, high=0.0, synth_mean=0.0,
                                minimum_detectable_effect=detectable)  # fmt: skip
            rows.append(row.model_copy(update={
                "value": estimate(statistic), "magnitude": magnitude(statistic), "floor": floor,
            }))  # fmt: skip
    Cache().keep_sample_data(sample_data.key, sample_data.packed())
    synth = card.synth.model_copy(
        update={
            "fingerprint": sample_data.synth_fingerprint,
            "n": len(sample_data.subjects["synth"]),
        }
    )
    real = card.real.model_copy(update={"fingerprint": sample_data.real_fingerprint, "n": N})
    return card.model_copy(update={
        "values": tuple(rows), "real": real, "synth": synth, "protocol": sample_data.protocol,
        "protocol_hash": sample_data.protocol.hash, **updates,
    })  # fmt: skip


def two_cards(card, first, second, seeds=(None, None), updates=({},) * 2, **options):
    real = features(0)
    return [
        card_of(card, sample_data_of(card, real, synth, s, name), **u, **options)
        for synth, s, u, name in zip((first, second), seeds, updates, "bc", strict=True)
    ]


def runs_of(card, values, **updates):
    """A history: one card per run and day, of new images, with these values of each metric."""
    n = len(next(iter(values.values())))
    cards = []
    for i in range(n):
        rows = [
            row.model_copy(update={
                "value": float(values[row.metric][i]),
                "floor": row.floor and row.floor.model_copy(
                    update={"minimum_detectable_effect": 4.0}),
            }) if row.metric in values else row
            for row in card.values
        ]  # fmt: skip
        synth = card.synth.model_copy(update={"fingerprint": f"{i:064d}"})
        cards.append((f"run-{i:02}.json", card.model_copy(update={
            "values": tuple(rows), "synth": synth,
            "created": f"2026-01-{i + 1:02}T00:00:00+00:00", **updates,
        })))  # fmt: skip
    return cards


def save_runs(folder, cards):
    """Write a history as files; return the folder."""
    folder.mkdir(exist_ok=True)
    for name, card in cards:
        card.save(folder / name)
    return folder
