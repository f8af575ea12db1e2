"""Networks in ONNX and .pt2 files, and the files that are refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from synthbench.errors import UsageError
from synthbench.metrics.extractors.exported import ExportedSlices
from synthbench.metrics.extractors.network_archive import plain_archive
from tests.metrics.extractors.mixers import Mixer, Write, channel_mixer, heads, saved


@pytest.mark.slow
def test_an_output_of_a_torch_program_that_is_not_there(write: Write, mixer_pt2: bytes):
    extractor = ExportedSlices(write(mixer_pt2, ".pt2", output="map"))
    with pytest.raises(UsageError, match=r"net\.pt2 has no output 'map'.*did you mean 'maps'\?"):
        extractor.features(heads(1, 12, 12, 12))


def test_the_input_of_a_torch_program_is_checked(write: Write, mixer_pt2: bytes):
    extractor = ExportedSlices(write(mixer_pt2, ".pt2", size=[10, 10]))
    with pytest.raises(UsageError, match=r"net\.pt2 takes 'image' of shape \(1, 3, 12, 10\)"):
        extractor.load()


def test_a_network_of_two_inputs_is_refused(write: Write):
    model = channel_mixer(2, 3)
    model.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, [1]))
    with pytest.raises(UsageError, match="must take one input, the image; found image, age"):
        ExportedSlices(write(model)).load()


def test_a_network_in_training_mode_is_refused(write: Write):
    path = write(saved(Mixer(training=True).train()), ".pt2")
    with pytest.raises(UsageError, match=r"exported in training mode.*Call \.eval\(\)"):
        ExportedSlices(path).load()


def test_without_onnxruntime_the_extra_is_named(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r'Type `pip install "synthbench\[onnx\]"`'):
        ExportedSlices(write(channel_mixer(2, 3))).load()


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_file_that_is_no_network_is_refused(write: Write, suffix: str):
    with pytest.raises(UsageError, match=rf"net\{suffix} must be an? (ONNX|archive)"):
        ExportedSlices(write(b"<html>404</html>", suffix)).load()


def test_weights_outside_the_hashed_file_are_refused(write: Write, monkeypatch: pytest.MonkeyPatch):
    """Onnxruntime would read them from the folder in which it runs."""
    path = write(b"")
    onnx.save(
        channel_mixer(2, 3), path, save_as_external_data=True, location="outside", size_threshold=0
    )
    assert (path.parent / "outside").is_file()
    monkeypatch.chdir(path.parent)
    with pytest.raises(UsageError, match=r"that holds its own weights.*external_data=False"):
        ExportedSlices(path).load()


class Malice:
    """Unpickling one writes a file."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.evidence,)


def tampered(content: bytes, replaced: dict[str, bytes]) -> bytes:
    """The archive with files replaced or added, by their paths below its own folder."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(changed, "w") as copy:
        names = {name.split("/", 1)[1]: name for name in archive.namelist()}
        top = archive.namelist()[0].split("/", 1)[0]
        for below, name in names.items():
            copy.writestr(name, replaced.get(below, archive.read(name)))
        for below in replaced.keys() - names.keys():
            copy.writestr(f"{top}/{below}", replaced[below])
    return changed.getvalue()


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("data/sample_inputs/model.pt", "pickled objects in data/sample_inputs/model.pt"),
        ("data/weights/model.pt", "data/weights/model.pt"),
        ("data/constants/opaque_obj_0", "data/constants/opaque_obj_0"),
        ("data/aotinductor/model/model.so", "data/aotinductor/model/model.so"),
    ],
)
def test_pickles_and_libraries_in_an_archive_are_refused_unread(
    write: Write, mixer_pt2: bytes, tmp_path: Path, file: str, found: str
):
    evidence = tmp_path / "evidence"
    if file.endswith(".pt"):
        content = io.BytesIO()
        torch.save((((Malice(evidence),), {})), content)
        malice = content.getvalue()
    else:
        malice = pickle.dumps(Malice(evidence))
    path = write(tampered(mixer_pt2, {file: malice}), ".pt2")
    with pytest.raises(UsageError, match=rf"JSON and raw tensors.*found {found}"):
        ExportedSlices(path).load()
    assert not evidence.exists()


def test_the_evidence_would_show(mixer_pt2: bytes, tmp_path: Path):
    """What torch does without the check: the fallback to full unpickling runs the code."""
    content = io.BytesIO()
    torch.save((((Malice(tmp_path / "evidence"),), {})), content)
    archive = tampered(mixer_pt2, {"data/sample_inputs/model.pt": content.getvalue()})
    with pytest.raises(Exception):  # noqa: B017, PT011 - torch's own, after the harm
        torch.export.load(io.BytesIO(archive))
    assert (tmp_path / "evidence").exists()


def test_weights_that_are_marked_as_pickled_are_refused(write: Write, mixer_pt2: bytes):
    config = '{"config": {"mix.weight": {"path_name": "weight_0", "use_pickle": true}}}'
    archive = tampered(mixer_pt2, {"data/weights/model_weights_config.json": config.encode()})
    with pytest.raises(UsageError, match="pickled tensors in data/weights/model_weights_config"):
        ExportedSlices(write(archive, ".pt2")).load()


def test_a_plain_archive_passes(mixer_pt2: bytes):
    assert plain_archive(Path("net.pt2"), tampered(mixer_pt2, {}))
