"""Reading one image file: every fault becomes an error that says what is wrong, and what to do."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import struct
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthbench.errors import CohortError
from synthbench.volumes.image_file import is_volume, read_stored, without_suffix
from tests.conftest import AFFINE, blob

VOLUME = (200 * blob(5)).astype(np.uint8)


def nifti(volume=VOLUME, **changes):
    """The bytes of a NIfTI file whose header has these fields, whatever they mean."""
    image = nib.Nifti1Image(volume, AFFINE)
    image.set_qform(AFFINE, 1)
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    offsets = {
        "dim0": (40, "<h"), "dim1": (42, "<h"), "dim2": (44, "<h"), "dims": (42, "<3h"),
        "datatype": (70, "<h"), "types": (70, "<2h"), "vox_offset": (108, "<f"),
        "slope": (112, "<f"), "inter": (116, "<f"),
    }  # fmt: skip
    for name, value in changes.items():
        place, form = offsets[name]
        struct.pack_into(form, content, place, *np.atleast_1d(value).tolist())
    return bytes(content)


def npy(array, **settings):
    content = io.BytesIO()
    np.save(content, array, **settings)
    return content.getvalue()


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return content.getvalue()


def without_checksum(content):
    return content[:-8] + bytes(4) + content[-4:]


GZ = gzip.compress(nifti())
COMPLEX = nifti(VOLUME.astype(np.complex64))
FAULTS = {
    "a single-bit type": ("a.nii", nifti(types=(1, 1)), "data type 1,"),
    "an unknown type": ("a.nii", nifti(datatype=999), "data type 999"),
    "type against bitpix": ("a.nii", nifti(datatype=16), "contradicts itself"),
    "NaN slope": ("a.nii", nifti(slope=np.nan), "scl_slope nan"),
    "infinite slope": ("a.nii", nifti(slope=np.inf), "scl_slope inf"),
    "NaN intercept": ("a.nii", nifti(inter=np.nan), "scl_inter nan"),
    "infinite intercept": ("a.nii.gz", gzip.compress(nifti(inter=-np.inf)), "scl_inter -inf"),
    "negative axis": ("a.nii", nifti(dim1=-24), "shape -24 x 24 x 24"),
    "no voxels": ("a.nii", nifti(dim2=0), "shape 24 x 0 x 24"),
    "no axes": ("a.nii", nifti(dim0=0), "0 dimensions"),
    "too many axes": ("a.nii", nifti(dim0=9), "9 dimensions"),
    "more than the file holds": ("a.nii", nifti(dim1=240), "need 138592 bytes, and it holds 14176"),
    "more than a stream can": ("a.nii.gz", gzip.compress(nifti(dims=(600, 600, 600))), "at most"),
    "more than the stream holds": ("a.nii.gz", gzip.compress(nifti(dim1=48)), "ends before"),
    "more than anyone has": ("a.nii", nifti(dims=(32767, 32767, 32767)), "3.52e.13 voxels"),
    "voxels far behind": ("a.nii", nifti(vox_offset=1e12), "vox_offset"),
    "voxels in the header": ("a.nii", nifti(vox_offset=0), "vox_offset"),
    "complex": ("a.nii", COMPLEX, "complex64"),
    "a series": ("a.nii", nifti(np.stack([VOLUME] * 2, axis=-1)), "is 4-D"),
    "a slice": ("a.nii", nifti(VOLUME[:, :, :1]), "single slice"),
    "a picture": ("a.npy", npy(VOLUME[0]), "is 2-D"),
    "cut": ("a.nii", nifti()[:5000], "truncated"),
    "cut within the header": ("a.nii", nifti()[:347], "within its header"),
    "cut gzip": ("a.nii.gz", GZ[: len(GZ) // 2], "truncated"),
    "cut trailer": ("a.nii.gz", GZ[:-8], "truncated"),
    "wrong checksum": ("a.nii.gz", without_checksum(GZ), "CRC"),
    "wrong length": ("a.nii.gz", GZ[:-4] + bytes(4), "length"),
    "junk behind": ("a.nii.gz", GZ + b"x" * 100, "damaged"),
    "twice compressed": ("a.nii.gz", gzip.compress(GZ), "compressed twice"),
    "empty": ("a.nii.gz", b"", "is empty"),
    "empty gzip": ("a.nii.gz", gzip.compress(b""), "0 bytes after decompression"),
    "npz": ("a.npy", zipped(), "zip archive"),
    "pickle": ("a.npy", pickle.dumps({"a": 1}, protocol=4), "pickle"),
    "objects": ("a.npy", npy(np.array([{}, {}], dtype=object), allow_pickle=True), "pickle"),
    "words": ("a.npy", npy(np.full((2, 2, 2), "word")), "real numbers"),
    "broken npy header": ("a.npy", npy(VOLUME).replace(b"'descr'", b"'des'''"), "npy header"),
    "cut npy": ("a.npy", npy(VOLUME)[:500], "truncated"),
    "pretended npy": ("a.npy", npy(VOLUME).replace(b"24, 24, 24", b"99, 99, 99"), "truncated"),
    "garbage": ("a.mgz", gzip.compress(bytes(range(256)) * 9), "begins with the bytes 00 01"),
    "MGH of no type": ("a.mgh", struct.pack(">7i", 1, 4, 4, 4, 1, 77, 0) + bytes(400), "type 77"),
    "MGH, no voxels": ("a.mgh", struct.pack(">7i", 1, 4, -4, 4, 1, 3, 0) + bytes(400), "4 x -4"),
    "annex": ("a.nii.gz", b"/annex/objects/MD5E-s12--00.nii.gz\n", "git-annex pointer"),
    "annex on Windows": ("a.nii.gz", b"../../.git/annex/objects/k/K.nii.gz", "git-annex pointer"),
    "LFS": ("a.nii", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "web page": ("a.nii.gz", b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
    "compressed web page": ("a.nii.gz", gzip.compress(b"<html>no</html>"), "web page"),
    "JSON": ("a.nii.gz", b'{"message": "Not found"}', "JSON"),
    "text": ("a.nii", "Zugriff verweigert: für Sie".encode(), "Zugriff verweigert"),
    "bzip2": ("a.nii.gz", b"BZh91AY&SY" + bytes(range(256)), "bunzip2"),
    "xz": ("a.nii.gz", b"\xfd7zXZ\x00" + bytes(range(256)), "xz -d"),
    "zstd": ("a.nii", b"\x28\xb5\x2f\xfd" + bytes(range(256)), "zstd -d"),
    "NRRD": ("a.nii", b"NRRD0004\ntype: float\n", "NRRD"),
    "DICOM": ("a.nii", bytes(128) + b"DICM" + bytes(99), "dcm2niix"),
    "HDF5": ("a.nii", b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "header of a pair": ("a.nii", nifti()[:344] + b"ni1\x00" + bytes(4), "header of a pair"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_cannot_be_read_is_explained(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CohortError, match=words):
        read_stored(tmp_path / name)


@pytest.mark.parametrize("kind", ["colours", "folder", "pipe", "link", "circle", "nothing"])
def test_what_is_no_file_of_numbers_is_explained(kind, tmp_path):
    file = tmp_path / "a.nii"
    if kind == "colours":
        colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(colours, AFFINE), file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind in ("link", "circle"):
        file.symlink_to("gone.nii" if kind == "link" else "a.nii")
    words = {"colours": "RGB", "link": "Fetch it", "circle": "Fetch it", "nothing": "No such file"}
    with pytest.raises(CohortError, match=words.get(kind, f"is a {kind}")):
        read_stored(file)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    (tmp_path / "a.nii").write_bytes(nifti())

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CohortError, match="Permission denied"):
        read_stored(tmp_path / "a.nii")


def test_what_a_reader_raises_is_no_traceback(tmp_path, monkeypatch):
    (tmp_path / "a.nii").write_bytes(nifti())
    for raised in (KeyError("x"), AttributeError("y"), MemoryError(), AssertionError("z")):

        def fail(*_, raised=raised, **__):
            raise raised

        monkeypatch.setattr(nib.Nifti1Image, "from_file_map", fail)
        with pytest.raises(CohortError, match="cannot be read"):
            read_stored(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.npy"])
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_in_a_header_is_read_or_explained(name, tmp_path):
    """100 files with one to four random bytes in the first 400: no other exception than ours."""
    rng = random.Random(name)
    content = npy(VOLUME)
    if not name.endswith("npy"):
        kind = nib.MGHImage if name.endswith("mgz") else nib.Nifti1Image
        content = kind(VOLUME, AFFINE).to_bytes()
    for _ in range(100):
        damaged = bytearray(content)
        place = rng.randrange(400)
        damaged[place : place + 4] = rng.randbytes(rng.randint(1, 4)).ljust(4, b"\xff")
        packed = gzip.compress(damaged, 1) if name.endswith("z") else bytes(damaged)
        (tmp_path / name).write_bytes(packed)
        try:
            assert read_stored(tmp_path / name).values.ndim == 3
        except CohortError as error:
            assert str(tmp_path) not in str(error)  # noqa: PT017


def test_every_flipped_bit_of_a_stream_is_found(tmp_path):
    """Deflate streams with one flipped bit that decompress to the same length: other voxels."""
    file, found = tmp_path / "a.nii.gz", 0
    rng, length = random.Random(0), len(nifti())
    for _ in range(150):
        content = bytearray(GZ)
        content[rng.randrange(20, len(GZ) - 8)] ^= 1 << rng.randrange(8)
        try:
            if len(zlib.decompressobj(-15).decompress(content[10:])) != length:
                continue
        except zlib.error:
            continue
        found += 1
        file.write_bytes(content)
        with pytest.raises(CohortError):
            read_stored(file)
    assert found > 5


@pytest.mark.parametrize("split", [1, 400, 10000])
def test_a_stream_of_several_members_is_whole(split, tmp_path):
    """RFC 1952, 2.2: a gzip file is a series of members; bgzip ends with an empty one."""
    content = nifti()
    parts = (content[:split], content[split:], b"")
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts) + bytes(9))
    assert np.array_equal(read_stored(tmp_path / "a.nii.gz").values, VOLUME)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A thousand voxels along each axis in 1 MB; and 100 MB of zeros behind a small volume."""
    header = nifti(dims=(1000, 1000, 1000))[:352]
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header + bytes(10**6)) + bytes(10**6))
    with pytest.raises(CohortError, match=r"1e\+09 voxels"):
        read_stored(tmp_path / "a.nii.gz")
    tail = gzip.compress(bytes(10**8), 1)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti()) + tail)
    with pytest.raises(CohortError, match="after its voxels"):
        read_stored(tmp_path / "b.nii.gz")


