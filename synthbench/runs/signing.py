"""The key that seals are signed with: ed25519, in OpenSSH's formats, held by the user.

The signature is ed25519's (RFC 8032), computed by the library `cryptography`. Keys are OpenSSH's
files, so `ssh-keygen -lf signing-key.pub` prints the same fingerprint as synthbench.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from synthbench.errors import UsageError
from synthbench.runtime.files import check_is_file

_KIND = "ssh-ed25519"
_MOST_BYTES = 64 * 2**10  # a key file has a few hundred


def key_file() -> Path:
    """Return the file of the user's private key, in the folder of her configuration."""
    return platformdirs.user_config_path("synthbench") / "signing-key"


@dataclass(frozen=True)
class PublicKey:
    """A public key.

    Attributes
    ----------
    line
        `ssh-ed25519 AAAA...`, as in OpenSSH's `.pub` files, without a comment.
    """

    line: str

    @classmethod
    def parse(cls, content: bytes) -> PublicKey:
        """Return the key of a line of OpenSSH, or of a PEM text.

        Raises
        ------
        ValueError
            It is no public key of ed25519.
        """
        load = load_pem_public_key if content.startswith(b"-----BEGIN") else load_ssh_public_key
        try:
            key = load(content)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from error
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("it is not an ed25519 key")
        return cls._of(key)

    @classmethod
    def _of(cls, key: Ed25519PublicKey) -> PublicKey:
        return cls(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())

    @property
    def fingerprint(self) -> str:
        """Its fingerprint as `ssh-keygen -lf` prints it: `SHA256:` and 43 characters."""
        digest = hashlib.sha256(base64.b64decode(self.line.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def signed(self, signature: bytes, content: bytes) -> bool:
        """Return True where the holder of the private key signed these bytes."""
        key = load_ssh_public_key(self.line.encode())
        assert isinstance(key, Ed25519PublicKey)
        try:
            key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """The user's key.

    Attributes
    ----------
    file
        The file of the private key.
    public
        The public key.
    """

    file: Path
    private: Ed25519PrivateKey
    public: PublicKey

    @classmethod
    def new(cls) -> SigningKey:
        """Make a key, mode 0600, with the public key beside it (`.pub`).

        Raises
        ------
        UsageError
            There is one already.
        """
        file, key = key_file(), Ed25519PrivateKey.generate()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            # O_EXCL: of two calls at once, one makes the key and the other finds it.
            opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(
                f"{file}: you have a key already. To replace it, move it and its .pub away first, "
                "and keep the .pub: earlier seals are verified with it."
            ) from None
        made = cls(file, key, PublicKey._of(key.public_key()))
        try:
            with os.fdopen(opened, "wb") as stream:
                stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            file.with_name(file.name + ".pub").write_text(made.public.line + "\n", encoding="ascii")
        except BaseException:
            file.unlink(missing_ok=True)  # half a key would stand in the way of the next call
            raise
        return made

    @classmethod
    def found(cls) -> SigningKey | None:
        """Return the user's key; None where she has none.

        Raises
        ------
        UsageError
            It cannot be read, has a passphrase, or others may read it.
        """
        file = key_file()
        try:
            check_is_file(file)
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        if os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise UsageError(
                f"{file}: others may read this private key. Close it: chmod 600 {file}. If "
                "somebody may have read it, make another."
            )
        try:
            key = load_ssh_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise UsageError(
                f"{file}: no private key that can be used ({error}). It must be OpenSSH's, of kind "
                "ed25519, without a passphrase. Move it away, then: synthbench key --new"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(f"{file}: it is not an ed25519 key. Move it away, then: "
                             "synthbench key --new")  # fmt: skip
        return cls(file, key, PublicKey._of(key.public_key()))

    def sign(self, content: bytes) -> bytes:
        """Return the signature of these bytes, 64 bytes; the same each time."""
        return self.private.sign(content)


def expected_fingerprint(text: str) -> str:
    """Return the fingerprint of the key that a user names.

    Parameters
    ----------
    text
        A file with a public key, the key itself (`ssh-ed25519 AAAA...`), or its fingerprint
        (`SHA256:...`).

    Raises
    ------
    UsageError
        It is none of these.
    """
    needed = (
        "--key: a public key is needed: its file (.pub), the line in it (ssh-ed25519 AAAA...), or "
        "its fingerprint (SHA256:...)"
    )
    if text.startswith("SHA256:"):
        if len(text) != len("SHA256:") + 43:
            raise UsageError(f"{needed}. A fingerprint has 43 characters after SHA256:.")
        return text
    if text.startswith(_KIND):
        content, named = text.encode(), "the text"
    else:
        named = text
        try:
            check_is_file(Path(text))
            with Path(text).open("rb") as stream:
                content = stream.read(_MOST_BYTES)
        except OSError as error:
            raise UsageError(f"{needed}; {text}: {error.strerror}.") from error
    if b"PRIVATE KEY-----" in content:
        raise UsageError(f"{needed}; {text} is a private key, which nobody else should see.")
    try:
        return PublicKey.parse(content.strip()).fingerprint
    except ValueError as error:
        raise UsageError(f"{needed}; {named} is none: {error}.") from error
