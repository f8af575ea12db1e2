"""Text, JSON and YAML files: read whole, and refused by name where they cannot be used.

Anyone may have written the file: a colleague, a website, a damaged disk. Whatever a parser raises
becomes an error of synthbench that names the file and says what to do.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from synthbench.errors import SynthbenchError
from synthbench.runtime.files import check_is_file, leads_out
from synthbench.runtime.memory import amount
from synthbench.runtime.tar import open_binary

Model = TypeVar("Model", bound=BaseModel)

MAX_TEXT = 256 * 2**20
"""The most bytes of a text or of a JSON file; scorecards of thousands of images have a few MB."""

MAX_YAML = 2 * 2**20
"""The most bytes of a YAML file; a benchmark with a mask of 256 x 256 x 256 voxels has 100 kB."""

MAX_YAML_NODES = 50_000
"""The most values in a YAML file: they take about four seconds to read."""

MAX_YAML_DEPTH = 50
"""The most values within values in a YAML file."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(file: Path, *, error: type[SynthbenchError], fix: str, most: int = MAX_TEXT) -> str:
    """Return the text of a file in UTF-8; a byte order mark is left out.

    Parameters
    ----------
    error
        The kind of error that is raised.
    fix
        The last sentence of its message: what to do.
    most
        The most bytes that are read.

    Raises
    ------
    SynthbenchError
        The file cannot be opened, is larger than `most`, or is not UTF-8. It is of kind `error`.
    """
    try:
        check_is_file(Path(file))
        with open_binary(Path(file)) as opened:
            content = opened.read(most + 1)
        if len(content) > most:
            raise error(f"{file}: has more than {amount(most)}, the most that is read. {fix}")
        return content.decode("utf-8-sig")
    except OSError as found:
        raise error(f"{file}: cannot be read: {found.strerror or found}. {fix}") from found
    except (UnicodeDecodeError, ValueError) as found:  # also a name with a zero byte
        raise error(f"{file}: is not text in UTF-8: {found}. {fix}") from found
    except MemoryError as found:
        raise error(f"{file}: cannot be read: there is not enough memory. {fix}") from found


def is_there(file: Path, error: type[SynthbenchError]) -> bool:
    """Return True where a file is there that may be absent, and False where nothing has its name.

    Raises
    ------
    SynthbenchError
        Something has its name and is no file: what it should say would be left out silently. It is
        of kind `error`.
    """
    if file.is_file():
        return True
    if not os.path.lexists(file):
        return False
    if file.is_symlink() and not file.exists():
        raise error(
            f"{file}: is a link to {os.readlink(file)}, which is not there. Fetch it (datalad get, "
            "git annex get), or delete the link."
        )
    raise error(f"{file}: is no file. Put the file there, or give this another name.")


def check_own(file: Path, folder: Path, error: type[SynthbenchError]) -> None:
    """Check that a file whose text will be published belongs to its folder.

    A link in a folder of a stranger may lead to any file of the user. The links of git-annex lead
    to the dataset's own content.

    Raises
    ------
    SynthbenchError
        A link leads out of the folder. It is of kind `error`.
    """
    if leads_out(file, folder) and "annex/objects" not in Path(os.path.realpath(file)).as_posix():
        raise error(
            f"{file}: it is a link that leads out of its folder, to {os.path.realpath(file)}, and "
            "its text would be published. Put the file itself there, or delete the link."
        )


def read_json(file: Path, *, error: type[SynthbenchError], fix: str) -> Any:
    """Return the content of a JSON file; the parameters and errors are those of `read_text`."""
    return _parsed(parse_json, read_text(file, error=error, fix=fix), file, error, fix)


def read_yaml(file: Path, *, error: type[SynthbenchError], fix: str) -> Any:
    """Return the content of a YAML file; the parameters and errors are those of `read_text`."""
    text = read_text(file, error=error, fix=fix, most=MAX_YAML)
    return _parsed(parse_yaml, text, file, error, fix)


def json_fields(file: Path, *, error: type[SynthbenchError], fix: str) -> dict[str, Any]:
    """Return the fields of a file that holds one JSON object; otherwise as `read_json`."""
    return _fields(read_json(file, error=error, fix=fix), file, error, fix)


def yaml_fields(file: Path, *, error: type[SynthbenchError], fix: str) -> dict[str, Any]:
    """Return the fields of a file that holds one YAML mapping; otherwise as `read_yaml`."""
    return _fields(read_yaml(file, error=error, fix=fix), file, error, fix)


