"""The registry: built-in plugins, plugins of other packages, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from synthbench import registry
from synthbench.cohorts.datasets.layouts.layout import Layout
from synthbench.errors import UsageError
from synthbench.generators.generator import Generator
from synthbench.metrics.extractors.extractor import Extractor
from synthbench.metrics.metric import Metric
from synthbench.registry import BUILT_IN, Kind

CONTRACTS: dict[Kind, type] = {
    "generators": Generator,
    "metrics": Metric,
    "extractors": Extractor,
    "layouts": Layout,
}
PLUGINS = [(kind, name) for kind, table in BUILT_IN.items() for name in table]

Announce = Callable[..., None]


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Announce:
    """Return a function that announces entry points as an installed package would."""
    announced: list[EntryPoint] = []

    def found(*, group: str) -> list[EntryPoint]:
        return [entry for entry in announced if entry.group == group]

    def add(kind: Kind, name: str, value: str) -> None:
        announced.append(EntryPoint(name=name, value=value, group=f"synthbench.{kind}"))

    monkeypatch.setattr(registry, "entry_points", found)
    return add


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install a package of one generator into a folder on the path; its name is `thirdparty`."""
    (tmp_path / "thirdparty.py").write_text("class Echo:\n    name = 'echo'\n", encoding="utf-8")
    metadata = tmp_path / "thirdparty-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(
        "[synthbench.generators]\necho = thirdparty:Echo\n[another]\nnot-ours = thirdparty:Echo\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "thirdparty"
    sys.modules.pop("thirdparty", None)


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_every_built_in_plugin_meets_its_contract(kind: Kind, name: str) -> None:
    plugin = registry.load(kind, name)()
    assert plugin.name == name
    assert isinstance(plugin, CONTRACTS[kind])


def test_names_hold_the_built_in_ones_first_and_in_their_order(announce: Announce) -> None:
    for kind, table in BUILT_IN.items():
        found = registry.names(kind)
        assert list(found) == list(table)
        assert found == table


def test_names_imports_no_plugin(announce: Announce) -> None:
    announce("metrics", "absent", "a_package_that_is_not_there:Metric")
    assert registry.names("metrics")["absent"] == "a_package_that_is_not_there:Metric"


def test_a_plugin_of_another_package_is_found_and_loaded(installed: str) -> None:
    assert registry.names("generators")["echo"] == "thirdparty:Echo"
    assert installed not in sys.modules
    assert registry.load("generators", "echo")().name == "echo"


def test_a_plugin_belongs_to_one_kind(installed: str) -> None:
    assert "echo" not in registry.names("metrics")
    assert "not-ours" not in registry.names("generators")


@pytest.mark.parametrize(
    ("kind", "wrong", "hint"),
    [
        ("generators", "ddmp3d", "no generator is named 'ddmp3d': did you mean 'ddpm3d'?"),
        ("metrics", "mmd", "no metric is named 'mmd': did you mean 'mmd2'?"),
        ("extractors", "random-resnet", "did you mean 'random-resnet10'?"),
        ("layouts", "oasis-1", "no layout is named 'oasis-1': did you mean 'oasis1'?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(kind: Kind, wrong: str, hint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        registry.load(kind, wrong)
    assert hint in str(refusal.value)


def test_a_name_like_no_other_is_answered_with_all_of_them(announce: Announce) -> None:
    with pytest.raises(UsageError, match=r"known: ddpm3d, .*noise.*\.$"):
        registry.load("generators", "zzzzzzzz")


def test_a_name_that_synthbench_has_cannot_be_claimed(
    tmp_path: Path, installed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "thirdparty-1.0.dist-info"
    (metadata / "entry_points.txt").write_text(
        "[synthbench.generators]\nnoise = thirdparty:Echo\n", encoding="utf-8"
    )
    with pytest.raises(UsageError, match=r"'noise': one of synthbench, one of thirdparty\. Unin"):
        registry.names("generators")


def test_two_packages_cannot_claim_one_name(announce: Announce) -> None:
    announce("metrics", "sharpness", "one:Sharpness")
    announce("metrics", "sharpness", "another:Sharpness")
    with pytest.raises(UsageError, match="two metrics are named 'sharpness'"):
        registry.names("metrics")
    assert "ddpm3d" in registry.names("generators"), "other kinds are not touched by it"


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("a_package_that_is_not_there:Echo", "No module named 'a_package_that_is_not_there'"),
        ("json:Echo", "has no attribute 'Echo'"),
    ],
    ids=["module", "attribute"],
)
def test_a_broken_plugin_is_named_with_the_cause(
    announce: Announce, value: str, cause: str
) -> None:
    announce("extractors", "echo", value)
    with pytest.raises(UsageError) as refusal:
        registry.load("extractors", "echo")
    message = str(refusal.value)
    assert f"the extractor 'echo' ({value}) cannot be loaded" in message
    assert cause in message
    assert "Reinstall the package" in message


def test_the_author_of_code_that_failed_is_the_package_of_the_plugin(installed: str) -> None:
    modules = ["numpy.linalg", "thirdparty.networks", "synthbench.training.training"]
    assert registry.author_of(modules) == "the generator 'echo' of the package thirdparty"
    assert registry.author_of(["numpy", "synthbench.training.training", "__main__"]) is None
