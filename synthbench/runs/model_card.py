"""The model card of a run."""

from __future__ import annotations

from pathlib import Path

from synthbench.runs.card import (
    CARD,
    UNCONDITIONAL,
    Log,
    about_the_cohort,
    card,
    changes_section,
    conditions,
    cost,
    counted,
    generator_table,
    limits,
    line,
    responsibility,
    section,
    table,
    tags,
    write_unless_edited,
)
from synthbench.runs.folder import Run
from synthbench.runs.licence import hub_licence


def write_model_card(run: Run, *, log: Log = lambda message: None) -> Path:
    """Write the card of a trained generator, `RUN/README.md`.

    Parameters
    ----------
    run
        A finished run. Its record needs `generator`, `cohort` and `space`; whatever else it has of
        what `synthbench.training.training.train` writes is told, `sources` and `subgroups` among
        it.
    say
        Called with a sentence where a card is kept because a person has edited it.

    Returns
    -------
    The card: the same bytes from the same run folder.
    """
    record = run.record
    n = record["cohort"]["n"]
    trained = f"{line(record['generator'])}, trained on {counted(n, 'volume')}"
    front = {
        **hub_licence(record),
        "library_name": "synthbench",
        **({} if conditions(record) else {"pipeline_tag": UNCONDITIONAL}),
        "tags": tags(record),
    }
    sections = [
        f"# {trained}",
        "A generator of synthetic 3-D brain MRI. Sample from it: "
        "`synthbench sample RUN --n 16 --out synth/`.",
        section("How it was made", generator_table(run)),
        changes_section(run),
        *about_the_cohort(record),
        *responsibility(record, "these weights and whatever is sampled from them"),
        section("Known limits", limits(run)),
        section("Cost", table(cost(record))),
        section(
            "Files",
            "Sampling needs weights.safetensors, config.yaml and run.json. config.yaml also says "
            "where the scans lay on the machine that trained (`real`, `validation`, `init`): set "
            "these to null before it leaves your hands.",
        ),
    ]
    return write_unless_edited(run.folder / CARD, card(front, sections), log)
