from __future__ import annotations

import json
import sys

import pytest

from synthbench.report import doctor
from tests.command_line import run


@pytest.fixture
def looked(monkeypatch):
    """Return what was found, by name."""

    def look():
        return {check.name: check for check in doctor.checks()}

    return look


def test_it_says_what_is_here_and_nothing_is_wrong_here(tmp_path):
    ended = run("doctor", "--json", SYNTHBENCH_CACHE=str(tmp_path / "cache"))
    assert ended.returncode == 0, ended.stderr
    found = {check["name"]: check for check in json.loads(ended.stdout)}
    names = {"Python", "packages", "threads", "GPU", "memory", "disk, here", "cache", "weights",
             "locale"}  # fmt: skip
    assert names <= set(found)
    assert all(bool(check["fix"]) == (check["state"] != "ok") for check in found.values())
    assert not (tmp_path / "cache").exists()


def test_a_table_and_advice_for_people():
    text = run("doctor").stdout
    assert "torch" in text
    assert "weights: synthbench fetch medicalnet" in text


def test_a_package_that_is_too_old_or_missing_is_a_problem(looked, monkeypatch):
    monkeypatch.setattr(
        doctor, "requires", lambda name: ["numpy>=99", "nowhere>=1.2", "x>=1; extra == 'dev'"]
    )
    found = looked()["packages"]
    assert found.state == "problem"
    assert "is older than 99, nowhere is missing" in found.found
    ended = run("doctor")
    assert ended.returncode == 1
    assert "1 problems: packages" in ended.stderr


def test_a_cpu_build_beside_a_driver_is_a_problem(looked, monkeypatch, tmp_path):
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(doctor, "_DRIVER", driver)
    import torch

    if not torch.cuda.is_available():
        assert looked()["GPU"].state == "problem"
    monkeypatch.setattr(doctor, "_DRIVER", tmp_path / "none")


def test_a_disk_that_is_nearly_full_is_said(looked, monkeypatch):
    monkeypatch.setattr(doctor, "FEW_GB", 1e12)
    assert looked()["disk, here"].state == "note"


def test_a_locale_without_utf_8_is_said(looked, monkeypatch):
    class Latin:
        encoding = "latin-1"

    monkeypatch.setattr(sys, "stdout", Latin())
    found = looked()["locale"]
    assert (found.state, "latin-1" in found.found) == ("note", True)


def test_a_plugin_that_cannot_be_loaded_is_a_problem(looked, monkeypatch):
    from importlib.metadata import EntryPoint

    from synthbench import registry

    broken = EntryPoint(name="echo", value="nowhere:Echo", group="synthbench.metrics")
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group: [broken] if group == broken.group else []
    )
    found = looked()["plugin echo"]
    assert found.state == "problem"
    assert "nowhere" in found.found
