"""The scales of the extractor `radiomics`: typical values and spreads of its features.

Usage: python studies/radiomics_scales.py [--n 12]

Measures subjects of the embedded atlas cohort (seed 7) at 2 mm, and prints the table `SCALES`.
"""

from __future__ import annotations

import argparse

import numpy as np

from synthbench.metrics.extractors.radiomics import radiomics_of, transformed
from synthbench.metrics.extractors.tissue import MNI152_2MM
from synthbench.simulation.subject import draw


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=12, help="number of subjects")
    options = parser.parse_args()
    rows = [radiomics_of(draw(7, index, MNI152_2MM.shape).volume) for index in range(options.n)]
    for name in rows[0]:
        values = [transformed(name, row[name]) for row in rows]
        print(f'    "{name}": ({np.mean(values):.3g}, {np.std(values, ddof=1):.3g}),')


if __name__ == "__main__":
    main()
