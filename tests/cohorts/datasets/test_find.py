"""Finding scans: recognising layouts, built-in ones and those of other packages."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import get_args

import pytest

from synthbench.cli import data
from synthbench.cohorts.datasets.data_use import terms_of
from synthbench.cohorts.datasets.find import find_scans
from synthbench.cohorts.datasets.layouts import known_layouts
from synthbench.cohorts.datasets.layouts.layout import Layout
from synthbench.errors import CohortError, UsageError

LAYOUTS = known_layouts()
PAGE = (Path(__file__).parents[3] / "docs" / "cohorts.md").read_text(encoding="utf-8")


def touch(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_an_unknown_tree_is_refused_with_what_was_looked_for(tmp_path):
    touch(tmp_path / "brains" / "a.nii.gz")
    with pytest.raises(CohortError, match="not recognised") as error:
        find_scans(tmp_path)
    for name in LAYOUTS:
        assert f"{name}: " in str(error.value)
    assert "--layout" in str(error.value)


def test_two_layouts_in_one_folder_are_refused_unless_one_is_named(tmp_path):
    touch(tmp_path / "IXI002-Guys-0828-T1.nii.gz")
    touch(tmp_path / "OAS2_0001_MR1" / "RAW" / "mpr-1.nifti.hdr")
    with pytest.raises(CohortError, match="fits several layouts: oasis2, ixi"):
        find_scans(tmp_path)
    assert find_scans(tmp_path, "ixi").layout == "ixi"


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'oasis3'"):
        find_scans(tmp_path, "oasis-3")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_refuses_an_empty_folder(name, tmp_path):
    with pytest.raises(CohortError, match=f"no T1-weighted scan in the layout '{name}'"):
        find_scans(tmp_path, name)


def test_every_layout_is_documented():
    assert [name for name in LAYOUTS if f"`{name}`" not in PAGE] == []


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(CohortError, match="no such folder"):
        find_scans(tmp_path / "x")
    touch(tmp_path / "file")
    with pytest.raises(CohortError, match="it is a file"):
        find_scans(tmp_path / "file")


def test_dicom_is_answered_with_what_converts_it(tmp_path):
    touch(tmp_path / "study" / "a.dcm")
    with pytest.raises(CohortError, match=r"study/a\.dcm.*dcm2niix -z y -o OUT"):
        find_scans(tmp_path)


@pytest.fixture
def of_a_package(tmp_path, monkeypatch):
    """Install the package of the layout `mine`, of docs/cohorts.md, into a folder on the path."""
    code, lines = re.findall(r"```(?:python\n# my_package/layout.py|toml)\n(.*?)```", PAGE, re.S)
    metadata = tmp_path / "site" / "mine-1.0.dist-info"
    package = tmp_path / "site" / "my_package"
    metadata.mkdir(parents=True)
    package.mkdir()
    (package / "layout.py").write_text(code, encoding="utf-8")
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", encoding="utf-8"
    )
    points = lines.replace('project.entry-points."synthbench.layouts"', "synthbench.layouts")
    (metadata / "entry_points.txt").write_text(points.replace('"', ""), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield
    for module in ("my_package", "my_package.layout"):
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("of_a_package")
def test_a_layout_of_another_package_is_recognised_and_read(tmp_path):
    touch(tmp_path / "cohort" / "mine-7.nii.gz")
    for name in (None, "mine"):
        found = find_scans(tmp_path / "cohort", name)
        assert [scan.participant_id for scan in found.scans] == ["sub-7"]
    assert isinstance(known_layouts()["mine"], Layout)
    assert terms_of([tmp_path / "cohort" / "mine-7.nii.gz"]).name == "our terms"


@pytest.mark.usefixtures("of_a_package")
def test_a_tree_that_is_not_recognised_names_the_layouts_of_other_packages_too(tmp_path):
    touch(tmp_path / "cohort" / "below" / "a.nii.gz")
    with pytest.raises(CohortError, match="mine: mine-<person>"):
        find_scans(tmp_path / "cohort")


def test_the_help_of_layout_names_them_all():
    words = re.findall(r"\w+", get_args(data.Layout)[1].help)
    assert [name for name in LAYOUTS if name not in words] == []
