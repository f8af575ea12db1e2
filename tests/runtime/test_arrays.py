"""Archives of arrays: within the limit of memory, and never a pickle."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from synthbench.errors import RunError
from synthbench.runtime.arrays import (
    check_archive,
    load_tensors,
    read_npy,
    read_safetensors,
    unpack_npz,
)

MIB = 2**20


def npz(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def header(shape, dtype="<f8"):
    """The beginning of an npy file of this shape, without its values."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return content.getvalue()


def zipped(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return content.getvalue()


@pytest.fixture
def little(monkeypatch):
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "1MiB")


def test_arrays_are_read_as_numpy_reads_them():
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([], dtype=np.int64)}
    found = unpack_npz(npz(**arrays))
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.usefixtures("little")
def test_an_archive_that_unpacks_to_too_much_is_not_unpacked():
    """64 MiB of zeros in 64 kB, with a limit of 1 MiB."""
    content = npz(a=np.zeros(8 * MIB))
    tracemalloc.start()
    for read in (unpack_npz, check_archive):
        with pytest.raises(ValueError, match=r"unpacks to 64 MiB.*--max-memory"):
            read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04", "no zip archive"),
        (b"", "no zip archive"),
        (npz(a=np.ones(9))[:-30], "no zip archive"),
        (zipped(a=header((10**12,))), "needs 8000000000000 bytes"),
        (zipped(a=header((4,)) + bytes(31)), "needs 32 bytes, and 31"),
        (zipped(a=header((-1,))), "needs"),
        (zipped(a=header((2,), "|O") + pickle.dumps([1, 2])), "Python objects"),
        (zipped(a=b"\x93NUMPY"), "magic|header"),
        (zipped(a=b""), "magic|header"),
        (b"x" + npz(a=np.ones(9)), "never loaded"),  # not numpy's advice to load it all the same
    ],
)
def test_what_is_no_archive_of_numbers_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        unpack_npz(content)


@pytest.mark.parametrize("content", [b"", bytes(8), b"\xff" * 20, (10**9).to_bytes(8, "little")])
def test_safetensors_that_are_none_are_named(tmp_path, content):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"weights\.safetensors: .*Copy it"):
        read_safetensors(file, error=RunError, fix="Copy it.")


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("content", [header((10**6,)), b"x", npz(a=np.ones(3))])
def test_an_npy_that_is_none_is_named(tmp_path, content, mapped):
    file = tmp_path / "mean.npy"
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"mean\.npy: .*Copy it"):
        read_npy(file, error=RunError, fix="Copy it.", mapped=mapped)


@pytest.mark.usefixtures("little")
def test_a_pytorch_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path):
    (tmp_path / "weights.pth").write_bytes(zipped(data=bytes(64 * MIB)))
    with pytest.raises(ValueError, match=r"unpacks to 64 MiB.*--max-memory"):
        load_tensors(tmp_path / "weights.pth")
