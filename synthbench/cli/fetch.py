"""The verb `fetch`."""

from __future__ import annotations

from typing import Annotated

import typer

from synthbench.cli.console import log


def fetch(
    name: Annotated[
        str, typer.Argument(help="An extractor with weights, or a published generator.")
    ],
    sha256: Annotated[
        str | None, typer.Option(help="The file's hash, where synthbench knows none.")
    ] = None,
) -> None:
    """Fetch the weights of an extractor or a published generator, and verify their hash."""
    from synthbench import registry
    from synthbench.metrics.extractors import weights
    from synthbench.training.pretrained import PUBLISHED, fetch_published

    if name in PUBLISHED:
        for path in fetch_published(name, log=log).values():
            log(f"{path}: md5 verified, sha256 recorded")
        return
    file = getattr(registry.load("extractors", name)(), "weight_file", None)
    if file is None:
        log(f"{name} has no weights to fetch: it is ready.")
        return
    path = weights.fetch(file, sha256=sha256)
    log(f"{path}: sha256 verified, licence {file.licence}")
