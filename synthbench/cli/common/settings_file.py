"""Files of options: the one that `--config` names, or a `synthbench.yaml` that is found.

A file holds options by verb, as they are typed:

    all:
      seed: 1
    score:
      real: data/reference.tsv
      extractor: [random-resnet10]
    data:
      split:
        by: [sex]

`all` is for every verb that has such an option. What is typed goes before a verb's own section,
and that before `all`. Paths are relative to the file.

A file that is found may be a stranger's: it came with a download, and nobody looked at it. So it
may set what chooses volumes and numbers, and nothing that runs code, sends data, accepts terms or
errors, or writes elsewhere than beside the file. It may not set the secret key of a watermark
either: a stranger would know the key, and could take the mark out.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.models import OptionInfo

from synthbench.errors import UsageError, near_miss

NAME = "synthbench.yaml"
"""The file that is looked for, from the current folder upwards."""

EVERY = "all"
"""The section for every verb."""

MAY_FIND = frozenset({
    # volumes
    "real", "synth", "train", "holdout", "validation", "test", "like", "suffix", "filter",
    "assume-grid", "space", "intensity", "count-failures", "layout", "scan",
    "one-scan-per-subject", "manifest", "range", "orientation", "spacing", "shape",
    # what is computed
    "extractor", "metric", "scales", "index", "ci", "resamples", "seed", "cache", "benchmark",
    "protocol", "primary", "m", "corruption", "sensitivity", "conditions", "measures", "readers",
    "name",
    "delta", "alpha", "gate", "history", "false-alarm-runs", "reference", "compare", "multiverse",
    "wide",
    # what is trained and drawn
    "preset", "n", "condition", "guidance", "sampler", "steps", "precision", "clean",
    "shards", "vary", "fix", "natural",
    "seeds", "label", "synth-labels", "model", "epochs", "batch-size", "ratios",
    "splits", "segmentation", "part", "by", "repeat", "labels", "denoise", "jobs",
    "real-pictures",
})  # fmt: skip
"""The options that a file may set that was found; each other one must be typed or named."""

MAY_WRITE = frozenset({"out", "html", "junit", "comment", "folder"})
"""The options that name what is written; a file that was found may name what lies beside it."""

_FIX = f"Correct it, or leave it out: --config {os.devnull}"

Kind = Literal["flag", "one", "many"]


@dataclass(frozen=True)
class FileOption:
    """An option as a file may set it.

    Attributes
    ----------
    name
        Of the parameter.
    kind
        "flag": true or false; "one": a text or a number; "many": a list of them.
    path
        True where values are paths.
    """

    name: str
    kind: Kind
    path: bool


KNOWN: dict[tuple[str, ...], tuple[Parameter, ...]] = {}
"""The parameters of each verb, which stands after its group."""


@functools.cache
def options_of(verb: tuple[str, ...]) -> dict[str, FileOption]:
    """Return the options of a verb that a file may set, by the names that are typed after `--`."""
    return dict(_file_options(KNOWN[verb]))


def _file_options(parameters: Iterable[Parameter]) -> Iterator[tuple[str, FileOption]]:
    for parameter in parameters:
        if get_origin(parameter.annotation) is not Annotated:
            continue
        kind, *rest = get_args(parameter.annotation)
        info = next((one for one in rest if isinstance(one, OptionInfo)), None)
        if info is None or parameter.name == "config":
            continue
        # In an annotation, the first name stands where the default value would.
        names = [str(name) for name in (info.default, *(info.param_decls or ()))]
        long = [name for name in names if name.startswith("--")]
        typed = long[0].partition("/")[0] if long else f"--{parameter.name.replace('_', '-')}"
        types = _types(kind)
        several = bool({list, tuple} & {get_origin(one) for one in types})
        inner = {piece for one in types for piece in (get_args(one) or (one,))}
        found: Kind = "many" if several else "flag" if bool in types else "one"
        yield typed.removeprefix("--"), FileOption(parameter.name, found, Path in inner)


def _types(hint: Any) -> list[Any]:
    """Return the types of a hint, without None."""
    if get_origin(hint) in (Union, UnionType):
        return [one for one in get_args(hint) if one is not type(None)]
    return [hint]


# ---------------------------------------------------------------- while a command is read


def take_settings(context: typer.Context, named: Path | None) -> Path | None:
    """Give a verb the options of its settings file, and say which they are.

    Parameters
    ----------
    named
        The file of `--config`; None: the file that is found from the current folder upwards;
        `os.devnull`: none.

    Returns
    -------
    The named file where it holds no options but the settings of a generator, which only `train`
    takes; else None.

    Raises
    ------
    UsageError
        The file cannot be read, or sets what no verb has, or what it may not set.
    """
    if context.resilient_parsing:  # completion, which must neither speak nor fail
        return None
    verb = _path(context)
    if named == Path(os.devnull):  # no file, and none is looked for
        return None
    if named is not None:
        sections = sections_of(named)
        if verb == ("train",) and not set(sections) & _top():
            return named
        _give(context, named, settings_of(named, sections, verb, found=False))
        return None
    file = find(Path.cwd())
    if file is not None:
        _give(context, file, settings_of(file, sections_of(file), verb, found=True))
    return None


def config_option(words: str) -> OptionInfo:
    """Return the option `--config` with these words in the help."""
    option: OptionInfo = typer.Option(
        "--config", metavar="FILE", is_eager=True, callback=take_settings, help=words
    )
    return option


TrainSettings = Annotated[
    Path | None,
    config_option("Settings of the generator (YAML), or options by verb as for every verb."),
]
"""The option `--config` of `train`, which takes both kinds of files."""


def _path(context: typer.Context) -> tuple[str, ...]:
    names: list[str] = []
    one: Any = context
    while one.parent is not None:
        names.insert(0, str(one.info_name))
        one = one.parent
    return tuple(names)


def _give(context: typer.Context, file: Path, values: dict[str, tuple[str, Any]]) -> None:
    from synthbench.cli.console import log

    if values:
        context.default_map = {name: value for name, (_, value) in values.items()}
        keys = ", ".join(key for key, _ in values.values())
        log(f"{file}: settings of {keys}, where you type no others")


def find(start: Path) -> Path | None:
    """Return the settings file of a folder or of the nearest one above it; None without one.

    Above the user's home folder none is looked for. A file that another user wrote, or that
    everybody can write, is not used, and that is said.
    """
    from synthbench.cli.console import log

    home = Path.home()
    for folder in (start, *start.parents):
        file = folder / NAME
        if os.path.lexists(file):
            why = _why_not(file)
            if why is None:
                return file
            log(f"{file}: not used, because {why}. To use it: --config {file}")
            return None
        if folder == home:
            return None
    return None


def _why_not(file: Path) -> str | None:
    """Return why a file that was found is not the user's own; None where it is."""
    try:
        about = (file.lstat(), file.stat())
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not stat.S_ISREG(about[1].st_mode):
        return "it is no file"
    if not hasattr(os, "getuid"):
        return None
    if any(one.st_uid not in (os.getuid(), 0) for one in about):
        return "it belongs to another user"
    return "everybody can change it" if about[1].st_mode & stat.S_IWOTH else None


