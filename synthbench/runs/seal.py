"""The seal of a folder of synthetic volumes: what every file held, and who says so.

`OUT/seal.json` has a manifest, which names the sha256 of every volume, of its sidecar, of the
settings and of the run, and an ed25519 signature of the manifest. docs/sealing.md describes the
format, what a seal proves and what it does not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

import synthbench
from synthbench.errors import UsageError
from synthbench.runs.card import CARD
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import found_sidecars, sidecar_file
from synthbench.runs.signing import PublicKey, SigningKey, key_file
from synthbench.runtime import tar
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.files import sha256_file, write_atomic

SEAL = "seal.json"
VERSION: Literal[1] = 1
PREFIX = b"synthbench seal 1\n"
"""Signed before the manifest: no signature that the key makes elsewhere can pass for a seal."""

OF_ONE_VOLUME = ("seed", "conditions", "extrapolated", "drawn", "not_finite", "seconds")
_OF_ONE_SOURCE = ("file", "sha256", "clipped")  # in the field `imported`
_OF_A_RUN = ("config.yaml", "run.json", "weights.safetensors")
_BESIDE = (
    "dataset_description.json", "conditions.tsv", "shards.tsv", "part.json", "sweep.tsv",
    "montage.png", "curve.png",
)  # fmt: skip
_ASK = "Ask its maker for the folder; if you made it, delete the seal and repeat the call."
_MOST_BYTES = 256 * 2**20  # a million volumes have about 200 MB


def _plain(name: str) -> str:
    """Return a name of a file below the folder; raise a ValueError for any other."""
    parts = PurePosixPath(name).parts
    if not parts or name != "/".join(parts) or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError("a path below the folder is needed")
    if name.startswith("/") or ":" in parts[0]:
        raise ValueError("a path below the folder is needed")
    return name


def _public(line: str) -> str:
    if PublicKey.parse(line.encode()).line != line:
        raise ValueError("a public key in OpenSSH's form, without a comment, is needed")
    return line


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, AfterValidator(_plain)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SealedRun(_Part):
    """The run that volumes were drawn from.

    Attributes
    ----------
    weights
        The sha256 in the sidecars' field `weights_sha256`; None where the run has no weights.
    files
        The sha256 of its configuration, record and weights, by name; those of its stages too.
    """

    weights: Sha256 | None
    files: dict[_Name, Sha256]


class Manifest(_Part):
    """What is sealed.

    Attributes
    ----------
    format, version
        What the file is, and how to read it.
    synthetic, generator, software
        As in the sidecars: no volume is a scan of a person; what made them; the version that
        sealed them.
    run
        None for volumes that another program made.
    settings
        The sha256 of each different set of settings (`settings_sha256`); one for most folders.
    files
        The sha256 of each file, by its name.
    """

    format: Literal["synthbench seal"]
    version: Literal[1]
    synthetic: Literal[True]
    generator: str
    software: str
    run: SealedRun | None
    settings: list[Sha256]
    files: dict[_Name, Sha256]


class Signature(_Part):
    """Who signed the manifest, and the signature of `PREFIX` and its canonical bytes."""

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, AfterValidator(_public)]
    value: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @property
    def key(self) -> PublicKey:
        """The key that it names."""
        return PublicKey(self.public_key)


class Seal(_Part):
    """The content of `seal.json`; `signature` is None where nobody signed it."""

    manifest: Manifest
    signature: Signature | None

    @property
    def holds(self) -> bool:
        """True where it is signed, and the manifest is the one that was signed."""
        if self.signature is None:
            return False
        signed = PREFIX + canonical(self.manifest.model_dump())
        return self.signature.key.signed(bytes.fromhex(self.signature.value), signed)


def canonical(value: Any) -> bytes:
    """Return a value as canonical JSON: keys in order, no spaces, UTF-8 (as in RFC 8785).

    >>> canonical({"b": [1, None], "a": "é"}).decode()
    '{"a":"é","b":[1,null]}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def settings_sha256(sidecar: Mapping[str, Any]) -> str:
    """Return the sha256 of the settings of a volume: of its sidecar, without what is its own.

    Volumes that differ in their seed and conditions only have the same.
    """
    shared = {name: value for name, value in sidecar.items() if name not in OF_ONE_VOLUME}
    if isinstance(source := shared.get("imported"), dict):
        shared["imported"] = {k: v for k, v in source.items() if k not in _OF_ONE_SOURCE}
    return hashlib.sha256(canonical(shared)).hexdigest()


