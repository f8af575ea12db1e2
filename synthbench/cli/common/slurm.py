"""The options of verbs that submit their parts to Slurm, and the command of a part."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from synthbench.errors import UsageError

if TYPE_CHECKING:
    from synthbench.runtime.slurm import Settings


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """Whether the parts of a verb are submitted to Slurm, and with what."""

    panel: ClassVar[str] = "Many machines"

    slurm: Annotated[
        bool, typer.Option("--slurm", help="Submit --jobs parts as a Slurm array, and merge them.")
    ] = False
    slurm_set: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm-set",
            metavar="NAME=VALUE",
            help="An option of sbatch: partition=gpu, time=240 (minutes, default 60), "
            "gpus-per-node=1; setup=COMMAND is run first; executor=local tries it here. May be "
            "repeated.",
        ),
    ] = None

    def settings(self) -> Settings | None:
        """Return the settings of the array; None where none is submitted.

        Raises
        ------
        UsageError
            A setting cannot be used, or stands without --slurm.
        """
        from synthbench.runtime.slurm import Settings

        if not self.slurm:
            if self.slurm_set:
                raise UsageError("--slurm-set: it is an option of the array of --slurm; add that.")
            return None
        return Settings.parse(self.slurm_set or ())


_NOT_OF_PARTS = frozenset({
    "out", "jobs", "slurm", "slurm_set", "dask", "config", "json", "quiet",
})  # fmt: skip


def words_of(context: typer.Context, without: Collection[str] = _NOT_OF_PARTS) -> list[str]:
    """Return what is to be typed for the same command again, as each part's job types it.

    Options of a settings file are written out, and no file is looked for again.

    Parameters
    ----------
    context
        Of the verb.
    without
        The parameters to leave out: those that differ between the parts.
    """
    names: list[str] = []
    one: Any = context
    while one.parent is not None:
        names.insert(0, str(one.info_name))
        one = one.parent
    options, arguments = [], []
    for parameter in context.command.params:
        name = str(parameter.name)
        value = context.params.get(name)
        if name in without or value is None or value == parameter.default:
            continue
        if parameter.param_type_name == "argument":
            arguments += [f"./{word}" if word[:1] == "-" else word for word in _typed(value)]
        elif isinstance(value, bool):
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        elif getattr(parameter, "multiple", False):
            options += [word for each in value for word in (parameter.opts[0], *_typed(each))]
        else:
            options += [parameter.opts[0], *_typed(value)]
    return [*names, *options, "--config", os.devnull, *arguments]


def _typed(value: Any) -> list[str]:
    """Return the words of one value."""
    if isinstance(value, (list, tuple)):
        return [word for each in value for word in _typed(each)]
    return [str(value.value if isinstance(value, Enum) else value)]
