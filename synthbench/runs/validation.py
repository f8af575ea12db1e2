"""Checks of what users write as settings; an error says what is wrong in plain words."""

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


def validated(model: type[Model], values: Mapping[str, Any], generator: str) -> Model:
    """Return the settings as a model.

    Parameters
    ----------
    model
        The model of the settings.
    values
        Values by name, as read from YAML.
    generator
        Name of the generator, for errors.

    Raises
    ------
    UsageError
        A setting is unknown, or its value has the wrong kind; a boolean is not a number.
    """
    for setting in _settings(model, values):
        if _only_numbers(setting.field.annotation) and _holds_boolean(setting.value):
            raise UsageError(f"{generator}: {_wrong_kind(setting)}")
    try:
        return model(**values)
    except ValidationError as error:
        raise UsageError(_first_problem(error, model, values, generator)) from error


def by_names_of_today(settings: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a run or a preset by their present names.

    A model of settings may have `RENAMED`: present names by the names of earlier versions.
    """
    renamed: Mapping[str, str] = getattr(settings, "RENAMED", {})
    return {renamed.get(name, name): value for name, value in values.items()}


def from_options(record: type[Record], caller: str, options: Mapping[str, Any]) -> Record:
    """Return a dataclass made from the keywords of a function.

    Parameters
    ----------
    record
        The dataclass.
    caller
        Name of the function, for the error.
    options
        Fields of the dataclass.

    Raises
    ------
    TypeError
        There is no such field; the nearest is named.
    """
    known = [field.name for field in fields(record)]
    for name in options:
        if name not in known:
            raise TypeError(f"{caller}() has no option '{name}': {near_miss(name, known)}")
    return record(**options)


class _Setting(NamedTuple):
    """A setting with a value: its name with dots, its field, and the value."""

    name: str
    field: FieldInfo
    value: Any


def _settings(
    model: type[BaseModel], values: Mapping[str, Any], above: str = ""
) -> Iterator[_Setting]:
    """Yield the fields of a model, and of models inside it, that have a value."""
    for key, field in model.model_fields.items():
        if key not in values:
            continue
        yield _Setting(above + key, field, values[key])
        below = _model_in(field.annotation)
        if below is not None and isinstance(values[key], Mapping):
            yield from _settings(below, values[key], f"{above}{key}.")


def _first_problem(
    error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], generator: str
) -> str:
    """Return a message on the first error that pydantic found."""
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{generator} has no setting '{where}': {near_miss(where, _names(model))}"
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        # An error of a whole model already has the name of the setting and its value.
        value = problem["input"]
        found = "" if isinstance(value, Mapping) else f"; found {_yaml(value)}"
        return f"{generator}: {where + ': ' if where else ''}{text}{found}"
    # pydantic also names a place inside a value, such as one of a list: take its setting.
    settings = [s for s in _settings(model, values) if f"{where}.".startswith(f"{s.name}.")]
    if not settings:
        return f"{generator}: {where}: {text}"
    setting = settings[-1]
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
        return (
            f"{name}: a group of settings is needed, such as {name}.{inside}; found {_yaml(value)}."
        )
    needed = _kind(field.annotation) + (f" ({', '.join(bounds)})" if bounds else "")
    usual = field.examples[0] if field.examples else field.get_default(call_default_factory=False)
    example = "" if usual in (None, ()) else f" For example: --set {name}={_yaml(usual)}"
    return f"{name}: {needed} is needed; found {_yaml(value)}.{example}"


def _kind(annotation: Any) -> str:
    """Return a text on the values that a setting takes."""
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
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return kinds.get(option, f"a value of {option}")


def _options(annotation: Any) -> list[Any]:
    """Return the types that a value may have, without null, which many settings take."""
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
    """Return the names of all settings of a model; those of a model inside it have dots."""
    names = []
    for key, field in model.model_fields.items():
        below = _model_in(field.annotation)
        names += [above + key] if below is None else _names(below, f"{above}{key}.")
    return names


def _yaml(value: object) -> str:
    """Return a value as it is typed after `--set key=`."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_yaml, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)
