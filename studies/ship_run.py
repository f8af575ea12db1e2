r"""Copy the files of a finished run that `sample` and `train --init` need into the package.

Usage: python studies/ship_run.py RUN synthbench/generators/shipped/NAME

The run in the package, on simulated brains:

synthbench data atlas --n 512 --seed 11 --shape 48 56 48 --out atlas-cohort
synthbench train ddpm3d --preset tiny --real atlas-cohort --set seed=7 --set steps=9000 \
    --set width=48 --set convolutions=5 --set levels=2 --set precision=bf16 \
    --set learning_rate=1.5e-3 --set final_learning_rate=1e-5 --set ema_decay=0.99 \
    --set components=10 --set start_noise=6 --set start_spread=1.3 \
    --energy --out runs/atlas
python studies/ship_run.py runs/atlas synthbench/generators/shipped/atlas

Paths of the machine are left out of the configuration.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from synthbench.generators.volume_prior import PREFIX
from synthbench.runs.folder import Run
from synthbench.runs.model_card import write_model_card

PATHS = ("real", "validation", "init")
FILLED_IN = (
    "The authors of synthbench, by the commands in studies/ship_run.py.",
    "The weights may be used under the licence of synthbench (LICENSE).",
    "`make demo` scores it after 100 more steps, on simulated brains.",
)
LARGEST = 8 * 2**20


def main() -> None:
    """Copy a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    run = Run.open(options.run)
    if not run.record.get("finished"):
        raise SystemExit(f"{run.folder}: not finished")
    # 16 bits halve the file; values are rounded to 1/2048 of themselves, the smallest to 3e-8.
    arrays = {
        name: array if name.startswith(PREFIX) else array.astype(np.float16)
        for name, array in run.load_weights().items()
    }
    size = sum(array.nbytes for array in arrays.values())
    if size > LARGEST:
        raise SystemExit(f"{size} bytes of weights, more than {LARGEST}")
    options.out.mkdir(parents=True)
    shipped = Run(options.out)
    shipped.write_config({**run.config, **dict.fromkeys(PATHS)})
    record = run.record
    # The folder of volumes is the embedded cohort, written by `data atlas`.
    record["cohort"]["embedded"] = True
    shipped.update(**record)
    shipped.save_weights(arrays)
    card = write_model_card(shipped)
    texts = iter(FILLED_IN)
    card.write_text(
        re.sub(
            r"\*\*To be filled in:\*\*[^\n]*",
            lambda _: next(texts),
            card.read_text(encoding="utf-8"),
        ),
        encoding="utf-8",
    )
    print(f"{size / 2**20:.1f} MiB, sha256 {shipped.weights_sha256}")


if __name__ == "__main__":
    main()
