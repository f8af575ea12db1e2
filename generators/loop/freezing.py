"""Parts of a network that are not trained."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from torch import nn

from synthbench.errors import UsageError


def freeze(
    model: nn.Module, starts: Sequence[str], *, setting: str = "freeze"
) -> list[nn.Parameter]:
    """Freeze parameters by the beginnings of their names, and return the others.

    Parameters
    ----------
    model
        The network; it may be on the meta device, without data.
    starts
        Beginnings of parameter names.
    setting
        Name of the setting, for errors.

    Raises
    ------
    UsageError
        No parameter's name begins like one of these, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for start in starts:
        if not any(name.startswith(start) for name in names):
            raise UsageError(
                f"{setting}: no parameter's name starts with '{start}'. {_similar(start, names)}"
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(starts)))
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise UsageError(
            f"{setting}: every parameter is frozen; nothing is left to train. Leave some of "
            f"{', '.join(starts)} out."
        )
    return trained


def _similar(start: str, names: Sequence[str]) -> str:
    """Return a hint: parts of the network with similar names, or else its largest parts."""
    split = [name.split(".") for name in names]
    # Ends of names count too: users leave out the outer parts of a name.
    ends: dict[str, str] = {}
    for name in split:
        for depth in range(1, len(name)):
            for first in range(depth):
                ends.setdefault(".".join(name[first:depth]), ".".join(name[:depth]))
    close = list(dict.fromkeys(ends[end] for end in get_close_matches(start, ends)))
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Names start with: {', '.join(sorted({'.'.join(name[:2]) for name in split}))}."