def check_fields(
    model: type[Model],
    fields: Mapping[str, Any],
    file: Path,
    *,
    error: type[SynthbenchError],
    fix: str,
) -> Model:
    """Return the fields of a file as a model.

    Raises
    ------
    SynthbenchError
        A field has the wrong kind, or is missing; the first is named. It is of kind `error`.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as found:
        raise error(f"{file}: {first_problem(found)}. {fix}") from found
    except RecursionError as found:
        raise error(f"{file}: its fields are nested too deeply. {fix}") from found


def first_problem(error: ValidationError) -> str:
    """Return the first field of a record that does not fit, and why."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{where}: {first['msg']}"


# ---------------------------------------------------------------- texts


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text.

    Raises
    ------
    ValueError
        It is not JSON in UTF-8, is nested too deeply, or needs too much memory.
    """
    try:
        words = text if isinstance(text, str) else text.decode("utf-8-sig")
        found = json.loads(words)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except MemoryError as error:
        raise ValueError("it needs too much memory") from error
    if _SURROGATE.search(words):
        _check_characters(found)
    return found


def _check_characters(value: Any) -> None:
    """Raise a ValueError where a text has half of a pair of surrogates: it cannot be written."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a text in it holds half a character (\\u{ord(error.object[error.start]):x})"
        ) from error


class _Loader(yaml.SafeLoader):
    """YAML without aliases, of a bounded size, whose keys are texts.

    Ten lines of aliases of aliases stand for a billion values. Nothing that synthbench reads needs
    them.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.nodes = self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "an alias (*NAME), which is not read here. Write the value itself",
                event.start_mark,
            )  # fmt: skip
        self.nodes += 1
        if self.nodes > MAX_YAML_NODES:
            raise yaml.YAMLError(f"it holds more than {MAX_YAML_NODES} values")
        self.depth += 1
        if self.depth > MAX_YAML_DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping, whose keys are texts and differ."""
        found = super().construct_mapping(node, deep)
        for key in found:
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a name must be a text; found {key!r}. Write it in quotes",
                    node.start_mark,
                )  # fmt: skip
        if isinstance(node, yaml.MappingNode) and len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "a name stands twice in one mapping. Remove one", node.start_mark
            )
        return found


def _without_base_60() -> dict[Any, Any]:
    """Return the rules by which YAML takes a text for a value, without two that surprise.

    YAML 1.1 reads -1:1 as -61, in base 60, and 010 as 8. Here both are texts.
    """
    surprising = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
    return {
        first: [
            (tag, re.compile(f"(?!.*:)(?![-+]?0[0-9])(?:{rule.pattern})", rule.flags))
            if tag in surprising
            else (tag, rule)
            for tag, rule in rules
        ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.yaml_implicit_resolvers = _without_base_60()


def parse_yaml(text: str | bytes) -> Any:
    """Return the content of a YAML text of safe types.

    Raises
    ------
    ValueError
        It is not YAML in UTF-8, has an alias, a name that is not a text or stands twice, is too
        large, or is nested too deeply.
    """
    try:
        words = text if isinstance(text, str) else text.decode("utf-8-sig")
        if len(words) > MAX_YAML:
            raise ValueError(f"it has more than {amount(MAX_YAML)}, the most that is read")
        found = yaml.load(words, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError:
        raise
    # The parser raises AttributeError and others for odd dates and numbers.
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if "\\u" in words or "\\U" in words:
        _check_yaml_characters(found)
    return found


def _check_yaml_characters(value: Any) -> None:
    _check_characters(json.loads(json.dumps(value, default=str)))


# ---------------------------------------------------------------- errors


def _parsed(
    parse: Callable[[str], Any], text: str, file: Path, error: type[SynthbenchError], fix: str
) -> Any:
    try:
        return parse(text)
    except ValueError as found:
        kind = "JSON" if parse is parse_json else "YAML"
        raise error(f"{file}: is not valid {kind}: {_one_line(found)}. {fix}") from found


def _fields(found: Any, file: Path, error: type[SynthbenchError], fix: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise error(f"{file}: holds {kind_of(found)}, not named fields. {fix}")
    return found


def kind_of(value: Any) -> str:
    """Return the kind of a value in words."""
    kinds = {"list": "a list", "str": "a text", "NoneType": "nothing"}
    return kinds.get(type(value).__name__, type(value).__name__)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