# ---------------------------------------------------------------- sealing


def check_sealed_before(out: Path, volumes: Sequence[Path]) -> None:
    """Check, before a folder is sealed again, that what it holds is what was sealed.

    Parameters
    ----------
    out
        A folder of volumes; without a seal, there is nothing to check.
    volumes
        The volumes in it that are kept, with sidecars.

    Raises
    ------
    UsageError
        A file that is kept was changed since, the seal is another person's, or the user's key
        cannot be used.
    """
    key = _key_for(out)
    if not (out / SEAL).is_file():
        return
    seal = read_seal(out)
    if seal.signature is not None:
        if key is None or key.public != seal.signature.key:
            raise UsageError(
                f"{out}: it is sealed by the key {seal.signature.key.fingerprint}, which is not "
                f"yours. Use another --out; or, to seal its files as your own, delete {out / SEAL}."
            )
        if not seal.holds:
            raise UsageError(
                f"{out / SEAL}: it was changed after it was signed. Use another --out."
            )
    changed = [
        file.name
        for file in _files_of(volumes)
        if seal.manifest.files.get(file.name) not in (None, sha256_file(file))
    ]
    if changed:
        raise UsageError(
            f"{out}: {len(changed)} files were changed since they were sealed: "
            f"{_listed(changed)}. Delete them, so that they are drawn again, or use another --out."
        )


def seal_folder(
    out: Path, volumes: Sequence[Path], *, run: Run | None, generator: str, log: Log = to_logger
) -> Path:
    """Seal a folder of volumes, and return the seal's file.

    It is signed with the user's key (`synthbench.runs.signing`) where she has one.

    Parameters
    ----------
    out
        The folder.
    volumes
        All volumes in it, each with its sidecar.
    run, generator
        The run that they were drawn from, or None; what made them.
    log
        Called with who signed it.

    Returns
    -------
    Path
        The seal. The same files and the same key give the same bytes.

    Raises
    ------
    UsageError
        The user's key cannot be used, or lies in this folder.
    """
    key = _key_for(out)
    beside = [out / name for name in _BESIDE if (out / name).is_file()]
    files = _files_of(volumes)
    manifest = Manifest(
        format="synthbench seal",
        version=VERSION,
        synthetic=True,
        generator=generator,
        software=f"synthbench {synthbench.__version__}",
        run=None if run is None else _sealed_run(run),
        settings=sorted({settings_sha256(about) for about in found_sidecars(volumes)}),
        files={file.name: sha256_file(file) for file in sorted([*files, *beside])},
    )
    signature = None
    if key is not None:
        signed = key.sign(PREFIX + canonical(manifest.model_dump()))
        signature = Signature(algorithm="ed25519", public_key=key.public.line, value=signed.hex())
    seal = Seal(manifest=manifest, signature=signature)
    write_atomic(out / SEAL, canonical(seal.model_dump()))
    log(
        f"sealed without a signature, as you have no key. Make one: synthbench key --new ({SEAL})"
        if key is None
        else f"sealed, and signed by your key {key.public.fingerprint} ({SEAL})"
    )
    return out / SEAL


def _files_of(volumes: Sequence[Path]) -> list[Path]:
    """Return the files that hold volumes and their sidecars: of a shard, the shard."""
    files: dict[Path, None] = {}
    for volume in volumes:
        inside = tar.split(volume)
        found = (volume, sidecar_file(volume)) if inside is None else (inside[0],)
        files |= dict.fromkeys(found)
    return list(files)


def _key_for(out: Path) -> SigningKey | None:
    """Return the user's key, or None; raise where it lies in the folder that it is to sign."""
    key = SigningKey.found()
    if key is not None and out.resolve() in key.file.resolve().parents:
        raise UsageError(
            f"{key.file}: your private key lies in the folder of the volumes, which others will "
            "see. Use another --out."
        )
    return key


def _sealed_run(run: Run) -> SealedRun:
    # A stage of a run is a folder in it, with weights of its own.
    folders = [run.folder, *sorted(run.folder.glob("*/"))]
    files = [folder / name for folder in folders for name in _OF_A_RUN]
    return SealedRun(
        weights=run.weights_sha256,
        files={
            file.relative_to(run.folder).as_posix(): sha256_file(file)
            for file in files
            if file.is_file() and (file.name != "weights.safetensors" or run.unfinished is None)
        },
    )


# ---------------------------------------------------------------- verifying


