"""A .pt2 of a stranger: every way in which torch would run something of it is refused unread."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from synthbench.errors import UsageError
from synthbench.metrics.extractors.network_archive import MODEL, SAMPLE_INPUTS, plain_archive
from synthbench.scoring.features import check_networks, load_extractors, network_hashes
from tests.metrics.extractors.mixers import Write

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Malice:
    def __reduce__(self):
        return os.system, ("touch /tmp/synthbench-ran",)


PICKLE = pickle.dumps(Malice())


def records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(items, top="archive", compression=zipfile.ZIP_STORED) -> bytes:
    """An archive of (path, content) pairs; a path that starts with ! is written as it stands."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name twice
        for name, content in items:
            archive.writestr(name[1:] if name[0] == "!" else f"{top}/{name}", content)
    return written.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_x/data/constants/tensor_0",
        "x/data/weights/weight_0",
        "data/weights/weight_0/tensor_0",
        "data/weights/weight_x",
        "data/weights/weight_0\n",
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/weights/../weights/weight_0",
        "../archive/data/weights/weight_9",
        "!/etc/weight_0",
        "!other/data/weights/weight_9",
        "!archive2",
        "data/aotinductor/model/model.so",
        "models/other.json",
        "models/model.json/model.json",
        "extra/x",
        "serialized_exported_program.json",
        "code/__torch__.py",
    ],
)
def test_a_record_that_torch_export_does_not_write_is_refused(mixer_pt2, name):
    content = packed([*records(mixer_pt2).items(), (name, PICKLE)])
    with pytest.raises(UsageError, match="JSON and raw tensors"):
        plain_archive(Path("net.pt2"), content)


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, "data/weights/weight_0", SAMPLE_INPUTS])
def test_a_name_twice_is_refused(mixer_pt2, name):
    """One program may read the first, and another one the last."""
    items = list(records(mixer_pt2).items())
    with pytest.raises(UsageError, match="a name twice"):
        plain_archive(Path("net.pt2"), packed([(name, PICKLE), *items]))


def test_compressed_records_and_other_folders_are_refused(mixer_pt2):
    items = list(records(mixer_pt2).items())
    with pytest.raises(UsageError, match="compressed"):
        plain_archive(Path("net.pt2"), packed(items, compression=zipfile.ZIP_DEFLATED))
    for top in ("..", ".", "a b", "/abs"):
        with pytest.raises(UsageError, match="JSON and raw tensors"):
            plain_archive(Path("net.pt2"), packed(items, top=top))


@pytest.mark.parametrize("config", [WEIGHTS, CONSTANTS])
@pytest.mark.parametrize(
    "payload",
    [
        {"use_pickle": True},
        {"use_pickle": 0},
        {"use_pickle": None},
        {"path_name": "opaque_obj_0"},
        {"path_name": "custom_obj_0"},
        {"path_name": "../weights/weight_0"},
        {"path_name": "/etc/passwd"},
        {"path_name": "weight_99"},
        {"path_name": "opaque_obj_x/data/constants/tensor_0"},
        {"tensor_meta": None},
        {"more": 1},
    ],
)
def test_a_payload_that_is_no_raw_tensor_is_refused(mixer_pt2, config, payload):
    found = records(mixer_pt2)
    good = next(iter(json.loads(found[WEIGHTS])["config"].values()))
    named = {} if config == WEIGHTS else {"path_name": "tensor_0"}
    fields = json.loads(found[config])
    fields["config"]["evil"] = {**good, **named, **payload}
    found[config] = json.dumps(fields).encode()
    if config == CONSTANTS:
        found["data/constants/tensor_0"] = b"0000"
    with pytest.raises(UsageError, match="JSON and raw tensors"):
        plain_archive(Path("net.pt2"), packed(found.items()))


def changed(content: bytes, change) -> bytes:
    found = records(content)
    model = json.loads(found[MODEL])
    change(model)
    found[MODEL] = json.dumps(model).encode()
    return packed(found.items())


def first(model):
    return model["graph_module"]["graph"]["nodes"][0]


def target(name):
    return lambda model: first(model).update(target=name)


