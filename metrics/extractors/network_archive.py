"""What may stand in a .pt2 archive, by its exact structure, and a copy that holds nothing else.

torch.export.load was not made for files of strangers. It unpickles what an archive marks as
pickled or as an object, evaluates the expressions of symbolic shapes, looks operators up by any
name below `torch`, imports modules that a tree names, and writes Python from the names of inputs.
So an archive is read here first: its records are those that torch.export.save writes for one
network of plain tensors, its graph calls operators of ATen only, and its strings are names. torch
then reads a new archive of what was checked, and never the file itself.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from synthbench.errors import UsageError

MODEL = "models/model.json"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": ("data/weights/", re.compile(r"weight_\d{1,6}")),
    "data/constants/model_constants_config.json": (
        "data/constants/", re.compile(r"tensor_\d{1,6}"),
    ),
}  # fmt: skip
_FIXED = {
    "archive_format": re.compile(rb"pt2"),
    "archive_version": re.compile(rb"\d{1,4}"),
    "byteorder": re.compile(rb"little"),
    ".data/version": re.compile(rb"\d{1,4}\n?"),
    ".data/serialization_id": re.compile(rb"\w{1,100}"),
}
"""The other records, with their contents."""

_TOP = re.compile(r"\w[\w-]{0,99}")
_PAYLOAD = {"path_name", "is_param", "use_pickle", "tensor_meta"}
_NAME = re.compile(r"\w[\w.]*")
_WORDS = re.compile(r"[\w .:,+-]*")
_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_ARITHMETIC = re.compile(r"_operator\.(getitem|add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge)")
_EXPRESSION = re.compile(
    r"(?>Symbol\('[a-z]+\d+'(, [a-z]+=(True|False))*\)|[a-z]\d+|\d{1,9}|Max|Min|Mod|FloorDiv|"
    r"[-+(), /]|\*(?!\*))*+"
)
_TREES = ("builtins.tuple", "builtins.list", "builtins.dict", None)
_REFUSED_ARGUMENTS = ("as_custom_obj", "as_operator", "as_graph", "as_opaque_obj")


class _NotPlainError(Exception):
    """What was found that is not allowed."""


def plain_archive(path: Path, content: bytes) -> bytes:
    """Return a new .pt2 archive with the graph and the tensors of a file, and nothing else.

    Parameters
    ----------
    path
        The file, for error messages; it is not read.
    content
        Its bytes.

    Raises
    ------
    UsageError
        The file is no such archive, or holds anything that is neither a plain graph nor a tensor.
    """
    try:
        records = _records(content)
        model = _json(records, MODEL)
        checked = {MODEL: _checked_model(model), **_checked_payloads(records)}
        checked[SAMPLE_INPUTS] = _checked_inputs(records.get(SAMPLE_INPUTS, b""))
    except (_NotPlainError, RecursionError, KeyError, TypeError, AttributeError) as error:
        found = str(error) if isinstance(error, _NotPlainError) else "a graph of another form"
        raise UsageError(
            f"{path} must hold one exported network as JSON and raw tensors, written by "
            f"torch.export.save; found {found}. Export it again with a current torch, on plain "
            "example tensors."
        ) from error
    except Exception as error:  # zipfile and zlib raise many kinds for a damaged archive
        raise UsageError(
            f"{path} must be an archive written by torch.export.save; found {error}. "
            "Export it again."
        ) from error
    fixed = {name: records[name] for name in _FIXED if name in records}
    return _packed({**fixed, **checked})


def _records(content: bytes) -> dict[str, bytes]:
    """Return the records by their paths below the archive's one folder."""
    found: dict[str, bytes] = {}
    tops = set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            top, _, name = info.filename.partition("/")
            tops.add(top)
            if not _TOP.fullmatch(top) or not _is_known(name):
                raise _NotPlainError(name or info.filename)
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise _NotPlainError(f"a compressed record, {name}")
            if name in found:
                raise _NotPlainError(f"a name twice, {name}")
            found[name] = archive.read(info)
    if len(tops) != 1 or MODEL not in found:
        raise _NotPlainError(f"no {MODEL}" if MODEL not in found else "several folders")
    for name, form in _FIXED.items():
        if name in found and not form.fullmatch(found[name]):
            raise _NotPlainError(f"another content of {name}")
    return found


