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
    """Write the card of a trained generator, `RUN/README.md`, and return its file.

    Parameters
    ----------
    run
        A finished run. Its record needs `generator`, `cohort` and `space`. The card shows the other
        fields that `synthbench.training.train` writes where they are there, such as `sources` and
        `subgroups`.
    log
        Called with a message where a card is kept because somebody edited it.

    Returns
    -------
    Path
        The card. The same run folder gives the same bytes.
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
        *responsibility(record, "these weights and everything sampled from them"),
        section("Known limits", limits(run)),
        section("Cost", table(cost(record))),
        section(
            "Files",
            "Sampling needs weights.safetensors, config.yaml and run.json. config.yaml also has "
            "paths of the machine that trained (`real`, `validation`, `init`): set these to null "
            "before you pass it on.",
        ),
    ]
    return write_unless_edited(run.folder / CARD, card(front, sections), log)
