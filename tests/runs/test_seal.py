"""Seals: every change of a folder is named, and a signature is that of the key it names.

The independent reading is by `json`, `hashlib` and `cryptography` alone, as docs/sealing.md shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from synthbench.errors import UsageError
from synthbench.runs.seal import check_sealed_before, seal_folder, verify
from synthbench.runs.signing import SigningKey, expected_fingerprint, key_file
from tests.runs.conftest import make_run


@pytest.fixture(autouse=True)
def _keyless(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def another_key(monkeypatch, tmp_path, name="other"):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / name))
    return SigningKey.new()


def add(folder, seed, **fields):
    """A volume and its sidecar, as bytes: a seal does not look into a volume."""
    folder.mkdir(exist_ok=True)
    volume = folder / f"synth-{seed:06d}.nii.gz"
    volume.write_bytes(b"voxels %d" % seed)
    about = {"synthetic": True, "seed": seed, "sampler": "ddim", "seconds": seed / 7, **fields}
    volume.with_name(f"synth-{seed:06d}.json").write_text(json.dumps(about))
    return volume


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def seal(folder, volumes, run=None):
    return seal_folder(folder, volumes, run=run, generator="pca-gaussian")


@pytest.fixture
def folder(tmp_path):
    """Two volumes with their sidecars and a description, not sealed."""
    folder = tmp_path / "synth"
    add(folder, 0)
    add(folder, 1)
    (folder / "dataset_description.json").write_text("{}")
    return folder


@pytest.fixture
def volumes(folder):
    return sorted(folder.glob("*.nii.gz"))


# ---------------------------------------------------------------- what is in a seal


def test_a_seal_is_verified_without_synthbench(folder, volumes, tmp_path):
    key = SigningKey.new()
    run = make_run(tmp_path / "run")
    stage = tmp_path / "run" / "autoencoder"
    stage.mkdir()
    (stage / "weights.safetensors").write_bytes(b"weights of a stage")
    content = seal(folder, volumes, run).read_bytes()
    fields = json.loads(content)
    assert canonical(fields) == content

    manifest, signature = fields["manifest"], fields["signature"]
    signed = b"synthbench seal 1\n" + canonical(manifest)
    public = load_ssh_public_key(signature["public_key"].encode())
    assert isinstance(public, Ed25519PublicKey)
    public.verify(bytes.fromhex(signature["value"]), signed)
    with pytest.raises(InvalidSignature):
        public.verify(bytes.fromhex(signature["value"]), signed.replace(b"true", b"null"))
    assert signature["public_key"] == key.public.line

    def sha256(file):
        return hashlib.sha256(file.read_bytes()).hexdigest()

    names = {"synth-000000", "synth-000001"}
    assert manifest["files"] == {
        name: sha256(folder / name)
        for name in (
            "dataset_description.json",
            *(f"{name}{ending}" for name in names for ending in (".nii.gz", ".json")),
        )
    }
    assert manifest["run"]["weights"] == run.weights_sha256
    for name in ("config.yaml", "run.json", "autoencoder/weights.safetensors"):
        assert manifest["run"]["files"][name] == sha256(run.folder / name)


def test_settings_are_one_hash_where_only_seeds_and_times_differ(folder, volumes):
    """Of the sidecars without the fields of one volume: derived here by hand."""
    shared = b'{"sampler":"ddim","synthetic":true}'
    other = add(folder, 2, sampler="heun")
    manifest = json.loads(seal(folder, volumes).read_bytes())["manifest"]
    assert manifest["settings"] == [hashlib.sha256(shared).hexdigest()]
    both = json.loads(seal(folder, [*volumes, other]).read_bytes())["manifest"]["settings"]
    assert len(both) == 2
    assert set(manifest["settings"]) < set(both)


def test_the_same_files_and_key_give_the_same_bytes(folder, volumes):
    SigningKey.new()
    first = seal(folder, volumes).read_bytes()
    assert seal(folder, volumes).read_bytes() == first


# ---------------------------------------------------------------- verdicts


def test_an_untouched_folder_is_verified_also_from_a_copy_with_an_edited_card(
    folder, volumes, tmp_path
):
    key = SigningKey.new()
    said: list[str] = []
    seal_folder(folder, volumes, run=None, generator="x", log=said.append)
    assert key.public.fingerprint in said[0]
    (folder / "README.md").write_text("edited")
    (folder / ".DS_Store").write_text("")
    found = verify(folder.rename(tmp_path / "elsewhere"), key.public.fingerprint)
    assert (found.verified, found.files, found.own) == (True, 5, True)


def test_every_change_is_named(folder, volumes):
    SigningKey.new()
    seal(folder, volumes)
    volumes[0].write_bytes(volumes[0].read_bytes() + b"x")
    (folder / "synth-000001.json").unlink()
    add(folder, 5)
    (folder / "more").mkdir()
    (folder / "more" / "sub-01.nii.gz").write_bytes(b"a real one")
    found = verify(folder)
    assert (found.changed, found.missing) == (("synth-000000.nii.gz",), ("synth-000001.json",))
    assert found.added == ("more/sub-01.nii.gz", "synth-000005.json", "synth-000005.nii.gz")
    assert (found.verified, found.signature) == (False, "good")


def test_each_bit_of_a_volume_counts(folder, volumes):
    seal(folder, volumes)
    whole = volumes[0].read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        volumes[0].write_bytes(flipped)
        assert verify(folder).changed == ("synth-000000.nii.gz",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_in_place_of_a_volume_is_a_change(folder, volumes):
    seal(folder, volumes)
    volumes[0].unlink()
    os.mkfifo(volumes[0])
    assert verify(folder).changed == ("synth-000000.nii.gz",)


def test_a_link_to_a_folder_is_named_and_not_followed(folder, volumes, tmp_path):
    seal(folder, volumes)
    elsewhere = tmp_path / "elsewhere"
    add(elsewhere, 7)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    assert verify(folder).added == ("linked", "loop")


def test_a_seal_without_a_key_says_so(folder, volumes):
    said: list[str] = []
    seal_folder(folder, volumes, run=None, generator="x", log=said.append)
    assert "without a signature" in said[0]
    found = verify(folder)
    assert (found.untouched, found.signature, found.verified) == (True, "none", False)


def test_a_seal_by_another_key_is_good_only_where_no_key_is_expected(
    folder, volumes, tmp_path, monkeypatch
):
    mine = SigningKey.new()
    theirs = another_key(monkeypatch, tmp_path)
    seal(folder, volumes)
    assert verify(folder).verified
    found = verify(folder, mine.public.fingerprint)
    assert (found.signature, found.signer) == ("of another key", theirs.public.fingerprint)
    assert not found.verified


def test_a_manifest_that_was_changed_after_it_was_signed_is_found(folder, volumes):
    key = SigningKey.new()
    file = seal(folder, volumes)
    volumes[0].write_bytes(b"others")
    changed = hashlib.sha256(b"others").hexdigest()
    before = json.loads(file.read_bytes())["manifest"]["files"]["synth-000000.nii.gz"]
    file.write_bytes(file.read_bytes().replace(before.encode(), changed.encode()))
    found = verify(folder, key.public.fingerprint)
    assert (found.untouched, found.signature, found.verified) == (True, "broken", False)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text + "\n",
        lambda text: text.replace('"version":1', '"version":1,"version":1'),
        lambda text: text.replace('"version":1', '"version":true'),
        lambda text: text.replace('"version":1', '"version":2'),
        lambda text: text.replace("synth-000000.json", "../escape.json"),
        lambda text: text.replace("synth-000000.json", "/etc/passwd"),
        lambda text: text.replace("synth-000000.json", "C:/x.json"),
        lambda text: text.replace("synth-000000.json", ""),
        lambda text: text.replace('"synthetic":true', '"synthetic":false'),
        lambda text: text.replace("ssh-ed25519 ", "ssh-rsa "),
        lambda text: text.replace('"algorithm":"ed25519"', '"algorithm":"none"'),
        lambda text: text.replace('"run":null', '"run":null,"more":1'),
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: "[]",
        lambda text: '{"manifest":3}',
        lambda text: "\xff",
    ],
)
def test_what_is_not_a_seal_is_refused_by_name(folder, volumes, spoil):
    SigningKey.new()
    file = seal(folder, volumes)
    file.write_bytes(spoil(file.read_text("utf-8")).encode("latin-1"))
    with pytest.raises(UsageError, match=r"seal\.json: (no seal|written by a newer)"):
        verify(folder)


def test_a_folder_without_a_seal_cannot_be_verified(folder):
    with pytest.raises(UsageError, match="not sealed"):
        verify(folder)


# ---------------------------------------------------------------- sealing again


def test_volumes_that_were_changed_are_not_signed_again(folder, volumes):
    SigningKey.new()
    seal(folder, volumes)
    check_sealed_before(folder, volumes)
    (folder / "synth-000001.json").write_text("{}")
    with pytest.raises(UsageError, match=r"1 files were changed .*synth-000001\.json"):
        check_sealed_before(folder, volumes)
    check_sealed_before(folder, volumes[:1])  # what is drawn again need not be as it was


def test_a_folder_that_another_person_sealed_is_not_sealed_again(
    folder, volumes, tmp_path, monkeypatch
):
    theirs = SigningKey.new()
    seal(folder, volumes)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    with pytest.raises(UsageError, match="is not yours") as refused:
        check_sealed_before(folder, volumes)
    assert theirs.public.fingerprint in str(refused.value)
    another_key(monkeypatch, tmp_path)
    with pytest.raises(UsageError, match="is not yours"):
        check_sealed_before(folder, volumes)


def test_a_folder_that_nobody_signed_can_be_signed_later(folder, volumes):
    seal(folder, volumes)
    SigningKey.new()
    check_sealed_before(folder, volumes)
    seal(folder, volumes)
    assert verify(folder).verified


# ---------------------------------------------------------------- keys


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_a_key_is_the_users_alone(folder, volumes):
    assert SigningKey.found() is None
    key = SigningKey.new()
    assert stat.S_IMODE(key.file.stat().st_mode) == 0o600
    found = SigningKey.found()
    assert found is not None
    assert found.public == key.public
    with pytest.raises(UsageError, match="you have a key already"):
        SigningKey.new()
    key.file.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        check_sealed_before(folder, volumes)


def test_a_key_in_the_folder_of_the_volumes_is_refused(folder, volumes, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    SigningKey.new()
    with pytest.raises(UsageError, match="lies in the folder"):
        check_sealed_before(folder, volumes)


def test_a_key_that_is_none_is_refused(folder, volumes):
    key = SigningKey.new()
    key.file.write_bytes(key.file.read_bytes()[:100])
    with pytest.raises(UsageError, match="no private key"):
        check_sealed_before(folder, volumes)


def test_the_expected_key_is_named_in_three_ways(tmp_path):
    key = SigningKey.new()
    public = key_file().with_name("signing-key.pub")
    with_comment = tmp_path / "maker.pub"
    with_comment.write_text(f"{key.public.line} maker@example\n")
    for text in (str(public), str(with_comment), key.public.line, key.public.fingerprint):
        assert expected_fingerprint(text) == key.public.fingerprint
    for wrong in ("SHA256:short", "ssh-ed25519 AAAA", "nowhere.pub", str(tmp_path)):
        with pytest.raises(UsageError, match="--key"):
            expected_fingerprint(wrong)
    with pytest.raises(UsageError, match="is a private key"):
        expected_fingerprint(str(key.file))
