"""The import paths that users and plugins write: a change here breaks their programs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PUBLIC = {
    "synthbench": (
        "Cohort CohortSet Context Scorecard ScoringSettings Space __version__ read_cohort "
        "render_leaderboard sample score score_cohorts train"
    ),
    "synthbench.errors": (
        "CheckFailed CohortError MetricError RunError ScorecardError Stopped SynthbenchError "
        "UsageError WeightsError"
    ),
    "synthbench.generators.generator": (
        "Generator Perceptual Progress Settings one_step refuse_init"
    ),
    "synthbench.metrics": (
        "clipped_coverage clipped_density constraint_violations coverage density effective_rank "
        "fid fld g4r_ssim intensity_distance kid local_copying mae median_bandwidth "
        "membership_inference memorization mmd2 mmd_linear ms_ssim permutation_p precision psnr "
        "quality_distance recall region_differences regional_distance rke seam_energy "
        "spectrum_distance ssim"
    ),
    "synthbench.metrics.extractors.extractor": (
        "Extractor ZSCORE_NONZERO_ZEROS check_volumes zscore_nonzero_zeros"
    ),
    "synthbench.metrics.inference": "subject_index variance_of_mean",
    "synthbench.metrics.metric": (
        "BaseMetric Composite CrossMetric Direction IntervalMethod Metric Needs RowStatistic "
        "Statistic Studentized Summed Target VolumeMetric VolumeSource Weights as_float64 "
        "check_features ones"
    ),
    "synthbench.registry": "load names",
    "synthbench.testing": "check_extractor check_generator check_metric",
}


@pytest.mark.parametrize(("module", "names"), PUBLIC.items(), ids=PUBLIC)
def test_every_public_name_has_its_import_path(module: str, names: str) -> None:
    found = import_module(module)
    assert [name for name in names.split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("module", ["synthbench", "synthbench.metrics"])
def test_the_packages_list_these_names_and_no_others(module: str) -> None:
    assert sorted(import_module(module).__all__) == sorted(PUBLIC[module].split())


# A file may have the name of its function, as fid.py has. To import the file is to bind a module
# to a name of the package, and the name must stay the function all the same.

EVERY_FILE_FIRST = """
import importlib, pkgutil, types
import synthbench.metrics as metrics

def functions():
    return {name: getattr(metrics, name) for name in metrics.__all__}

before = functions() if FUNCTIONS_FIRST else None
for found in pkgutil.walk_packages(metrics.__path__, "synthbench.metrics."):
    importlib.import_module(found.name)
after = functions()
assert all(isinstance(one, types.FunctionType) for one in after.values()), after
assert before in (None, after)
for name in after:
    scope = {}
    exec(f"from synthbench.metrics import {name} as imported", scope)
    assert scope["imported"] is after[name], name
assert metrics.fid([[0.0], [2.0]], [[1.0], [3.0]]) == 1.0
"""


@pytest.mark.slow
@pytest.mark.parametrize("functions_first", [False, True], ids=["files first", "functions first"])
def test_a_metric_is_a_function_in_every_order_of_imports(functions_first: bool) -> None:
    """FID of two sets of one variance is the squared distance of their means: 1."""
    python(EVERY_FILE_FIRST.replace("FUNCTIONS_FIRST", str(functions_first)))


A_FILE_OF_THAT_NAME = """
import sys
import synthbench.metrics
synthbench.metrics.__path__.append(sys.argv[1])
import synthbench.metrics.kid
assert synthbench.metrics.kid() == "of the file"
from synthbench.metrics.kid import OTHER, kid
assert OTHER == 3
assert kid is synthbench.metrics.kid is sys.modules["synthbench.metrics.kid"].kid
"""


def test_a_file_named_as_its_function_does_not_hide_it(tmp_path: Path) -> None:
    """The file is the test's own; no file of the package has the name of this function."""
    assert not (ROOT / "metrics" / "kid.py").exists()
    (tmp_path / "kid.py").write_text(
        "OTHER = 3\ndef kid():\n    return 'of the file'\n", encoding="utf-8"
    )
    python(A_FILE_OF_THAT_NAME, str(tmp_path))


def python(program: str, *arguments: str) -> None:
    """Run a program in a fresh interpreter: only there is nothing imported yet."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True)
