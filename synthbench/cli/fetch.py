"""The verb `fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthbench.cli.console import answer, log
from synthbench.cli.options import AcceptLicence, completed
from synthbench.errors import UsageError


def fetch(
    name: Annotated[
        str,
        typer.Argument(
            autocompletion=completed("extractors"),
            help="An extractor with weights, a published generator, or one file of it, NAME/PART.",
        ),
    ],
    sha256: Annotated[
        str | None, typer.Option(help="The file's hash, where synthbench knows none.")
    ] = None,
    accept_licence: AcceptLicence = None,
) -> None:
    """Fetch the weights of an extractor or a published generator, and verify their hash."""
    from synthbench import registry
    from synthbench.metrics.extractors import weights
    from synthbench.training.pretrained import (
        PUBLISHED,
        check_licence,
        fetch_published,
        published_file,
    )

    if name in PUBLISHED:
        paths = list(fetch_published(name, accept_licence=accept_licence, log=log).values())
        for path in paths:
            log(f"{path}: hash verified, sha256 recorded")
        answer({"name": name, "files": [str(path) for path in paths]})
        return
    if found := published_file(name):
        one, part = found
        check_licence(name, one.licence, accept_licence)
        _fetched(name, weights.fetch(part, sha256=sha256), part.licence)
        return
    if accept_licence is not None:
        raise UsageError("--accept-licence: extractors have no licence to accept. Leave it out.")
    file = getattr(registry.load("extractors", name)(), "weight_file", None)
    if file is None:
        log(f"{name} has no weights to fetch: it is ready.")
        answer({"name": name, "files": []})
        return
    _fetched(name, weights.fetch(file, sha256=sha256), file.licence)


def _fetched(name: str, path: Path, licence: str) -> None:
    log(f"{path}: sha256 verified, licence {licence}")
    answer({"name": name, "files": [str(path)], "licence": licence})
