"""The one writer of SVG: elements, whole pictures, and the style of all charts.

The SVG is written here and not by a plotting library, because every new version of a library would
change the committed pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from synthbench.render.html import escaped

ROW = 22
"""Height of a row in pixels."""
EDGE = 12
"""Room around a picture, in pixels."""

_LIGHT = {
    "ink": "#1b1f24", "soft": "#59636e", "paper": "#ffffff", "accent": "#0b5cad", "band": "#c9d6e2",
}  # fmt: skip
_DARK = {
    "ink": "#e8ecf0", "soft": "#a3aeb9", "paper": "#12161b", "accent": "#7ab7f5", "band": "#34485c",
}  # fmt: skip


def rules(colours: Mapping[str, str]) -> str:
    """Return the style sheet of all charts.

    Parameters
    ----------
    colours
        Of "ink", "soft", "paper", "accent" and "band": CSS colours, or variables of a page.
    """
    ink, soft, paper, accent, band = (
        colours[name] for name in ("ink", "soft", "paper", "accent", "band")
    )
    return (
        f"svg text{{fill:{ink};font-size:12px}}"
        f"svg text.title{{font-weight:bold}}"
        f"svg text.tick{{fill:{soft};font-size:11px}}"
        f".axis{{stroke:{soft};stroke-width:1;fill:none}}"
        f".null{{stroke:{ink};stroke-width:1;stroke-dasharray:2 3}}"
        f".band-floor{{fill:{band};stroke:{soft};stroke-width:1}}"
        f".floor-mean{{stroke:{soft};stroke-width:2}}"
        f".interval{{stroke:{accent};stroke-width:3}}"
        f".value{{fill:{accent};stroke:{paper};stroke-width:1}}"
        f".whole{{fill:{paper};fill-opacity:0;stroke:{ink};stroke-width:1.6}}"
        f".line{{fill:none;stroke-width:2}}"
        f".line.real{{stroke:{ink}}}"
        f".line.synth{{stroke:{accent};stroke-dasharray:6 4;stroke-width:2.4}}"
        f".area{{stroke:none;fill:{band}}}"
        f".cell{{fill:{accent}}}"
    )


def element(tag: str, content: str = "", **attributes: str | float) -> str:
    """Return an element.

    Parameters
    ----------
    tag
        Its name.
    content
        Markup that is inserted as it is; use `text` for text.
    attributes
        An underscore in a name becomes a dash; one at its end is dropped. Numbers are written to
        a hundredth of a pixel, strings are escaped.

    >>> element("line", x1=1.0, x2=2.345, class_="axis")
    '<line x1="1" x2="2.35" class="axis"/>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def _attribute(value: str | float) -> str:
    if isinstance(value, str):
        return escaped(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(content: str, x: str | float, y: float, **attributes: str | float) -> str:
    """Return a text element; its content is escaped."""
    return element("text", escaped(content) or " ", x=x, y=y, **attributes)


def picture(label: str, width: float, height: float, parts: Iterable[str]) -> str:
    """Return an SVG file with its style for light and dark pages: the same bytes on any machine.

    Parameters
    ----------
    label
        Description for screen readers.
    width, height
        In pixels.
    parts
        Elements, drawn in this order.
    """
    dark = f"@media(prefers-color-scheme:dark){{{rules(_DARK)}}}"
    style = f"text{{font-family:sans-serif}}{rules(_LIGHT)}{dark}"
    body = "\n".join([element("style", style), *parts])
    whole = element(
        "svg", f"\n{body}\n", xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}", width=f"{width:.0f}", height=f"{height:.0f}",
        role="img", aria_label=label,
    )  # fmt: skip
    return f"{whole}\n"


def mark_row(
    place: Callable[[float], str | float],
    y: float,
    value: float | None,
    interval: tuple[float, float] | None = None,
    hollow: float | None = None,
) -> list[str]:
    """Return the marks of one value: its interval, a filled mark, and a hollow one.

    Parameters
    ----------
    place
        From a value to its x in the picture: pixels, or percent as a string.
    y
        Of the row, in pixels.
    value, interval
        The filled mark and the line; None where there is none.
    hollow
        The value of all volumes; None where there is none.
    """
    parts = []
    if interval is not None:
        x1, x2 = map(place, interval)
        parts.append(element("line", class_="interval", x1=x1, x2=x2, y1=y, y2=y))
    if value is not None:
        parts.append(element("circle", class_="value", cx=place(value), cy=y, r=5))
    if hollow is not None:
        diamond = element("path", class_="whole", d="M0-6 6 0 0 6-6 0z")
        parts.append(element("svg", diamond, x=place(hollow), y=y, overflow="visible"))
    return parts