@pytest.mark.parametrize(
    ("name", "content", "misnamed"),
    [
        ("a.nii.gz", nifti(), "it is not compressed"),
        ("a.nii", GZ, "it is compressed"),
        ("a.NII.GZ", GZ, None),
        ("a.npy", nifti(), "it is NIfTI by its content"),
        ("a.mgz", nib.MGHImage(VOLUME, AFFINE).to_bytes(), "it is not compressed"),
        ("a.mgh", nib.MGHImage(VOLUME, AFFINE).to_bytes(), None),
        ("a.nii", npy(VOLUME), "it is npy by its content"),
    ],
)
def test_a_file_is_read_by_content_and_a_wrong_name_is_noted(name, content, misnamed, tmp_path):
    (tmp_path / name).write_bytes(content)
    stored = read_stored(tmp_path / name)
    assert np.array_equal(stored.values, VOLUME)
    assert stored.misnamed == misnamed


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image", "MGHImage", "Nifti1Pair"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_values_and_affine_are_those_of_nibabel(kind, dtype, tmp_path):
    suffix = {"MGHImage": ".mgz", "Nifti1Pair": ".img"}.get(kind, ".nii.gz")
    image = getattr(nib, kind)((100 * blob(3)).astype(dtype), AFFINE)
    if kind.startswith("Nifti"):
        image.header.set_slope_inter(0.1, 3)
    nib.save(image, tmp_path / f"a{suffix}")
    loaded, stored = nib.load(tmp_path / f"a{suffix}"), read_stored(tmp_path / f"a{suffix}")
    assert np.array_equal(stored.values, np.asanyarray(loaded.dataobj))
    assert stored.affine is not None
    assert np.array_equal(stored.affine, loaded.affine)