# ---------------------------------------------------------------- what a file holds


def sections_of(file: Path) -> dict[str, Any]:
    """Return what a settings file holds, by verb or group; not checked further.

    Raises
    ------
    UsageError
        It cannot be read, or holds something else.
    """
    from synthbench.runtime.documents import kind_of, read_yaml

    found = read_yaml(file, error=UsageError, fix=_FIX)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{file}: holds {kind_of(found)}, not options by verb. {_FIX}")
    return found


def _top() -> set[str]:
    return {EVERY, *(path[0] for path in KNOWN)}


def settings_of(
    file: Path, sections: Mapping[str, Any], verb: tuple[str, ...], *, found: bool
) -> dict[str, tuple[str, Any]]:
    """Return the options that a file sets for a verb: by parameter, the typed name and the value.

    Parameters
    ----------
    file
        The file, which paths are relative to and which messages name.
    sections
        Its content.
    verb
        The verb's name, after that of its group.
    found
        True where nobody named the file.

    Raises
    ------
    UsageError
        There is no such verb or option, a value is of another kind, or the file may not set it.
    """
    own: dict[str, tuple[str, Any]] = {}
    shared: dict[str, tuple[str, Any]] = {}
    every = _of_every_verb()
    for path, key, value in _settings(file, sections, ()):
        known = every if path == (EVERY,) else options_of(path)
        where = f"{file}: {' '.join(path)}: {key}"
        if key not in known:
            raise UsageError(f"{where}: there is no such option: {near_miss(key, known)}")
        option = known[key]
        checked = _checked(where, option, value, file)
        if found:
            _check_found(where, key, checked, file)
        if path == verb:
            own[option.name] = (key, checked)
        elif path == (EVERY,) and key in options_of(verb):
            option = options_of(verb)[key]
            # One verb takes several extractors, another one: a list of one does for both.
            fits = option.kind != "one" or not isinstance(value, list) or len(value) != 1
            shared[option.name] = (key, _checked(where, option, value if fits else value[0], file))
    return shared | own


