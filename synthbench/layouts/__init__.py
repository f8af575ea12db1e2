"""The layouts that `synthbench.scans.find_scans` knows, by the name that `--layout` takes."""

from __future__ import annotations

from synthbench.layouts.bids import BIDS
from synthbench.layouts.camcan import CAMCAN
from synthbench.layouts.ixi import IXI
from synthbench.layouts.layout import Layout
from synthbench.layouts.loni import ADNI, NIFD, PPMI
from synthbench.layouts.oasis import OASIS1, OASIS2
from synthbench.layouts.oasis3 import OASIS3

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (BIDS, ADNI, PPMI, NIFD, OASIS1, OASIS2, OASIS3, CAMCAN, IXI)
}

__all__ = ["LAYOUTS", "Layout"]
