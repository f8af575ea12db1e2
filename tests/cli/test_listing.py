from __future__ import annotations

import json

from tests.command_line import run


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
    assert "memorizer" in run("list", "generators").stdout
