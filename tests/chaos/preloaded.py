"""What the forked processes of `tests.chaos.kills` share, imported once, and the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import synthbench.cli.demo
import synthbench.cohorts.preparation.cohort
from synthbench import registry
from synthbench.cli import app
from synthbench.cli.console import log
from synthbench.cohorts.preparation.template import template_t1
from synthbench.simulation.template import antialiased_maps, template_anatomy
from tests import ellipsoids

HEADS = 2

# Commands import these when they need them: each forked process would do so again.
for name in (
    "accelerate", "matplotlib.backends.backend_agg", "matplotlib.figure", "matplotlib.image",
    "nilearn.datasets", "pandas",
    *(f"synthbench.{module}" for module in (
        "cohorts.split", "generators.loop.augmentation", "generators.loop.settings",
        "generators.pca_gaussian", "runtime.processes", "runtime.progress",
        "sampling.distributed", "sampling.importing", "sampling.merging", "sampling.sampling",
        "training.training",
    )),
):  # fmt: skip
    import_module(name)

if os.environ.get("CHAOS_TEMPLATE"):  # read and blurred once, for all processes
    antialiased_maps((16, 20, 16))
    template_anatomy()
    template_t1()


def run(command: Sequence[str]) -> None:
    """Run a command and end the process, as `synthbench` would."""
    registry.BUILT_IN["generators"]["ellipsoids"] = "tests.ellipsoids:Ellipsoids"
    registry.BUILT_IN["extractors"]["dark"] = "tests.ellipsoids:Dark"
    code: object = 0
    try:
        if command[0] in _SMALL:
            _SMALL[command[0]](*map(Path, command[1:]))
        else:
            sys.argv = ["synthbench", *command]
            app.main()
    except SystemExit as stopped:
        code = stopped.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _small_demo(out: Path) -> None:
    """The demo, with fewer subjects, volumes and steps."""
    demo = synthbench.cli.demo
    demo.SUBJECTS, demo.VOLUMES = 6, 5
    vars(demo)["GENERATORS"] = ("pca-gaussian", "noise")
    # MS-SSIM needs 44 voxels per side.
    vars(demo)["METRICS"] = ("mmd2", "fid", "coverage", "spectrum", "memorization")
    demo.run_demo(out, steps=2, shape=(16, 20, 16), log=log)


def _write_heads(folder: Path) -> None:
    """Scans of a manifest that `_prepare_coarsely` reads."""
    import numpy as np

    from synthbench.cohorts.preparation.image import Image
    from tests.cohorts.preparation.heads import SPACING, save, scanned, turned

    template = template_t1()
    grid = template.space.regrid(spacing=SPACING)
    brain = Image(0.8 * template.on(grid), grid)
    rows = ["path,participant_id"]
    for number in range(HEADS):
        pose = turned(4 * number, 2, -3, (5, -10, 10)) @ np.diag([1.05, 1.0, 1.0, 1.0])
        save(scanned(brain, pose, seed=number).scan, folder / f"{number}.nii.gz")
        rows.append(f"{number}.nii.gz,sub-{number}")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")


def _prepare_coarsely(heads: Path, out: Path) -> None:
    """`data prepare`, on coarse grids."""
    from tests.cohorts.preparation.heads import COARSE

    try:
        synthbench.cohorts.preparation.cohort.prepare(
            heads / "scans.csv", out, settings=COARSE, log=log
        )
    except Exception as error:
        log(f"error: {error}")
        sys.exit(2)


def _write_cohort(folder: Path) -> None:
    """A small cohort that needs no template."""
    import nibabel as nib

    from tests.conftest import AFFINE, blob

    folder.mkdir()
    for i in range(12):
        nib.save(nib.Nifti1Image(blob(i, (16, 20, 16)), AFFINE), folder / f"sub-{i:02d}.nii.gz")


def _write_conditional_run(folder: Path) -> None:
    """A run that `sweep` takes."""
    ellipsoids.make_run(folder)


_SMALL: Mapping[str, Callable[..., None]] = {
    "write-cohort": _write_cohort, "write-conditional-run": _write_conditional_run,
    "small-demo": _small_demo, "write-heads": _write_heads, "prepare-coarsely": _prepare_coarsely,
}  # fmt: skip
