"""Which metrics a scoring has: a fixed list, and what is named."""

from __future__ import annotations

import pytest

from synthbench import registry
from synthbench.errors import UsageError
from synthbench.scoring.protocol import check_names, metrics_of
from synthbench.scoring.settings import DEFAULT_METRICS, ScoringSettings
from synthbench.scoring.statistics import jobs


@pytest.fixture
def plugin(monkeypatch):
    """A metric that another package announces."""
    announced = {**registry.BUILT_IN["metrics"], "mine": "synthbench.metrics.intensity:Intensity"}
    monkeypatch.setitem(registry.BUILT_IN, "metrics", announced)


def settings(*metrics):
    return ScoringSettings(extractors=("random-resnet10",), metrics=metrics or None)


def test_the_default_is_fixed_whatever_is_installed(plugin):
    """A change of this list changes every default protocol: say so in CHANGELOG.md."""
    assert "mine" in registry.names("metrics")
    assert metrics_of(settings()) == DEFAULT_METRICS
    assert DEFAULT_METRICS == (
        "mmd2", "fid", "kid", "precision", "recall", "density", "coverage", "ms_ssim", "spectrum",
        "intensity", "memorization", "local_copying", "mmd_linear", "g4r_ssim",
    )  # fmt: skip


def test_a_plugin_is_added_by_name(plugin):
    assert metrics_of(settings("mine")) == ("mine",)
    assert metrics_of(settings("default", "mine")) == (*DEFAULT_METRICS, "mine")
    assert metrics_of(settings("kid", "default")) == (
        "kid", *(name for name in DEFAULT_METRICS if name != "kid"),
    )  # fmt: skip
    check_names(settings("default", "mine"))


def test_an_unknown_name_beside_the_default_is_refused():
    with pytest.raises(UsageError, match=r"--metric: .*'mine'"):
        check_names(settings("default", "mine"))


@pytest.mark.parametrize("metric", ["constraints", "morphometry"])
def test_a_metric_of_measures_needs_an_extractor_that_gives_them(metric):
    """A network has few enough features too: that nobody can name them is what matters."""
    of_networks = ScoringSettings(extractors=("qiu2022", "voxels"), metrics=("kid", metric))
    with pytest.raises(UsageError, match=rf"--metric {metric}: .* Add --extractor regions"):
        check_names(of_networks)
    check_names(ScoringSettings(extractors=("qiu2022", "regions"), metrics=("kid", metric)))


def test_tables_of_measures_are_measures_for_regional_morphometry_alone():
    check_names(settings("kid", "morphometry"), tables=True)
    with pytest.raises(UsageError, match="--metric constraints"):
        check_names(settings("kid", "constraints"), tables=True)


def test_a_metric_of_measures_is_computed_of_measures_only():
    extractors = ["qiu2022", "voxels", "regions", "anatomy", "a file of a user"]
    found = [(job.metric.name, job.extractor) for job in jobs(["kid", "constraints"], extractors)]
    assert found == [
        *(("kid", name) for name in extractors),
        ("constraints", "regions"), ("constraints", "anatomy"),
    ]  # fmt: skip
