"""The page of a reader: served, or as one file that holds a whole study."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup

from synthbench.report.scripts import policy, scripts


@cache
def page() -> tuple[str, str]:
    """Return the page of every reader, and its content security policy.

    Nothing of the study is in it.
    """
    text, rules = _page(["readers.js"], "")
    return text, f"{rules}; connect-src 'self'; frame-ancestors 'none'"


def offline_page(study: Mapping[str, object], volumes: list[bytes]) -> str:
    """Return a page that holds a study of one reader.

    Parameters
    ----------
    study
        What `templates/offline.js` reads: the trials, with numbers of volumes.
    volumes
        Voxels of 8 bits.
    """
    fields = json.dumps(study).replace("<", "\\u003c")
    data = [f'<script type="application/json" id="study">{fields}</script>']
    data += [
        f'<script type="text/plain" id="volume-{i}">{base64.b64encode(voxels).decode()}</script>'
        for i, voxels in enumerate(volumes)
    ]
    return _page(["offline.js", "readers.js"], "\n".join(data), in_page=True)[0]


def _page(names: list[str], data: str, *, in_page: bool = False) -> tuple[str, str]:
    folder = files("synthbench.readers") / "templates"

    def asset(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    style = asset("readers.css")
    every = [*scripts(pictured=True, compared=False), *map(asset, names)]
    rules = policy(style, every)
    # Styles and scripts are the package's own; the data holds JSON without "<", and base64.
    inlined = {"style": Markup(style), "scripts": [Markup(one) for one in every],  # noqa: S704
               "data": Markup(data), "rules": rules if in_page else ""}  # fmt: skip # noqa: S704
    template = Environment(autoescape=True).from_string(asset("readers.html.jinja"))
    return template.render(inlined), rules
