"""The scripts of a page, and its content security policy, which allows them and nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from synthbench.errors import ScorecardError

NIIVUE_VERSION = "0.69.0"
"""The version of the npm package @niivue/niivue that `vendor/niivue.umd.js` is from."""
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
"""The hash of that file as npm serves it."""


def asset(name: str) -> str:
    """Return a file of `templates/`."""
    return (files("synthbench.report") / "templates" / name).read_text(encoding="utf-8")


def niivue() -> str:
    """Return NiiVue as a script, after its licence.

    Raises
    ------
    ScorecardError
        The file is not the one that was reviewed.
    """
    folder = files("synthbench.report") / "vendor"
    content = (folder / "niivue.umd.js").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != NIIVUE_SHA256:
        raise ScorecardError(
            f"{folder / 'niivue.umd.js'}: the sha256 is {found[:12]}... instead of "
            f"{NIIVUE_SHA256[:12]}...: the installed file was changed. Install synthbench again."
        )
    licence = (folder / "LICENSE.niivue").read_text(encoding="utf-8")
    return f"/*! NiiVue {NIIVUE_VERSION}\n{licence}*/\n{content.decode('utf-8')}"


def scripts(*, pictured: bool, compared: bool) -> list[str]:
    """Return the scripts of a page in order.

    Those of the viewer only where there are pictures, and those that compare entries only where
    entries were compared.
    """
    tables = asset("report.js") + (asset("entries.js") if compared else "")
    return [tables, *([niivue(), asset("viewer.js")] if pictured else [])]


def policy(style: str, scripts: list[str]) -> str:
    """Return the page's content security policy: this style, these scripts, inlined pictures.

    NiiVue needs no more: its fonts and light maps are `data:` pictures, its volumes are made in
    the page, and it starts no worker and no WebAssembly for them. All that it could load from a
    network stays forbidden.
    """
    sources = " ".join(f"'{_source(script)}'" for script in scripts)
    return (
        f"default-src 'none'; img-src data:; style-src '{_source(style)}'; "
        f"script-src {sources}; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
