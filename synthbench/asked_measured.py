"""What conditional entries were asked for against what was measured, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from synthbench.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, LineChart
from synthbench.fidelity_output import condition_charts
from synthbench.scorecard import AdherenceRecord

MARGIN, HEAD, GAP = 12, 28, 44

_STYLE = (
    "text{font:12px sans-serif;fill:#1f2328}.title{font-weight:bold}"
    ".quiet{fill:#59636e}.rule{stroke:#8c959f}.line{fill:none;stroke-width:2}"
    ".real{stroke:#59636e;stroke-dasharray:5 4}.synth{stroke:#0550ae}"
    ".spread{fill:#0550ae;opacity:.15}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}"
    ".real{stroke:#9198a1}.synth{stroke:#79c0ff}.spread{fill:#79c0ff}}"
)


def asked_measured(entries: Mapping[str, AdherenceRecord]) -> str:
    """Return an SVG: a row an entry, a panel each condition that is a number.

    Parameters
    ----------
    entries
        Conditional fidelity by the entry's title. Entries without such a condition are left out.

    Returns
    -------
    str
        Empty where no panel is left.
    """
    rows = {title: charts for title, f in entries.items() if (charts := condition_charts(f))}
    if not rows:
        return ""
    panel = HEIGHT + GAP
    width = MARGIN + (WIDTH + GAP) * max(len(charts) for charts in rows.values())
    height = (HEAD + panel) * len(rows) + HEAD + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" '
        'aria-label="Asked against measured">',
        f"<style>{_STYLE}</style>",
    ]
    for i, (title, charts) in enumerate(rows.items()):
        top = i * (HEAD + panel)
        parts.append(f'<text x="{MARGIN}" y="{top + 20:.0f}" class="title">{escape(title)}</text>')
        for k, chart in enumerate(charts):
            x, y = MARGIN + k * (WIDTH + GAP), top + HEAD
            parts += [f'<g transform="translate({x:.0f} {y:.0f})">', *_panel(chart), "</g>"]
    parts.append(
        f'<text class="quiet" x="{MARGIN}" y="{height - MARGIN:.0f}">solid: synthetic, asked '
        "against measured, with one standard deviation; dashed: real, true against measured</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(chart: LineChart) -> list[str]:
    foot, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    parts = [f'<polygon class="{band.style}" points="{band.points}"/>' for band in chart.bands]
    parts.append(
        f'<path class="rule" d="M{LEFT:.0f} {TOP:.0f}V{foot:.0f}H{WIDTH - RIGHT:.0f}" fill="none"/>'
    )
    for tick in chart.x_ticks:
        parts.append(
            f'<text class="quiet" x="{tick.at}" y="{foot + 14:.0f}" text-anchor="middle">'
            f"{tick.words}</text>"
        )
    for tick in chart.y_ticks:
        parts.append(
            f'<text class="quiet" x="{LEFT - 6:.0f}" y="{tick.at + 4:.1f}" text-anchor="end">'
            f"{tick.words}</text>"
        )
    parts += [
        f'<polyline class="line {line.style}" points="{line.points}"/>' for line in chart.lines
    ]
    return [
        *parts,
        f'<text x="{LEFT:.0f}" y="12">{escape(chart.words)}</text>',
        f'<text x="{middle:.0f}" y="{HEIGHT - 4:.0f}" text-anchor="middle">'
        f"{escape(chart.across)}</text>",
    ]
