"""The sections of a report: one module and one template each, found by their `SECTION`.

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
"""All of them, from the top of the page."""
