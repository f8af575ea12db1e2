"""The parsers of records: scorecards, benchmarks, boards, studies, networks, descriptions."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz import mutations as damage
from tests.fuzz.parser import Parser, Read

_DATA = Path(__file__).resolve().parents[1] / "data" / "rescored"
_BOARD = Path(__file__).resolve().parents[1] / "data" / "board-of-nine"


def _board() -> dict[str, bytes]:
    names = ("benchmark.yaml", "comparisons.json", "multiverse.json", "entries/noise.json",
             "entries/ddpm3d-tiny.json", "entries/pca-gaussian.json")  # fmt: skip
    return {f"board/{name}": (_BOARD / name).read_bytes() for name in names}


def _page(file: Path) -> object:
    from synthbench.leaderboard.page import render_details, render_leaderboard

    folder = next(parent for parent in file.parents if parent.name == "board")
    return render_leaderboard(folder) + render_details(folder)


def loaded(module: str, name: str) -> Read:
    def read(file: Path) -> object:
        from importlib import import_module

        return getattr(import_module(module), name).load(file)

    return read


def _benchmark(file: Path) -> object:
    from synthbench.scoring.benchmark import Benchmark, BenchmarkSettings

    found = Benchmark.load(file)
    BenchmarkSettings.load(file)
    return found.settings, found.mask


def _mask(file: Path) -> object:
    """The packed mask of a benchmark, in which only its text is damaged."""
    from synthbench.errors import ScorecardError
    from synthbench.scoring.benchmark import unpacked_mask

    try:
        return unpacked_mask(file.read_bytes().decode("latin-1"), (24, 24, 24))
    except (ValueError, zlib.error) as error:  # Benchmark.mask names the benchmark
        raise ScorecardError(f"{file.name}: {error}") from error


def _cited(file: Path) -> object:
    from synthbench.records.scorecard import Scorecard
    from synthbench.report.citation import cite
    from synthbench.report.text import header, scorecard_table

    card = Scorecard.load(file)
    return cite(card), header(card), scorecard_table(card)


def _sample_data() -> bytes:
    import yaml

    protocol = yaml.safe_load((_DATA / "benchmark.yaml").read_text(encoding="utf-8"))["protocol"]
    about = {"schema": 1, "real_fingerprint": "a", "synth_fingerprint": "b", "protocol": protocol,
             "seeds": [1, 2], "jobs": {"intensity": 0}}  # fmt: skip
    arrays = {
        "real-0": np.ones((3, 4)), "synth-0": np.ones((2, 4)), "subjects-real": np.arange(3),
        "subjects-synth": np.arange(2),
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
    }  # fmt: skip
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _utility() -> Any:
    """A study of one label, by a model on features."""
    from synthbench.records.protocol import SpaceRecord
    from synthbench.utility.record import Arm, Difference, Estimated, Settings, UtilityRecord
    from tests.boards import make_verdict

    found = Estimated(value=0.7, low=0.6, high=0.8, se=0.05, df=9.5, p=0.01,
                      variance={"test subjects": 0.0025})  # fmt: skip
    settings = Settings(
        label="sex", task="classification", levels=("F", "M"), model="probe", details={"folds": 5},
        extractor=None, space=SpaceRecord(
            shape=(4, 4, 4), affine=tuple(np.eye(4).ravel().tolist()), intensity="percentile",
            scaling="x",
        ), ratios=(1.0,), splits=None, level=0.95, seed=0,
    )  # fmt: skip
    summary = make_verdict()
    record = UtilityRecord(
        name="x", created="2026-01-01", settings=settings, settings_hash=settings.hash,
        cohorts=summary.cohorts, measures=("auc",),
        arms=(Arm(name="real", real=20, tested=300, values={"auc": found}),),
        differences=(Difference(arm="both", against="real", values={"auc": found}),),
        summary=summary, software={"synthbench": "0"},
    )  # fmt: skip
    return record.model_dump(mode="json")


def _network_description(file: Path) -> object:
    from synthbench.metrics.extractors.exported import NetDescription, read_description

    return read_description(file, NetDescription)


def _archive(file: Path) -> None:
    from synthbench.metrics.extractors.network_archive import plain_archive

    plain_archive(file, file.read_bytes())


def _terms(file: Path) -> object:
    from synthbench.cohorts.cohort import Cohort, Entry
    from synthbench.cohorts.datasets.layouts.bids import dataset_terms
    from synthbench.cohorts.provenance import sources
    from synthbench.volumes.grid import Space

    dataset_terms(file.parent)
    entry = Entry(file.parent / "sub-1.nii", "sub-1.nii", "sub-1", "ab", None)
    space = Space.of((4, 4, 4), np.eye(4))
    import pandas as pd

    return sources(Cohort((entry,), space, space, pd.DataFrame()))


def _prepared(file: Path) -> None:
    from synthbench.cohorts.preparation.derivative import check_folder
    from synthbench.cohorts.preparation.settings import Settings

    check_folder(file.parents[2], [], Settings.chosen())


def _published(file: Path) -> object:
    from synthbench.training.pretrained_tiles import model_of_folder

    return model_of_folder(file.parents[0] if file.name == "README.md" else file.parents[1])


def records() -> list[Parser]:
    import base64
    import zipfile

    import yaml

    from synthbench.cohorts.preparation.settings import Settings

    card = json.loads((_DATA / "baseline.json").read_text(encoding="utf-8"))
    small = {**card, "values": card["values"][:3], "images": []} if "images" in card else {
        **card, "values": card["values"][:3]}  # fmt: skip
    benchmark = yaml.safe_load((_DATA / "benchmark.yaml").read_text(encoding="utf-8"))
    mask = base64.b64encode(zlib.compress(np.packbits(np.ones(24**3, bool)).tobytes()))
    bomb = base64.b64encode(zlib.compress(bytes(10**8)))
    settings = {"metrics": ["mmd2"], "extractors": ["random-resnet10"], "m": 4, "resamples": 100}
    net = {"name": "n", "licence": "MIT", "source": "x", "output": 0, "pooling": "none", "dim": 4,
           "channels": 1, "dtype": "float32", "space": "protocol", "scaling": "unit"}  # fmt: skip
    comparisons, multiverse = (
        json.loads((_BOARD / name).read_text(encoding="utf-8"))
        for name in ("comparisons.json", "multiverse.json")
    )
    comparisons["metrics"] = comparisons["metrics"][:1]
    study = {"schema_version": 2, "created": "", "real": card["real"], "n": 4, "seed": 0,
             "protocol": card["protocol"], "rows": []}  # fmt: skip
    description = {"Name": "x", "BIDSVersion": "1.9.0", "License": "CC0", "GeneratedBy": [
        {"Name": "synthbench data prepare"}], "SourceDatasets": [{"URL": "https://a"}],
        "ReferencesAndLinks": ["https://b"], "HowToAcknowledge": "thanks"}  # fmt: skip
    prepared = {"SettingsDigest": Settings.chosen().digest, "Source": {"sha256": "a"}, "Measured": {
        "brain_ml": 1.0, "correlation_head": 1.0, "correlation_brain": 1.0, "noise_sd": 1.0,
        "total_seconds": 1.0}}  # fmt: skip
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a/models/model.json", "{}")
        opened.writestr("a/data/weights/model_weights_config.json", '{"config": {}}')
    json_, yaml_ = damage.damaged_json, damage.damaged_yaml
    load = loaded
    model = {f"m/{part}/diffusion_pytorch_model.bin": b"x" for part in ("transformer", "vae")}
    model |= {f"m/{part}/config.json": b"{}" for part in ("transformer", "vae")}
    return [
        Parser("scorecard", "card.json", json_((small,)), _cited),
        Parser("benchmark.yaml", "benchmark.yaml", yaml_(({**benchmark, "floors": []},)),
               _benchmark, also_called=("benchmark",)),
        # Nearly every change of a stream is found, so whole ones of all lengths are tried too.
        Parser("packed mask", "mask", damage.damaged_bytes((mask, bomb), 200) | st.binary(
            min_size=1727, max_size=1729).map(lambda bits: base64.b64encode(zlib.compress(bits))),
               _mask),
        Parser("--protocol", "p.yaml", yaml_((settings,)), load(
            "synthbench.scoring.benchmark", "BenchmarkSettings")),
        Parser("comparisons.json", "board/comparisons.json", json_((comparisons,)), _page, _board(),
               ("board",)),
        Parser("multiverse.json", "board/multiverse.json", json_((multiverse,)), _page, _board(),
               ("board",)),
        Parser("leaderboard's entry", "board/entries/noise.json",
               json_((json.loads((_BOARD / "entries/noise.json").read_text("utf-8")),)), _page,
               _board(), ("board",)),
        Parser("sensitivity", "s.json", json_((study,)), load(
            "synthbench.sensitivity.read_back", "Sensitivity")),
        Parser("utility", "u.json", json_((_utility(),)), load(
            "synthbench.utility.record", "UtilityRecord")),
        Parser("sample data", "d.npz", damage.damaged_bytes((_sample_data(),), 5000), load(
            "synthbench.scoring.sample_data", "SampleData")),
        Parser("notes.md", "board/notes.md", damage.damaged_bytes((b"# Notes",)), _page, _board()),
        Parser("network's YAML", "net.yaml", yaml_((net,)), _network_description),
        Parser("network archive", "net.pt2", damage.damaged_bytes((archive.getvalue(),)), _archive),
        Parser("dataset_description", "dataset_description.json", json_((description,)), _terms,
               {"DATA_USE_TERMS.txt": b"terms"}),
        Parser("DATA_USE_TERMS", "DATA_USE_TERMS.txt", damage.damaged_bytes((b"Terms\n\nx",)),
               _terms, {"dataset_description.json": json.dumps(description).encode()}),
        Parser("prepared sidecar", "sub-1/anat/sub-1_space-MNI152_desc-prepared_T1w.json",
               json_((prepared,)), _prepared, also_called=("sub-1",)),
        Parser("model's config.json", "m/vae/config.json", json_(({"a": 1},)), _published, model),
        Parser("model's README.md", "m/README.md", yaml_(({"license": "mit"},)).map(
            lambda text: b"---\n" + text + b"\n---\n"), _published, model),
    ]  # fmt: skip
