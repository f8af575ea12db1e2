"""Text about a scoring for a paper: a LaTeX table, a methods paragraph, BibTeX, a checklist.

All are made from the scorecard alone, so that no setting that can change a number is forgotten.
Names in a scorecard are not trusted: `synthbench.render.latex` escapes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthbench.metrics.metric import IntervalMethod
from synthbench.records.keys import JobKey
from synthbench.records.protocol import ExtractorRecord
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render import markdown
from synthbench.render.latex import DAGGER, code, comment, escaped, numeric, table
from synthbench.render.numbers import p_text
from synthbench.report.memorization import copies_found
from synthbench.report.references import OWN, bibtex
from synthbench.report.wording import in_words

BIB_FILE = "synthbench.bib"
"""The file that the BibTeX entries go to where the whole text is pasted."""

_EXTRACTORS = {"medicalnet": "chen2019", "qiu2022": "qiu2022"}
"""The work behind an extractor, by the first word of its name."""


@dataclass(frozen=True)
class Citation:
    """Text about a scoring for a paper.

    Attributes
    ----------
    table
        LaTeX: a table with a header row, one row per value, beside its floor.
    methods
        LaTeX: a paragraph with every field of the protocol, in words, with references.
    bibtex
        The entries of these references.
    checklist
        Markdown: the items to report, ticked where this scoring has them.
    """

    table: str
    methods: str
    bibtex: str
    checklist: str

    @property
    def text(self) -> str:
        """All four as one text that LaTeX compiles: headings and the checklist are comments."""
        return "\n\n".join([
            f"% A table.\n{self.table}",
            f"% A paragraph for the methods.\n{self.methods}",
            "% The references: LaTeX writes this file. Or move the entries into your own.",
            f"\\begin{{filecontents*}}{{{BIB_FILE}}}\n{self.bibtex}\n\\end{{filecontents*}}",
            r"% Put \bibliographystyle{plain} and \bibliography{synthbench} where references go.",
            f"% The reporting checklist (markdown).\n{comment(self.checklist)}",
        ])  # fmt: skip


def cite(card: Scorecard) -> Citation:
    """Return the text about a scorecard for a paper."""
    methods = methods_paragraph(card)
    keys = {key for found in re.findall(r"\\cite\{([^}]*)\}", methods) for key in found.split(",")}
    version = card.software.get("synthbench", "?")
    return Citation(latex_table(card), methods, bibtex(keys, version), checklist(card))


# ---------------------------------------------------------------- the table


def latex_table(card: Scorecard) -> str:
    """Return a table of values with their intervals, each beside its real-vs-real floor."""
    rows = [row for row in card.values if row.value is not None and _is_cited(row)]
    several = len(card.protocol.extractors) > 1
    n = "/".join(map(str, sorted({row.floor.n for row in rows if row.floor})))
    at_n = f" ($n={n}$)" if n else ""
    level = f"{card.protocol.level:.0%}".replace("%", r"\%")
    extractors = ", ".join(extractor.name for extractor in card.protocol.extractors)
    return table(
        ["Metric", f"Value [{level} CI]", f"Synthetic{at_n}", f"Real vs real{at_n}", "$p$"],
        [_cells(row, card, several) for row in rows],
        caption=(
            f"{escaped(card.name)}: {card.synth.n} synthetic against {card.real.n} real volumes. "
            + (f"Features: {escaped(extractors)}. " if extractors else "")
            + "Real vs real is the floor: the mean, and 95\\% of the values, over "
            f"{card.protocol.floor_splits} random disjoint halves of the real volumes."
        ),
        label="tab:synthbench",
        notes=(
            f"{DAGGER} Sampling variability at this $n$; it excludes bias."
            if any(row.interval is not None and row.interval.conditional_on_n for row in rows)
            else ""
        ),
    )  # fmt: skip


def _is_cited(row: Value) -> bool:
    return row.role != "for_papers" and row.tabled


def _cells(row: Value, card: Scorecard, several: bool) -> list[str]:
    assert row.value is not None
    label = row.label_at(card.real.n, card.synth.n)
    value, matched, floor = numeric(row.value), "", ""
    if row.interval is not None and row.interval.low < row.interval.high:
        value += f" [{numeric(row.interval.low)}, {numeric(row.interval.high)}]"
        value += DAGGER if row.interval.conditional_on_n else ""
    if row.floor is not None:
        f = row.floor
        matched = numeric(f.synth_mean)
        floor = f"{numeric(f.mean)} ({numeric(f.low)} to {numeric(f.high)})"
    return [
        escaped(f"{label}, {row.extractor}" if several and row.extractor else label),
        value, matched, floor, escaped("" if row.p is None else p_text(row.p)),
    ]  # fmt: skip


# ---------------------------------------------------------------- the paragraph


def methods_paragraph(card: Scorecard) -> str:
    """Return a paragraph that names every setting that can change a number, with its hash."""
    p = card.protocol
    affine = ", ".join(numeric(x, 6) for x in p.space.affine[:12])
    background = "" if p.background is None else f"; {escaped(p.background.words)}"
    benchmark = f" of the benchmark {code(card.benchmark)}" if card.benchmark else ""
    sentences = [
        f"We compared {card.synth.n} synthetic with {card.real.n} real volumes of "
        f"{card.real.subjects} subjects, with synthbench "
        f"{escaped(card.software.get('synthbench', '?'))}~\\cite{{{OWN}}} and the protocol "
        f"{code(p.hash)}{benchmark} (version {p.version}, $n={p.n_real}$, $m={p.n_synth}$)",
        *_failures(card),
        f"Volumes were compared on a grid of {escaped(str(p.space.grid))}, whose affine has the "
        f"rows ({affine}), and resampled to it where needed ({escaped(p.space.resampling)})",
        f"Intensities followed the rule {code(p.space.intensity)}: {escaped(p.space.scaling)}",
        f"The mask ({escaped(p.mask.rule)}) held {p.mask.voxels} voxels (SHA-256 "
        f"{code(p.mask.sha256[:12])}){background}",
        *map(_extractor_words, p.extractors),
        *_metric_words(card),
        f"Intervals are at {p.level:.0%} and resample subjects {p.resamples} times, with the seed "
        f"{p.seed}; the real-vs-real floors are means over {p.floor_splits} random disjoint splits "
        f"of the real volumes; $p$-values are those of {p.permutations} permutations".replace(
            "%", r"\%"
        ),
    ]
    return " ".join(f"{sentence}." for sentence in sentences)


def _failures(card: Scorecard) -> Iterator[str]:
    if card.synth.failed:
        yield (
            f"Of {card.synth.drawn} synthetic volumes {len(card.synth.failed)} could not be used "
            "and were left out"
        )


def _extractor_words(e: ExtractorRecord) -> str:
    work = _EXTRACTORS.get(e.name.partition("-")[0])
    cited = f"~\\cite{{{work}}}" if work else ""
    weights = (
        "without weights"
        if e.weights_sha256 is None
        else f"weights of SHA-256 {code(e.weights_sha256[:12])}"
    )
    grid = "the common grid"
    if e.grid is not None:
        affine = ", ".join(numeric(x, 6) for x in e.grid.affine[:12])
        shape = " x ".join(map(str, e.grid.shape))
        grid = f"its own grid of {escaped(shape)} voxels, whose affine has the rows ({affine})"
    return (
        f"Features were the {e.dim} numbers of {code(e.name)}{cited} ({escaped(e.layer)}; "
        f"preprocessing {code(e.preprocessing)}; {weights}) on {grid}"
    )


def _metric_words(card: Scorecard) -> Iterator[str]:
    """Yield one sentence per metric and extractor: its formula, its settings, its interval."""
    p = card.protocol
    labels = {row.metric: row.label for row in card.values}
    for metric, method in p.intervals.items():
        label = labels.get(metric, metric)
        name = escaped(label[:1].upper() + label[1:])
        keys = [key for key in p.settings if JobKey.parse(key).metric == metric]
        if not keys:
            yield f"{name} had the interval method {method}"
        for key in keys:
            extractor = JobKey.parse(key).extractor
            several = extractor is not None and len(p.extractors) > 1
            of = f" of the features of {code(extractor)}" if extractor and several else ""
            yield f"{name}{of} is {_formula_words(p.settings[key], method)}"


def _formula_words(settings: Mapping[str, Any], method: IntervalMethod) -> str:
    """Return what a metric is, in LaTeX, with all its settings and the method of its interval."""
    left = {name: value for name, value in settings.items() if name != "formula"}
    words = in_words(settings)
    if words is None:
        text = f"computed as {code(str(settings.get('formula', 'its authors define it')))}"
    else:
        text = words.text
        for name in re.findall("«(.*?)»", text):
            text = text.replace(f"«{name}»", _latex_value(left.pop(name, "not recorded")))
        if words.cites:
            text += f"~\\cite{{{','.join(words.cites)}}}"
    others = [f"{escaped(name.replace('_', ' '))} {_latex_value(v)}" for name, v in left.items()]
    return f"{text} ({', '.join([*others, f'{method} interval'])})"


def _latex_value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"({', '.join(map(_latex_value, value))})"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return numeric(value, 6) if isinstance(value, float) else numeric(value, 15)
    return escaped(str(value))


# ---------------------------------------------------------------- the checklist


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
    fixed = card.origin.fixed_fit
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
        _item(fixed or (seeds is not None and seeds >= 3),
              "training seeds, 3 or more to speak of a method",
              "nothing in the training is random" if fixed
              else "not stated" if seeds is None else str(seeds)),
        _item(not accepted, "no preflight error was accepted", ", ".join(accepted) or "none"),
        _item(True, "software", ", ".join(f"{k} {v}" for k, v in card.software.items())),
        _item(True, "date", card.created[:10]),
    ]  # fmt: skip
    return "\n".join(items)


def _item(done: bool, what: str, found: str) -> str:
    return f"- [{'x' if done else ' '}] {markdown.escaped(f'{what}: {found}')}"


def _setting_words(settings: Mapping[str, Any]) -> str:
    return "; ".join(
        str(value) if key == "formula" else f"{key} {_listed(value)}"
        for key, value in settings.items()
    )


def _listed(value: Any) -> str:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"({', '.join(_listed(v) for v in value)})"
