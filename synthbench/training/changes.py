"""Settings that are changed when a run is resumed: which may be, and their record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from synthbench.errors import UsageError, near_miss
from synthbench.runs import checkpoint
from synthbench.runs.configuration import RunSettings, merged, override
from synthbench.runs.folder import Run
from synthbench.runs.validation import by_names_of_today, validated

_DRAWN = "the samples of the steps so far were drawn with it"
_WHY = {"batch_size": _DRAWN, "accumulation": _DRAWN, "seed": _DRAWN, "flip": _DRAWN,
        "affine": _DRAWN, "freeze": "the optimizer's state belongs to the parts that it trained",
        "score_volumes": "scores of other numbers of volumes cannot be compared",
        "score_extractor": "scores by another extractor cannot be compared"}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A setting that was changed when a run was resumed.

    Attributes
    ----------
    step
        Steps that its network had done.
    setting
        Its name, with the prefix of its stage.
    before, after
        Its values.
    """

    step: int
    setting: str
    before: Any
    after: Any


def changed(
    run: Run, own: BaseModel, overrides: Sequence[str], name: str
) -> tuple[BaseModel, list[Change]]:
    """Return a run's own settings after changes, and the changes.

    Parameters
    ----------
    run, own, name
        The run, the settings that it has so far, and its generator's name.
    overrides
        `key=value`, as for a new run.

    Raises
    ------
    UsageError
        There is no such setting, it cannot be changed on resume, its network is trained already,
        or the value is not allowed.
    """
    wanted: dict[str, Any] = {}
    for text in overrides:
        wanted = merged(wanted, override(text))
    wanted = by_names_of_today(type(own), wanted)
    known = set(type(own).model_fields)
    for key in wanted:
        if key in RunSettings.model_fields:
            raise UsageError(_refusal(key, (), own))
        if key not in known:
            raise UsageError(f"{name} has no setting '{key}': {near_miss(key, known)}")
    new = validated(type(own), merged(own.model_dump(mode="json"), wanted), name)
    found = []
    for path, before, after in _differences(own, new):
        _check(path, own, run)
        done = checkpoint.newest(run.part(".".join(path[:-1])) if path[:-1] else run)
        found.append(Change(0 if done is None else done.step, ".".join(path), before, after))
    return new, found


def record(run: Run, found: Sequence[Change]) -> None:
    """Add changes to the run's record, unless the same are its newest: a repeated command."""
    before: list[dict[str, Any]] = list(run.record.get("changes", []))
    new = [asdict(change) for change in found]
    if before[-len(new) :] != new:
        run.update(changes=[*before, *new])


def _check(path: tuple[str, ...], own: BaseModel, run: Run) -> None:
    """Raise where the setting at a path must not change any more."""
    from synthbench.generators.loop.settings import StepSettings

    model: Any = own
    for key in path[:-1]:
        model = getattr(model, key)
    allowed = model.CHANGED_ON_RESUME if isinstance(model, StepSettings) else frozenset()
    if path[-1] not in allowed:
        raise UsageError(_refusal(".".join(path), allowed, own))
    # All stages have one precision: it can still change for those that are not trained yet.
    stage = run.part(".".join(path[:-1])) if path[:-1] and path[-1] != "precision" else None
    if stage and (stage.folder / "run.json").is_file() and stage.record.get("finished"):
        raise UsageError(
            f"--resume --set {'.'.join(path)}: this network is trained, and the next one learns "
            "from it. Train a new run from this one: --init"
        )


def _refusal(key: str, allowed: Any, own: BaseModel) -> str:
    from synthbench.generators.loop.settings import StepSettings

    why = _WHY.get(key.rpartition(".")[2], "the weights so far were trained with it")
    if not isinstance(own, StepSettings):
        return (
            f"--resume --set {key}: {why}, and the generator is not trained by steps. Leave it out."
        )
    names = ", ".join(sorted(allowed or own.CHANGED_ON_RESUME))
    return (
        f"--resume --set {key}: {why}, so it cannot change in a run. Train a new run from this one "
        f"(--init), or change only: {names}."
    )


def _differences(
    one: BaseModel, other: BaseModel, at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path and both values of each setting in which two models differ."""
    for name in type(one).model_fields:
        before, after = getattr(one, name), getattr(other, name)
        if isinstance(before, BaseModel) and isinstance(after, type(before)):
            yield from _differences(before, after, (*at, name))
        elif before != after:
            dumped: Mapping[str, Any] = one.model_dump(mode="json", include={name})
            yield (*at, name), dumped[name], other.model_dump(mode="json", include={name})[name]
