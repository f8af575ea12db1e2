"""The verb `fetch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from synthbench.cli.console import answer, as_progress, log, progress_bar
from synthbench.cli.options import AcceptLicence, completed
from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.metrics.extractors.weights import WeightFile


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
    from synthbench.training.pretrained import (
        PUBLISHED,
        check_licence,
        fetch_published,
        published_file,
    )

    if name in PUBLISHED:
        with progress_bar("fetching") as advance:
            fetched = fetch_published(
                name, accept_licence=accept_licence, log=log, progress=as_progress(advance)
            )
        paths = list(fetched.values())
        for path in paths:
            log(f"{path}: hash verified, sha256 recorded")
        answer({"name": name, "files": [str(path) for path in paths]})
        return
    if found := published_file(name):
        one, part = found
        check_licence(name, one.licence, accept_licence)
        _fetch(name, part, sha256)
        return
    if accept_licence is not None:
        raise UsageError("--accept-licence: extractors have no licence to accept. Leave it out.")
    file = getattr(registry.load("extractors", name)(), "weight_file", None)
    if file is None:
        log(f"{name} has no weights to fetch: it is ready.")
        answer({"name": name, "files": []})
        return
    _fetch(name, file, sha256)


def _fetch(name: str, file: WeightFile, sha256: str | None) -> None:
    from synthbench.metrics.extractors.weights import fetch as fetched

    with progress_bar("fetching") as advance:
        path = fetched(file, sha256, as_progress(advance))
    log(f"{path}: sha256 verified, licence {file.licence}")
    answer({"name": name, "files": [str(path)], "licence": file.licence})
