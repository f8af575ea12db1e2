"""The report: scorecards as one self-contained HTML page that people look at.

The page needs no network: style, script and pictures are in it, and its content security policy
forbids everything else. From scorecards it shows aggregates. Where folders are named it also shows
volumes (`synthbench.report.sections`), and says at its top whether they are of real people. Text
from data (names of files, of subjects, of entries) is not trusted: it is escaped, and invisible
characters are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from synthbench import __version__
from synthbench.cohorts.pseudonyms import Pseudonyms
from synthbench.errors import ScorecardError, UsageError
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number
from synthbench.render.svg import rules
from synthbench.report.album.at_hand import AtHand, Cohorts, RealVolumes, cohorts_of
from synthbench.report.scripts import asset, policy, scripts
from synthbench.report.sections import SECTIONS
from synthbench.report.sections.section import Page
from synthbench.runtime.text import visible

if TYPE_CHECKING:
    from synthbench.cohorts.choice import CohortFiles
    from synthbench.runtime.callbacks import Log, Progress
    from synthbench.sensitivity.read_back import Sensitivity


PICTURE_BUDGET = 7_000_000
"""Characters of all pictures of a page together."""

_COLOURS = {name: f"var(--{name})" for name in ("ink", "soft", "paper", "accent", "band")}


def report(
    scorecards: Sequence[Path],
    *,
    real: Path | CohortFiles | None = None,
    synths: Sequence[Path | CohortFiles] = (),
    train: Path | CohortFiles | None = None,
    sensitivity: Path | None = None,
    real_volumes: RealVolumes = "unnamed",
    assume_grid: Literal["real"] | float | None = None,
    progress: Progress | None = None,
    log: Log = lambda message: None,
) -> str:
    """Return the report on scorecards, with pictures of volumes where folders are named.

    Parameters
    ----------
    scorecards
        Files; several are shown side by side.
    real, synths, train
        The folders that were scored, with one folder of synthetic volumes per scorecard, in any
        order: they are recognised by their fingerprints.
    sensitivity
        A record of `synthbench.sensitivity.study.sensitivity`, for its curves.
    real_volumes
        How volumes of `real` and `train` are shown: pictured under pseudonyms ("unnamed"), pictured
        and named by their files ("named"), or not at all ("hidden").
    assume_grid
        The grid of arrays without one: "real", or an isotropic voxel size in mm.
    progress
        Called with (what, done, total).
    log
        Called with one sentence for the user.

    Returns
    -------
    An HTML page: the same bytes for the same input.

    Raises
    ------
    UsageError
        There is no scorecard, or only one of `real` and `synths` is named.
    ScorecardError
        A file cannot be read, or a folder is not one that was scored.
    """
    if not scorecards:
        raise UsageError("report: name a scorecard (synthbench score ... --out FILE writes one).")
    if (real is None) != (not synths):
        raise UsageError("report: --real and --synth are needed together; add the other one.")
    if train is not None and real is None:
        raise UsageError("--train: add --real and --synth, which are compared with it.")
    cards = [Scorecard.load(file) for file in scorecards]
    study = None
    if sensitivity is not None:
        from synthbench.sensitivity.read_back import Sensitivity

        study = Sensitivity.load(sensitivity)
    at_hand: dict[int, AtHand] = {}
    if real is not None:
        from synthbench.scoring.cache.store import Cache

        # One for all cards: the real volumes are the same.
        names_of_volumes = Pseudonyms(identifiers=real_volumes == "named")
        found = _matched(cards, real, synths, train, assume_grid, progress)
        at_hand = {
            index: AtHand(
                cards[index], cohorts, budget=PICTURE_BUDGET // len(found),
                real_volumes=real_volumes, names=names_of_volumes, cache=Cache(log=log),
                progress=progress, log=log,
            )
            for index, cohorts in found.items()
        }  # fmt: skip
    names = _distinct([card.name for card in cards])
    return render_page(Page(cards, names, at_hand=at_hand, study=study))


def _matched(
    cards: Sequence[Scorecard],
    real: Path | CohortFiles,
    synths: Sequence[Path | CohortFiles],
    train: Path | CohortFiles | None,
    assume_grid: Literal["real"] | float | None,
    progress: Progress | None,
) -> dict[int, Cohorts]:
    """Return the cohorts in these folders, by the index of the scorecard that they belong to."""
    from synthbench.cohorts.reading import read_cohort
    from synthbench.runtime.callbacks import checking

    spacing = assume_grid if isinstance(assume_grid, float) else None
    of_real = read_cohort(
        real, role="real", assume_grid=spacing, progress=checking("real", progress)
    )
    stored = of_real.stored_grid if assume_grid == "real" else spacing

    counted = any(card.synth.failed is not None for card in cards)

    def read(path: Path | CohortFiles, role: str) -> Any:
        return read_cohort(
            path, role=role, assume_grid=stored, progress=checking(role, progress),
            count_failures=counted and role == "synth",
        )  # fmt: skip

    of_synth = {path: read(path, "synth") for path in synths}
    of_train = None if train is None else read(train, "train")
    found: dict[int, Cohorts] = {}
    for index, card in enumerate(cards):
        cohorts = cohorts_of(card, of_real, list(of_synth.values()), of_train)
        if cohorts is not None:
            found[index] = cohorts
    for path, cohort in of_synth.items():
        if not any(cohorts_of(card, of_real, [cohort], None) for card in cards):
            raise ScorecardError(
                f"--synth {path}: none of the scorecards is about these {len(cohort)} volumes "
                f"(fingerprint {cohort.fingerprint[:12]}...). Score them: synthbench score "
                f"--real {real} --synth {path} --out FILE."
            )
    return found


def render_report(
    cards: Sequence[Scorecard],
    *,
    names: Sequence[str] | None = None,
    study: Sensitivity | None = None,
) -> str:
    """Return the page on scorecards that are loaded already.

    Parameters
    ----------
    cards
        At least one. Those with one protocol and real cohort share axes; others are shown apart.
    names
        Their names on the page. None: those in the scorecards, numbered where several are equal.
    study
        Sensitivity curves.
    """
    names = _distinct([card.name for card in cards]) if names is None else names
    return render_page(Page(cards, names, study=study))


def render_page(page: Page, *, title: str = "", notes: Sequence[str] = ()) -> str:
    """Return a page with all sections that have something to show.

    Parameters
    ----------
    page
        The scorecards and all else that sections are built from.
    title, notes
        Shown at the top; without a title the scorecards are named.
    """
    lacking = [line for section in SECTIONS for line in section.lacking(page)]
    page = replace(page, lacking=lacking)
    built = {section: section.build(page) for section in SECTIONS}
    environment = _environment()
    sections = [
        (
            section,
            Markup(  # noqa: S704 - a template of this package, which escapes what it is given
                environment.get_template(f"sections/{section.anchor}.jinja").render(context)
            ),
        )
        for section, context in built.items()
        if context is not None
    ]
    pictures = next((built[section] for section in built if section.anchor == "pictures"), None)
    compared = page.ranking is not None
    style = asset("report.css") + rules(_COLOURS) + (asset("entries.css") if compared else "")
    inlined = scripts(pictured=pictures is not None, compared=compared)
    return environment.get_template("report.html.jinja").render(
        title=title or f"synthbench report: {', '.join(page.names)}",
        notes=notes,
        sections=sections,
        folded=compared,
        policy=policy(style, inlined),
        style=Markup(style),  # noqa: S704 - a file of this package
        scripts=[Markup(script) for script in inlined],  # noqa: S704 - likewise
        version=__version__,
        pictured=pictures is not None,
        people=pictures is not None and pictures["people"],
    )


def page_of(template: str, **content: Any) -> str:
    """Return a page of another template, with the style of the report and without scripts.

    Parameters
    ----------
    template
        A file of `templates/`, which takes `style`, `policy` and `version`.
    content
        What else it shows; text is escaped.
    """
    style = asset("report.css") + rules(_COLOURS)
    return _environment().get_template(template).render(
        style=Markup(style),  # noqa: S704 - a file of this package
        policy=policy(style, []), version=__version__, **content,
    )  # fmt: skip


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, numbered where several scorecards share one."""
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


@cache  # with it the compiled templates
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_visible,
    )  # fmt: skip
    environment.filters["figures"] = number
    return environment


def _visible(content: Any) -> Any:
    """Return the value of a template's expression with invisible characters written out."""
    if isinstance(content, Markup) or not isinstance(content, str):
        return content
    return visible(content)