GRAPHS = {
    "os.system": target("torch.os.system"),
    "sys": target("torch.sys.exit"),
    "hub": target("torch.hub.load"),
    "load": target("torch.load"),
    "operator": target("_operator.methodcaller"),
    "math": target("math.__class__"),
    "extension": target("#x:y"),
    "other library": target("torch.ops.inductor.resize_storage_bytes_.default"),
    "a file": target("torch.ops.aten.from_file.default"),
    "save": target("torch.ops.aten.save.default"),
    "no overload": target("torch.ops.aten.__class__.__bases__"),
    "expression": lambda model: model["graph_module"]["graph"]["sym_int_values"].update(
        s={"as_expr": {"expr_str": "__import__('os').system('id')", "hint": None}}
    ),
    "expression without quotes": lambda model: model["graph_module"]["graph"][
        "sym_int_values"
    ].update(s={"as_expr": {"expr_str": "exec(chr(105))", "hint": None}}),
    "power": lambda model: model["graph_module"]["graph"]["sym_int_values"].update(
        s={"as_expr": {"expr_str": "9**9**9**9", "hint": None}}
    ),
    "input": lambda model: model["graph_module"]["graph"]["inputs"][-1]["as_tensor"].update(
        name="x=__import__('os').system('id')"
    ),
    "keyword": lambda model: first(model)["inputs"][0].update(name="self=exit()"),
    "text": lambda model: first(model)["inputs"].append(
        {"name": "mode", "arg": {"as_string": "/etc/passwd"}, "kind": 2}
    ),
    "object": lambda model: first(model)["inputs"].append(
        {"name": "x", "arg": {"as_custom_obj": {"name": "x", "class_fqn": "y"}}, "kind": 1}
    ),
    "graph": lambda model: first(model)["inputs"].append(
        {"name": "x", "arg": {"as_graph": {"name": "x", "graph": {}}}, "kind": 1}
    ),
    "tree": lambda model: model["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec=json.dumps([1, {"type": "collections.defaultdict", "children_spec": [],
                                "context": json.dumps({"default_factory_module": "antigravity",
                                                       "default_factory_name": "x"})}])
    ),
    "named tuples": lambda model: model["graph_module"].update(
        treespec_namedtuple_fields={"os.x": ["a"]}
    ),
    "no graph": lambda model: model.pop("graph_module"),
    "a list": lambda model: model.update(graph_module=[]),
}  # fmt: skip


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_that_calls_or_holds_more_than_operators_is_refused(mixer_pt2, kind):
    with pytest.raises(UsageError, match="JSON and raw tensors"):
        plain_archive(Path("net.pt2"), changed(mixer_pt2, GRAPHS[kind]))


def test_guards_and_traces_are_left_out(mixer_pt2):
    def guarded(model):
        model["guards_code"] = ["__import__('os').system('id')"]
        first(model)["metadata"] = {"nn_module_stack": "a,b,os.system"}

    plain = records(plain_archive(Path("net.pt2"), changed(mixer_pt2, guarded)))
    model = json.loads(plain[MODEL])
    assert (model["guards_code"], first(model)["metadata"]) == ([], {})


def test_what_is_kept_gives_the_same_network(mixer_pt2):
    loaded = [
        torch.export.load(io.BytesIO(content)).module()
        for content in (mixer_pt2, plain_archive(Path("net.pt2"), mixer_pt2))
    ]
    image = torch.rand(1, 3, 12, 10)
    one, other = (network(image) for network in loaded)
    assert torch.equal(one["maps"], other["maps"])


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_benchmark_names_no_network_that_the_user_has_not_allowed(
    write: Write, mixer_pt2, suffix, tmp_path, monkeypatch
):
    file = write(mixer_pt2, suffix)
    named = f"slices:{file}"
    copy = tmp_path / "mine.bin"
    copy.write_bytes(mixer_pt2)
    check_networks([named, "random-resnet10"], network_hashes([copy]))
    other = tmp_path / "other"
    other.write_bytes(mixer_pt2 + b"x")
    for allowed in (frozenset(), network_hashes([other])):
        with pytest.raises(UsageError, match="--allow-network FILE"):
            check_networks([named], allowed)
        with pytest.raises(UsageError, match="--allow-network FILE"):
            load_extractors([named], print, allowed)
    with pytest.raises(UsageError, match="cannot be read"):
        network_hashes([tmp_path / "none"])
