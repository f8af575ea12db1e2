"""Text about a scoring for a paper: a LaTeX row, a methods paragraph, a reporting checklist.

All three are made from the scorecard alone, so that no setting that can change a number is
forgotten. Names in a scorecard are not trusted: LaTeX commands in them are escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthbench.records.keys import JobKey
from synthbench.records.protocol import ExtractorRecord, Protocol
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render import markdown
from synthbench.render.numbers import number, p_text
from synthbench.report.memorization import copies_found
from synthbench.report.text import DAGGER

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row LaTeX would take a bracket for an option of the line break before.
    "[": "{[}",
    "]": "{]}",
    "`": r"\textasciigrave{}",
    "²": r"\textsuperscript{2}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "→": r"$\rightarrow$",
    DAGGER: r"\textdagger{}",
}


@dataclass(frozen=True)
class Citation:
    """Text about a scoring for a paper.

    Attributes
    ----------
    row
        LaTeX: a comment that names the columns, the entry's row, and the floor's.
    methods
        LaTeX: a paragraph with every field of the protocol.
    checklist
        Markdown: the items to report, ticked where this scoring has them.
    """

    row: str
    methods: str
    checklist: str

    @property
    def text(self) -> str:
        """All three, under headings that LaTeX takes as comments."""
        return (
            f"% a row of a table\n{self.row}\n\n% a paragraph of the methods\n{self.methods}\n\n"
            f"% the reporting checklist (markdown)\n{self.checklist}"
        )


def cite(card: Scorecard) -> Citation:
    """Return the text about a scorecard for a paper."""
    return Citation(latex_row(card), methods_paragraph(card), checklist(card))


def escaped(text: str) -> str:
    r"""Return text that LaTeX prints as it is: one line, no command, no comment.

    >>> print(escaped("50% of A_1 & B^2"))
    50\% of A\_1 \& B\textasciicircum{}2
    """
    visible = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return "".join(_LATEX.get(c, c) for c in " ".join(visible.split()))


def latex_row(card: Scorecard) -> str:
    """Return a row of values with their intervals, and the real-vs-real floors below it."""
    rows = [row for row in card.values if row.value is not None and _is_cited(row)]
    several = len(card.protocol.extractors) > 1
    titles = ["entry", "n", "m", *(_title(row, card, several) for row in rows)]
    cells = [escaped(card.name), str(card.real.n), str(card.synth.n), *map(_value_cell, rows)]
    lines = [f"% {' & '.join(titles)}", " & ".join(cells) + r" \\"]
    floors = [row.floor for row in rows if row.floor]
    if floors:
        n = floors[0].n
        words = ["" if row.floor is None else _floor_cell(row) for row in rows]
        lines.append(" & ".join(["real vs real (floor)", str(n), str(n), *words]) + r" \\")
    if any(_is_conditional(row) for row in rows):
        lines.append(f"% {_LATEX[DAGGER]} sampling variability at this n; it excludes bias")
    return "\n".join(lines)


def methods_paragraph(card: Scorecard) -> str:
    """Return a paragraph that names every setting that can change a number, with its hash."""
    p = card.protocol
    sentences = [
        f"We scored {card.synth.n} synthetic against {card.real.n} real volumes "
        f"({card.real.subjects} subjects) with synthbench {card.software.get('synthbench', '?')}, "
        f"protocol {p.hash} (version {p.version})"
        + (f", benchmark {card.benchmark}" if card.benchmark else ""),
        f"The protocol sets n = {p.n_real} and m = {p.n_synth}",
        f"Volumes were compared on a grid of {p.space.grid} with the affine "
        f"({', '.join(f'{x:g}' for x in p.space.affine[:12])}), resampled where needed "
        f"({p.space.resampling}); intensities ({p.space.intensity}): {p.space.scaling}",
        f"The mask ({p.mask.rule}) held {p.mask.voxels} voxels (sha256 {p.mask.sha256[:12]})"
        + ("" if p.background is None else f"; {p.background.words}"),
        *map(_extractor_words, p.extractors),
        *_metric_words(p),
        f"Intervals are at {p.level:.0%} with {p.resamples} resamples of subjects and seed "
        f"{p.seed}; floors are means over {p.floor_splits} random disjoint splits of the real "
        f"volumes; p-values are of {p.permutations} permutations",
    ]
    return " ".join(f"{escaped(sentence)}." for sentence in sentences)


def checklist(card: Scorecard) -> str:
    """Return the items to report of a scoring, ticked where this scorecard has them."""
    p = card.protocol
    scored = [row for row in card.values if row.value is not None and row.key.part is None]
    ranks = {
        row.extractor: f"{row.extractor} {row.effective_rank:.1f}"
        for row in scored
        if row.effective_rank is not None
    }
    tested = [f"{row.label} {p_text(row.p)}" for row in scored if row.p is not None]
    without = [row.label for row in scored if row.floor is None]
    missing = [f"{row.label}: {row.missing}" for row in card.values if row.missing]
    accepted = [f"{found.rule} ({found.role})" for found in card.preflight if found.accepted]
    seeds = card.origin.training_seeds or (1 if card.origin.weights_sha256 else None)
    items = [
        _item(True, "protocol hash", p.hash),
        _item(card.benchmark is not None, "frozen benchmark", card.benchmark or "none"),
        _item(True, "n and m", f"{card.real.n} real ({card.real.subjects} subjects), "
              f"{card.synth.n} of {card.synth.available} synthetic"),
        _item(True, "real cohort", card.real.fingerprint[:12]),
        _item(True, "synthetic cohort", card.synth.fingerprint[:12]),
        _item(True, "grid, intensities", f"{p.space.grid}; {p.space.intensity}"),
        _item(True, "mask", f"{p.mask.voxels} voxels, {p.mask.sha256[:12]}"),
        *(_item(e.weights_sha256 is not None, f"extractor {e.name}",
                f"{e.layer}; {e.preprocessing}; d = {e.dim}; sha256 "
                f"{(e.weights_sha256 or 'no weights')[:12]}") for e in p.extractors),
        *(_item(True, f"formula of {key}", _setting_words(settings))
          for key, settings in p.settings.items()),
        _item(True, "intervals", f"{p.level:.0%}, {p.resamples} resamples, seed {p.seed}: "
              + ", ".join(f"{m} {method}" for m, method in p.intervals.items())),
        _item(bool(ranks), "effective rank r of the real features",
              ", ".join(ranks.values()) or "no features"),
        _item(not without, "real-vs-real floor beside every value",
              f"without: {', '.join(without)}" if without else "all"),
        _item(bool(tested), "p-value where one is defined", ", ".join(tested) or "none"),
        _item(not missing, "every declared metric has a value", "; ".join(missing) or "yes"),
        _item(bool(card.memorization), "copies of training images",
              card.not_assessed or copies_found(card).text),
        *(() if card.local_copying is None
          else (_item(True, "copied parts of training images", card.local_copying.text),)),
        _item(seeds is not None and seeds >= 3, "training seeds, 3 or more to speak of a method",
              "not stated" if seeds is None else str(seeds)),
        _item(not accepted, "no preflight error was accepted", ", ".join(accepted) or "none"),
        _item(True, "software", ", ".join(f"{k} {v}" for k, v in card.software.items())),
        _item(True, "date", card.created[:10]),
    ]  # fmt: skip
    return "\n".join(items)


def _item(done: bool, what: str, found: str) -> str:
    return f"- [{'x' if done else ' '}] {markdown.escaped(f'{what}: {found}')}"


def _is_cited(row: Value) -> bool:
    return row.role != "for_papers" and row.tabled


def _is_conditional(row: Value) -> bool:
    return row.interval is not None and row.interval.conditional_on_n


def _title(row: Value, card: Scorecard, several: bool) -> str:
    label = row.label_at(card.real.n, card.synth.n)
    return escaped(f"{label}, {row.extractor}" if several and row.extractor else label)


def _value_cell(row: Value) -> str:
    assert row.value is not None
    words = _minus(number(row.value))
    if row.interval is not None and row.interval.low < row.interval.high:
        words += f" [{_minus(number(row.interval.low))}, {_minus(number(row.interval.high))}]"
    return words + (_LATEX[DAGGER] if _is_conditional(row) else "")


def _floor_cell(row: Value) -> str:
    assert row.floor is not None
    f = row.floor
    ends = f"{_minus(number(f.low))} to {_minus(number(f.high))}"
    return f"{_minus(number(f.mean))} ({ends}), synth {_minus(number(f.synth_mean))}"


def _minus(text: str) -> str:
    return text if not text.startswith("-") else f"$-${text[1:]}"


def _extractor_words(e: ExtractorRecord) -> str:
    grid = "the common grid" if e.grid is None else f"its own grid {e.grid.shape}"
    affine = "" if e.grid is None else f" with the affine {_listed(e.grid.affine[:12])}"
    weights = "no weights" if e.weights_sha256 is None else f"weights sha256 {e.weights_sha256}"
    return (
        f"Features were those of {e.name} ({e.layer}; {e.dim} numbers; preprocessing "
        f"{e.preprocessing}; {weights}) on {grid}{affine}"
    )


def _metric_words(p: Protocol) -> Iterable[str]:
    for metric, method in p.intervals.items():
        keys = [key for key in p.settings if JobKey.parse(key).metric == metric]
        if not keys:
            yield f"{metric} had the interval method {method}"
        for key in keys:
            extractor = JobKey.parse(key).extractor
            name = metric if extractor is None else f"{metric} on {extractor}"
            yield f"{name} ({method} interval): {_setting_words(p.settings[key])}"


def _setting_words(settings: Mapping[str, Any]) -> str:
    return "; ".join(
        str(value) if key == "formula" else f"{key} {_listed(value)}"
        for key, value in settings.items()
    )


def _listed(value: Any) -> str:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"({', '.join(_listed(v) for v in value)})"