@dataclass(frozen=True)
class Verdict:
    """What was found in a sealed folder.

    Attributes
    ----------
    files
        Number of files that the seal names.
    changed, missing, added
        Names of files that hold something else than when they were sealed, that are not there, and
        that the seal does not name.
    signature
        "good", "none", "broken" (the manifest is not the one that was signed) or "of another key"
        (than the one that was expected).
    signer
        The fingerprint of the key that the seal names; None without a signature.
    own
        True where it is the user's own key.
    """

    files: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    signature: Literal["good", "none", "broken", "of another key"]
    signer: str | None
    own: bool

    @property
    def untouched(self) -> bool:
        """True where all files are those that were sealed, and no other is there."""
        return not (self.changed or self.missing or self.added)

    @property
    def verified(self) -> bool:
        """True where the files are untouched and the signature is good."""
        return self.untouched and self.signature == "good"


def read_seal(folder: Path) -> Seal:
    """Return the seal of a folder.

    Raises
    ------
    UsageError
        There is none, or it is not one.
    """
    file = folder / SEAL
    if not file.is_file():
        raise UsageError(
            f"{folder}: not sealed: it has no {SEAL}. synthbench sample, sweep and import write it."
        )
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise UsageError(
                f"{file}: no seal: it has more than {_MOST_BYTES // 2**20} MiB. {_ASK}"
            )
        content = file.read_bytes()
        fields = json.loads(content)
        version = fields["manifest"]["version"] if isinstance(fields, dict) else None
        if type(version) is int and version > VERSION:
            raise UsageError(
                f"{file}: written by a newer synthbench (version {version}, here {VERSION}). "
                "Install that one: pip install --upgrade synthbench"
            )
        seal = Seal.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in found["loc"])
        raise UsageError(f"{file}: no seal: {where!a}: {found['msg']}. {_ASK}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{file}: no seal: it is not the JSON of a seal. {_ASK}") from error
    # A name that comes twice would be read one way here and another way elsewhere.
    if canonical(seal.model_dump()) != content:
        raise UsageError(f"{file}: no seal: it is not canonical JSON, so it was edited. {_ASK}")
    return seal


def verify(folder: Path, expected: str | None = None) -> Verdict:
    """Compare a folder with its seal.

    Parameters
    ----------
    folder
        A folder that `sample`, `sweep` or `import` wrote.
    expected
        The fingerprint of the key that it should be signed by; None: any.

    Raises
    ------
    UsageError
        The folder has no seal that can be read.
    """
    seal = read_seal(folder)
    sealed = seal.manifest.files
    missing = [name for name in sealed if not _there(folder / name)]
    changed = [
        name
        for name, digest in sealed.items()
        if name not in missing and not _holds(folder / name, digest)
    ]
    added = sorted(name for name in _names_in(folder) if name not in sealed and _counts(name))
    signer = None if seal.signature is None else seal.signature.key.fingerprint
    return Verdict(
        len(sealed), tuple(sorted(changed)), tuple(sorted(missing)), tuple(added),
        _judged(seal, signer, expected), signer, signer is not None and signer == _own(),
    )  # fmt: skip


def _judged(
    seal: Seal, signer: str | None, expected: str | None
) -> Literal["good", "none", "broken", "of another key"]:
    if signer is None:
        return "none"
    if not seal.holds:
        return "broken"
    return "good" if expected in (None, signer) else "of another key"


def _own() -> str | None:
    """Return the fingerprint of the user's key, without asking for the private one."""
    try:
        return PublicKey.parse(
            key_file().with_name(key_file().name + ".pub").read_bytes()
        ).fingerprint
    except (OSError, ValueError):
        return None


def _names_in(folder: Path) -> Iterator[str]:
    """Yield the names of the files below a folder, and of the links to folders, not followed."""

    def refused(error: OSError) -> None:
        raise error

    # A link may lead anywhere, for example to the root of the disk.
    for where, folders, files in os.walk(folder, onerror=refused):
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*files, *links):
            yield (Path(where) / name).relative_to(folder).as_posix()


def _there(file: Path) -> bool:
    return file.is_symlink() or file.exists()


def _holds(file: Path, digest: str) -> bool:
    # A pipe or a device would never end.
    return file.is_file() and sha256_file(file) == digest


def _counts(name: str) -> bool:
    """Return False for the seal, the card, which is made to be edited, and hidden files."""
    return name not in (SEAL, CARD) and not PurePosixPath(name).name.startswith(".")


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