def test_a_pair_is_one_volume_and_needs_both_files(tmp_path):
    nib.save(nib.AnalyzeImage(VOLUME, AFFINE), tmp_path / "a.img")
    assert [f.name for f in sorted(tmp_path.iterdir()) if is_volume(f)] == ["a.hdr"]
    stored = read_stored(tmp_path / "a.hdr")
    assert np.array_equal(stored.values, VOLUME)
    assert stored.affine is None
    assert stored.zooms == (4, 4, 4)
    (tmp_path / "a.hdr").rename(tmp_path / "b.hdr")
    for name, words in (("a.img", "header"), ("b.hdr", "voxels")):
        assert is_volume(tmp_path / name)
        with pytest.raises(CohortError, match=f"its {words}.*is not beside it"):
            read_stored(tmp_path / name)


def test_mgh_without_its_flag_states_no_geometry(tmp_path):
    content = bytearray(nib.MGHImage(VOLUME, AFFINE).to_bytes())
    struct.pack_into(">h", content, 28, 0)
    (tmp_path / "a.mgh").write_bytes(content)
    assert read_stored(tmp_path / "a.mgh").affine is None


@pytest.mark.parametrize(
    ("change", "conflict"),
    [
        (np.diag([-1, 1, 1, 1]), "mirror image"),
        (np.diag([0.25, 0.25, 0.25, 1]), "voxels of 4 x 4 x 4 in the sform, of 1 x 1 x 1"),
        (np.diag([1.2, 1.2, 1.2, 1]), None),  # what a registration of a small head does
        (np.array([[0, -1, 0, 9], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), None),
    ],
    ids=["mirrored", "scaled", "registered", "turned"],
)
def test_affines_of_one_header_that_contradict_each_other(change, conflict, tmp_path):
    image = nib.Nifti1Image(VOLUME, AFFINE)
    image.set_qform(change @ AFFINE, 1)
    image.set_sform(AFFINE, 4)
    nib.save(image, tmp_path / "a.nii")
    found = read_stored(tmp_path / "a.nii").conflict
    assert found is None if conflict is None else conflict in str(found)


def test_names_of_volumes():
    names = ("a.NII.GZ", "a.Mgz", "a.hdr", ".a.nii", "a.nii.txt", "a.nrrd")
    assert [is_volume(Path(name)) for name in names] == [True, True, True, False, False, False]
    assert without_suffix("x/a.b.Nii.gz") == "x/a.b"
    assert without_suffix("a.txt") == "a.txt"


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_a_pair_is_read_to_its_end_too(name, tmp_path):
    """Voxels that are compressed under the name of a pair: a wrong checksum is found."""
    nib.save(nib.Nifti1Pair(VOLUME, AFFINE), tmp_path / "a.img")
    packed = gzip.compress((tmp_path / "a.img").read_bytes())
    (tmp_path / "a.img").write_bytes(packed)
    assert np.array_equal(read_stored(tmp_path / name).values, VOLUME)
    (tmp_path / "a.img").write_bytes(without_checksum(packed))
    with pytest.raises(CohortError, match="CRC"):
        read_stored(tmp_path / name)


@pytest.mark.parametrize("content", [nifti(), npy(VOLUME)])
def test_more_bytes_than_the_header_states_are_refused_packed_or_not(content, tmp_path):
    """A header of a smaller volume than the one that follows: it was damaged."""
    for name, pack in (("a.nii", bytes), ("a.nii.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(content + bytes(2**20)))
        assert np.array_equal(read_stored(tmp_path / name).values, VOLUME)
        (tmp_path / name).write_bytes(pack(content + bytes(2**20 + 1)))
        with pytest.raises(CohortError, match="do not belong together"):
            read_stored(tmp_path / name)


def test_a_volume_beyond_the_limit_of_memory_is_refused_on_its_header(tmp_path, monkeypatch):
    """24 x 24 x 24 voxels of 1 byte: reading takes 49 bytes each, 0.65 MiB in all."""
    for name, content in {
        "a.nii": nifti(), "b.nii.gz": GZ, "c.npy": npy(VOLUME),
        "d.mgh": nib.MGHImage(VOLUME, AFFINE).to_bytes(),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "1MiB")
        assert read_stored(tmp_path / name).shape == VOLUME.shape
        monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "0.6MiB")
        with pytest.raises(CohortError, match=r"needs 662 KiB.*at most 614 KiB.*--max-memory"):
            read_stored(tmp_path / name)


def test_voxels_are_not_read_where_the_header_is_not_accepted(tmp_path):
    """A volume whose voxels are missing: the header is judged first."""

    def refuse(header):
        raise CohortError(f"no: {header.shape}")

    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti()[:400] + bytes(len(VOLUME) * 10**4)))
    with pytest.raises(CohortError, match=r"no: \(24, 24, 24\)"):
        read_stored(tmp_path / "a.nii.gz", refuse)


@pytest.mark.parametrize("offset", [252, 254])
def test_a_code_of_an_affine_that_is_not_known_is_refused(offset, tmp_path, capsys):
    content = bytearray(nifti())
    struct.pack_into("<h", content, offset, 236)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(CohortError, match="form_code 236"):
        read_stored(tmp_path / "a.nii")
    assert capsys.readouterr().err == ""