def _is_known(name: str) -> bool:
    if name in (MODEL, SAMPLE_INPUTS) or name in _FIXED or name in _CONFIGS:
        return True
    return any(
        name.startswith(folder) and form.fullmatch(name.removeprefix(folder))
        for folder, form in _CONFIGS.values()
    )


def _json(records: Mapping[str, bytes], name: str) -> Any:
    if name not in records:
        raise _NotPlainError(f"no {name}")
    return json.loads(records[name].decode("utf-8"))


def _checked_payloads(records: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the tensors and their configurations: each raw, and in the folder it belongs to."""
    checked: dict[str, bytes] = {}
    for name, (folder, form) in _CONFIGS.items():
        config = _json(records, name)
        if set(config) != {"config"}:
            raise _NotPlainError(f"other keys in {name}")
        for payload in config["config"].values():
            if payload.get("use_pickle") is not False:
                raise _NotPlainError(f"pickled tensors in {name}")
            record = payload["path_name"]
            if (
                set(payload) != _PAYLOAD
                or not form.fullmatch(record)
                or f"{folder}{record}" not in records
                or not isinstance(payload["tensor_meta"], dict)
            ):
                raise _NotPlainError(f"objects in {name}")
            checked[f"{folder}{record}"] = records[f"{folder}{record}"]
        _check_words(config["config"], name)
        checked[name] = json.dumps(config).encode()
    return checked


def _checked_inputs(content: bytes) -> bytes:
    """Return the example inputs written anew; they are always saved by torch.save."""
    if not content:
        return content
    try:
        loaded = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise _NotPlainError(f"pickled objects in {SAMPLE_INPUTS}") from error
    if not all(isinstance(leaf, torch.Tensor | int | float) for leaf in _leaves(loaded)):
        raise _NotPlainError(f"objects in {SAMPLE_INPUTS}")
    written = io.BytesIO()
    torch.save(loaded, written)
    return written.getvalue()


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _checked_model(model: Any) -> bytes:
    """Return the graph in JSON, without what only describes it: traces of sources and guards."""
    module = model["graph_module"]
    for node in module["graph"]["nodes"]:
        _check_target(node["target"])
        node["metadata"] = {}
    module["metadata"] = {}
    model["guards_code"] = []
    if module.get("treespec_namedtuple_fields") or module["graph"].get("custom_obj_values"):
        raise _NotPlainError("objects in the graph")
    for call in module["module_call_graph"]:
        for key in ("in_spec", "out_spec"):
            if call.get("signature") is not None:
                _check_tree(json.loads(call["signature"][key])[1])
    _check_words(model, MODEL)
    return json.dumps(model).encode()


def _check_target(target: str) -> None:
    """Raise unless a node calls an operator of ATen that computes, or arithmetic of sizes."""
    if _ARITHMETIC.fullmatch(target):
        return
    named = _OPERATOR.fullmatch(target)
    operator = getattr(getattr(torch.ops.aten, named[1], None), named[2], None) if named else None
    if not isinstance(operator, torch._ops.OpOverload) or any(
        argument.name in ("filename", "path") for argument in operator._schema.arguments
    ):
        raise _NotPlainError(f"a call of {target!r} in the graph")


def _check_tree(tree: Any) -> None:
    if tree["type"] not in _TREES:
        raise _NotPlainError(f"objects of {tree['type']!r} in the graph")
    if tree["context"] is not None and not re.fullmatch(r'[\w\s.,\[\]"-]*', tree["context"]):
        raise _NotPlainError("an object in a tree of the graph")
    for child in tree["children_spec"]:
        _check_tree(child)


def _check_words(value: Any, where: str, key: str = "") -> None:
    """Raise where a string is more than a name or words: torch makes Python from some of them."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name in _REFUSED_ARGUMENTS:
                raise _NotPlainError(f"objects in {where}")
            _check_words(name, where)
            _check_words(part, where, name)
    elif isinstance(value, list):
        for part in value:
            _check_words(part, where, key)
    elif isinstance(value, str):
        form = {"name": _NAME, "forward_arg_names": _NAME, "expr_str": _EXPRESSION}.get(key, _WORDS)
        if key not in ("in_spec", "out_spec") and not form.fullmatch(value):
            raise _NotPlainError(f"{value[:60]!r} in {where}")


def _packed(records: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)
    return packed.getvalue()
