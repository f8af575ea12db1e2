"""The known layouts of downloaded cohorts: the built-in ones and those of plugins."""

from __future__ import annotations

from synthbench import registry
from synthbench.cohorts.datasets.layouts.layout import FolderLayout, Layout


def known_layouts() -> dict[str, Layout]:
    """Return every layout by the name that `--layout` takes, the built-in ones first.

    Raises
    ------
    UsageError
        Two plugins claim one name, or a plugin cannot be loaded.
    """
    return {name: load_layout(name) for name in registry.names("layouts")}


def load_layout(name: str) -> Layout:
    """Return the layout of that name.

    Raises
    ------
    UsageError
        The name is unknown (the nearest known one is named), or the plugin cannot be loaded.
    """
    layout: Layout = registry.load("layouts", name)()
    return layout


__all__ = ["FolderLayout", "Layout", "known_layouts", "load_layout"]
