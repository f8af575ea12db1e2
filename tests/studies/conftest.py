"""The scripts of studies/ as modules; they are no part of the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "studies"
MODULES = ("coverage_gate", "coverage_cells", "coverage_designs", "coverage_report")


def script(name: str) -> ModuleType:
    """Return a script of studies/, under a name that no package has."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(f"{name}_study", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # A dataclass looks its module up. Only for this import: studies/ has names of packages.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
        del sys.modules[spec.name]
    return module


@pytest.fixture(scope="session")
def study() -> Iterator[ModuleType]:
    """The script studies/coverage.py."""
    yield script("coverage")
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="session")
def cells(study: ModuleType) -> ModuleType:
    """The module studies/coverage_cells.py."""
    return import_module("coverage_cells")


@pytest.fixture(scope="session")
def gate(study: ModuleType) -> ModuleType:
    """The module studies/coverage_gate.py."""
    return import_module("coverage_gate")


@pytest.fixture(scope="session")
def tiny_cell(cells: ModuleType) -> Any:
    """Return a function that makes a cell of a fraction of a second, with changed settings."""

    def make(**changes: Any) -> Any:
        settings = {
            "n": 12,
            "rank": 32,
            "regime": "mean shift",
            "metrics": ("mmd2", "ms_ssim", "fid", "kid"),
            "resamples": 50,
            "fid_every": 2,
        }
        return cells.Cell(**{**settings, **changes})

    return make
