"""Members of tar files, read at their offset; tarfile, which wrote the files, is compared with."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from synthbench.runtime import tar
from synthbench.runtime.files import sha256_file

CONTENTS = {f"{name}.bin": os.urandom(size) for name, size in
            (("a", 700), ("b/c", 1), ("d", 512), ("e", 3000), ("f" * 150, 10))}  # fmt: skip


def written(file: Path, contents: dict[str, bytes] = CONTENTS, form: int = tarfile.GNU_FORMAT):
    with tarfile.open(file, "w", format=form) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def read(file: Path) -> bytes:
    with tar.open_binary(file) as opened:
        return opened.read()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_those_that_tarfile_wrote(tmp_path, form):
    contents = {k: v for k, v in CONTENTS.items() if form != tarfile.USTAR_FORMAT or len(k) < 100}
    shard = written(tmp_path / "s.tar", contents, form)
    assert list(tar.content(shard).members) == list(contents)
    assert (tar.content(shard).cut, tar.content(shard).ended) == (None, True)
    for name, content in contents.items():
        with tar.open_binary(shard / name) as file:
            assert file.read() == content
            assert file.seek(-1, os.SEEK_END) == len(content) - 1
            assert file.read(5) == content[-1:]
            assert (file.seek(1), file.read(300)) == (1, content[1:301])
        assert tar.is_file(shard / name)
    assert not tar.is_file(shard / "absent.bin")
    with pytest.raises(OSError, match="does not hold it"):
        tar.open_binary(shard / "absent.bin")


def test_entries_are_a_tar_file_without_time_and_owner(tmp_path):
    shard = tmp_path / "s.tar"
    contents = {"a.bin": b"x" * 512, "b.bin": b"", "c.bin": b"y"}
    shard.write_bytes(b"".join(tar.entry(*one) for one in contents.items()) + tar.END)
    with tarfile.open(shard) as archive:
        members = archive.getmembers()
        found = {m.name: archive.extractfile(m).read() for m in members}  # type: ignore[union-attr]
    assert found == contents
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


@pytest.mark.parametrize("cut", [100, 600, 1300, 1700, 2047, 2048, 4000, 6000])
def test_what_lies_before_the_end_of_a_truncated_file_is_whole(tmp_path, cut):
    contents = {k: v for k, v in CONTENTS.items() if len(k) < 100}
    whole = tar.content(written(tmp_path / "whole.tar", contents)).members
    shard = tmp_path / "s.tar"
    shard.write_bytes((tmp_path / "whole.tar").read_bytes()[:cut])
    before = {name for name, (offset, length) in whole.items() if offset + length <= cut}
    if cut < 512:
        with pytest.raises(OSError, match="no tar file"):
            tar.content(shard)
        return
    assert set(tar.content(shard).members) == before
    assert not tar.content(shard).ended
    for name, content in contents.items():
        if name in before:
            assert sha256_file(shard / name) == sha256_file(tmp_path / "whole.tar" / name)
            assert read(shard / name) == content
            continue
        with pytest.raises(tar.TruncatedError, match=r"s\.tar is truncated"):
            tar.open_binary(shard / name)


def test_zeros_in_the_last_member_are_not_the_end(tmp_path):
    """Volumes end with a black background: 1,024 zeros do not show that a file is whole."""
    shard = tmp_path / "s.tar"
    shard.write_bytes(tar.entry("a.bin", bytes(4096)))
    assert not tar.content(shard).ended


def test_a_damaged_header_hides_its_own_member_only(tmp_path):
    shard = written(tmp_path / "s.tar", {name: bytes([i]) * 900 for i, name in enumerate("abcd")})
    content = bytearray(shard.read_bytes())
    content[1536 + 20] ^= 255  # a header of 512 bytes and two blocks of content before
    shard.write_bytes(content)
    assert list(tar.content(shard).members) == ["a", "c", "d"]
    assert read(shard / "d") == bytes([3]) * 900


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.nii", "a/../../x.nii"])
def test_names_that_lead_out_of_the_file_are_refused(tmp_path, name):
    with pytest.raises(OSError, match="leads out"):
        tar.content(written(tmp_path / "s.tar", {name: b"x"}))


def test_a_name_that_comes_twice_is_refused(tmp_path):
    shard = tmp_path / "s.tar"
    shard.write_bytes(tar.entry("a", b"1") + tar.entry("./a", b"2") + tar.END)
    with pytest.raises(OSError, match="twice"):
        tar.content(shard)


def test_links_folders_and_pipes_are_no_members(tmp_path):
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as archive:
        for name, kind in (("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("d", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("empty"))
    assert list(tar.content(shard).members) == ["empty"]
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(OSError, match="no file"):
        tar.content(tmp_path / "pipe.tar")


def test_a_folder_with_the_name_of_a_tar_file_is_a_folder(tmp_path):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "a.bin").write_bytes(b"1")
    assert tar.split(tmp_path / "x.tar" / "a.bin") is None
    assert read(tmp_path / "x.tar" / "a.bin") == b"1"
    assert tar.folder_of(tmp_path / "x.tar" / "a.bin") == tmp_path / "x.tar"


def test_a_file_that_was_written_again_is_listed_again(tmp_path):
    shard = written(tmp_path / "s.tar", {"a": b"1"})
    assert list(tar.content(shard).members) == ["a"]
    written(shard, {"a": b"1", "b": b"x" * 20000})
    assert list(tar.content(shard).members) == ["a", "b"]