def _of_every_verb() -> dict[str, FileOption]:
    """Return every option of any verb; one that some verb takes several times is of that kind."""
    every: dict[str, FileOption] = {}
    for verb in KNOWN:
        for key, option in options_of(verb).items():
            if key not in every or option.kind == "many":
                every[key] = option
    return every


def _settings(
    file: Path, sections: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield the verb, the option and the value of each setting."""
    for name, section in sections.items():
        here = (*path, name)
        starts = {known[: len(here)] for known in KNOWN} | ({(EVERY,)} if not path else set())
        if here not in starts:
            names = {known[len(path)] for known in KNOWN if known[: len(path)] == path}
            raise UsageError(
                f"{file}: {' '.join(here)}: there is no such verb: {near_miss(name, names)}"
            )
        if section is None:
            continue
        if not isinstance(section, dict):
            raise UsageError(
                f"{file}: {' '.join(here)}: options are needed, one per line, such as seed: 1. "
                f"{_FIX}"
            )
        if here == (EVERY,) or here in KNOWN:
            yield from ((here, key, value) for key, value in section.items())
        else:
            yield from _settings(file, section, here)


def _checked(where: str, option: FileOption, value: Any, file: Path) -> Any:
    """Return a value as it would be typed; a path from the file's folder."""
    if option.kind == "flag":
        if isinstance(value, bool):
            return value
        raise UsageError(f"{where}: true or false is needed; found {value!r}.")
    values = value if option.kind == "many" and isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, (str, int, float)) for one in values):
        what = "a text, a number, or a list of them" if option.kind == "many" else (
            "a text or a number")  # fmt: skip
        raise UsageError(f"{where}: {what} is needed; found {value!r}.")
    texts = [str(file.parent / str(one)) if option.path else str(one) for one in values]
    if any("\0" in text for text in texts):
        raise UsageError(f"{where}: a text with a zero byte cannot be used; found {value!r}.")
    return texts if option.kind == "many" else texts[0]


def _below(folder: Path, path: Path) -> tuple[str, ...]:
    """Return the parts of a path below a folder, links followed; none where it is elsewhere."""
    try:
        inside, folder = path.resolve(), folder.resolve()
    except (OSError, RuntimeError):  # a loop of links, or a name that is too long
        return ()
    return inside.relative_to(folder).parts if inside.is_relative_to(folder) else ()


def _check_found(where: str, key: str, value: Any, file: Path) -> None:
    """Raise where a file that nobody named sets what it may not set."""
    named = f"Type it, or name the file: --config {file}"
    values = [str(one) for one in (value if isinstance(value, list) else [value])]
    if key in MAY_WRITE:
        for one in values:
            parts = _below(file.parent, Path(one))
            if not parts or any(part.startswith(".") for part in parts):
                raise UsageError(
                    f"{where}: a settings file that was found may write only into its own folder; "
                    f"found {one}. {named}"
                )
    elif key not in MAY_FIND:
        raise UsageError(
            f"{where}: is not taken from a settings file that was found: it may run code, send or "
            f"show data, accept terms or errors, or hide messages. {named}"
        )
    if key == "extractor" and any(":" in one for one in values):
        raise UsageError(
            f"{where}: names a network file, which is a program, and is not taken from a settings "
            f"file that was found. {named}"
        )
