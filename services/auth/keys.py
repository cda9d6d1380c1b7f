"""The signing keys: made at the first start, kept in a folder that only we may read.

Each file `<kid>.pem` is one Ed25519 key. The newest signs; all of them verify, so that a rotation can overlap.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared import logs
from shared.tokens import public_jwk

log = logs.get(__name__)


class KeysUnusable(Exception):
    """The key folder cannot be used. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys by `kid`; `current` signs."""

    current: str
    private: dict[str, Ed25519PrivateKey]

    @property
    def public(self) -> dict[str, Ed25519PublicKey]:
        return {kid: key.public_key() for kid, key in self.private.items()}

    def jwks(self) -> dict[str, Any]:
        """The document at `/.well-known/jwks.json`."""
        return {"keys": [public_jwk(kid, key) for kid, key in self.public.items()]}


def open_keys(folder: Path) -> Keys:
    """Read the keys, making the first one where there is none. Raises KeysUnusable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = sorted(folder.glob("*.pem"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        keys = {path.stem: _read(path) for path in files}
        if not keys:
            kid, key = _make(folder)
            keys[kid] = key
    except OSError as error:
        raise KeysUnusable(f"cannot use the key folder {folder}: {error.strerror}") from error
    return Keys(list(keys)[-1], keys)


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise KeysUnusable(f"{path} is no private key: move it away or restore it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysUnusable(f"{path} is no Ed25519 key: move it away")
    return key


def _make(folder: Path) -> tuple[str, Ed25519PrivateKey]:
    """A new key. Written to the side and renamed: a crash leaves no half a key."""
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    kid = hashlib.sha256(raw).hexdigest()[:16]
    unfinished = folder / f"{kid}.new"
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / f"{kid}.pem")
    _sync(folder)
    log.info("made a signing key", kid=kid)
    return kid, key


def _sync(folder: Path) -> None:
    """Make the new name last through a power loss: tokens signed with the key will be out by then."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
