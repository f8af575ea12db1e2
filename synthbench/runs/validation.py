"""What users write as settings, held against typed models; what is wrong is said in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from synthbench.errors import UsageError, near_miss

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


Model = TypeVar("Model", bound=BaseModel)
Record = TypeVar("Record", bound="DataclassInstance")

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def validated(model: type[Model], given: Mapping[str, Any], generator: str) -> Model:
    """Return settings of that model.

    Parameters
    ----------
    model
        What they must be of.
    given
        As read from YAML.
    generator
        Whose they are, for errors.

    Raises
    ------
    UsageError
        A setting is unknown or not what its model takes; booleans are no numbers.
    """
    for setting in _settings(model, given):
        if _only_numbers(setting.field.annotation) and _holds_boolean(setting.value):
            raise UsageError(f"{generator}: {_wrong_kind(setting)}")
    try:
        return model(**given)
    except ValidationError as error:
        raise UsageError(_first_problem(error, model, given, generator)) from error


def by_names_of_today(settings: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a run or a preset by the names that they have now.

    A model of settings may list the names of earlier versions as `RENAMED`.
    """
    renamed: Mapping[str, str] = getattr(settings, "RENAMED", {})
    return {renamed.get(name, name): value for name, value in given.items()}


def from_options(record: type[Record], caller: str, given: Mapping[str, Any]) -> Record:
    """Return a request made of the keywords that a function was called with.

    Parameters
    ----------
    record
        A dataclass.
    caller
        The function's name, for the error.
    given
        Fields of the dataclass.

    Raises
    ------
    TypeError
        There is no such field; the nearest is named.
    """
    known = [field.name for field in fields(record)]
    for name in given:
        if name not in known:
            raise TypeError(f"{caller}() has no option '{name}': {near_miss(name, known)}")
    return record(**given)


class _Setting(NamedTuple):
    """A setting that was given: its name with dots, its field, and its value."""

    name: str
    field: FieldInfo
    value: Any


def _settings(
    model: type[BaseModel], given: Mapping[str, Any], above: str = ""
) -> Iterator[_Setting]:
    """Yield what is given of a model's fields, those of models below it too."""
    for key, field in model.model_fields.items():
        if key not in given:
            continue
        yield _Setting(above + key, field, given[key])
        below = _model_in(field.annotation)
        if below is not None and isinstance(given[key], Mapping):
            yield from _settings(below, given[key], f"{above}{key}.")


def _first_problem(
    error: ValidationError, model: type[BaseModel], given: Mapping[str, Any], generator: str
) -> str:
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{generator} has no setting '{where}': {near_miss(where, _names(model))}"
    words = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        # Those of a whole model name the setting and say what was found.
        value = problem["input"]
        found = "" if isinstance(value, Mapping) else f"; found {_yaml(value)}"
        return f"{generator}: {where + ': ' if where else ''}{words}{found}"
    holding = [s for s in _settings(model, given) if f"{where}.".startswith(f"{s.name}.")]
    if not holding:
        return f"{generator}: {where}: {words}"
    setting = holding[-1]
    bounds = [
        f"{_BOUNDS[key]} {value:g}"
        for key, value in problem.get("ctx", {}).items()
        if key in _BOUNDS
    ]
    return f"{generator}: {_wrong_kind(setting, *bounds)}"


def _wrong_kind(setting: _Setting, *bounds: str) -> str:
    name, field, value = setting
    below = _model_in(field.annotation)
    if below is not None:
        inside = next(iter(below.model_fields))
        return f"{name}: a group of settings, such as {name}.{inside}; found {_yaml(value)}."
    needed = _kind(field.annotation) + (f" ({', '.join(bounds)})" if bounds else "")
    usual = field.examples[0] if field.examples else field.get_default(call_default_factory=False)
    example = "" if usual in (None, ()) else f" For example: --set {name}={_yaml(usual)}"
    return f"{name}: {needed} is needed; found {_yaml(value)}.{example}"


def _kind(annotation: Any) -> str:
    """Say what values a setting takes."""
    return " or ".join(dict.fromkeys(map(_kind_of_one, _options(annotation))))


def _kind_of_one(option: Any) -> str:
    if get_origin(option) is Literal:
        return f"one of {', '.join(map(_yaml, get_args(option)))}"
    if get_origin(option) is tuple:
        first, *others = get_args(option)
        count = "" if others == [...] else f"{1 + len(others)} "
        kind = _kind(first)
        items = f"{kind.removeprefix('a ')}s" if kind.startswith("a ") else kind
        return f"a list of {count}{items}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words.get(option, f"a value of {option}")


def _options(annotation: Any) -> list[Any]:
    """The types that a value may have, without the null that most settings take."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return [option for part in parts for option in _options(part)]
    return [annotation]


def _only_numbers(annotation: Any) -> bool:
    return all(
        option in (int, float)
        or (
            get_origin(option) is tuple
            and all(_only_numbers(part) for part in get_args(option) if part is not ...)
        )
        for option in _options(annotation)
    )


def _holds_boolean(value: Any) -> bool:
    items = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(item, bool) for item in items)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _names(model: type[BaseModel], above: str = "") -> list[str]:
    """All settings of a model, those of models below it with dots."""
    names = []
    for key, field in model.model_fields.items():
        below = _model_in(field.annotation)
        names += [above + key] if below is None else _names(below, f"{above}{key}.")
    return names


def _yaml(value: object) -> str:
    """Write a value as it is typed after `--set key=`."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_yaml, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)
