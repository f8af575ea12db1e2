from __future__ import annotations

import json
from functools import cache

import pytest

from synthbench.training import stages
from tests.command_line import run


@pytest.fixture(scope="module", autouse=True)
def _networks_are_counted_once():
    """Both lists count the parameters of every preset, for which each network is built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "parameters", cache(stages.parameters))
        yield


def test_list_says_what_each_needs():
    result = run("list", "extractors", "--json")
    listed = {row["name"]: row for row in json.loads(result.stdout)}
    assert listed["random-resnet10"]["needs"] == "nothing"
    assert "fetch" in listed["medicalnet-resnet50-23dataset"]["needs"]
    metrics = {row["name"]: row for row in json.loads(run("list", "metrics", "--json").stdout)}
    assert {"mmd2", "fid", "kid", "coverage", "ms_ssim", "spectrum", "memorization"} <= set(metrics)
    for row in metrics.values():
        assert row["sees"]
        assert row["misses"]
        assert row["target"] in ("zero", "floor")
        assert row["needs"] in ("features", "volumes", "training")


def test_generators_are_listed_with_paper_licence_conditions_presets_and_cost():
    listed = {row["name"]: row for row in json.loads(run("list", "generators", "--json").stdout)}
    assert {"ddpm3d", "ldm3d", "memorizer", "noise"} <= set(listed)
    for row in listed.values():
        assert all(row[field] for field in ("summary", "paper", "licence", "conditions", "cost"))
    assert listed["ldm3d"]["conditions"] == "covariates, guidance"
    assert listed["local3d"]["conditions"] == "covariates"
    assert listed["lsgan3d"]["conditions"] == "none"
    assert "tiny (0.2 M)" in listed["ddpm3d"]["presets"]
    assert listed["noise"]["presets"] == ""


def test_the_printed_list_has_one_block_per_generator():
    lines = run("list", "generators").stdout.splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith("lsgan3d"))
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == [
        "paper", "licence", "conditions", "presets", "cost",
    ]  # fmt: skip
