"""The sections of a report: one module with a `SECTION` and one template each.

To add a section, add `NAME.py` with a `SECTION` here and `templates/sections/ANCHOR.jinja`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from synthbench.report.sections.section import Section

SECTIONS: tuple[Section, ...] = tuple(
    sorted(
        (
            module.SECTION
            for found in iter_modules(__path__, f"{__name__}.")
            if hasattr(module := import_module(found.name), "SECTION")
        ),
        key=lambda section: section.place,
    )
)
"""All sections, in the order of the page."""
