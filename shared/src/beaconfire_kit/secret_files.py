"""Read secrets that sign, from files. A file holds one secret, and perhaps a line break at its end.

No error and no repr contains a part of a secret.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Encoding: TypeAlias = Literal["text", "base64"]

SHARED: Literal["HS256"] = "HS256"
"""The algorithm of tokens that a shared secret signs."""

MIN_SECRET_BYTES = 32  # RFC 7518 §3.2, for HS256
MAX_FILE_BYTES = 4_096

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_KEY_FILE = re.compile(rb"-----BEGIN|ssh-(rsa|ed25519)|\"kty\"|\"keys\"")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that two sides share. Anyone who can check a signature with it can also make one."""

    value: bytes = field(repr=False)

    @property
    def as_text(self) -> str:
        """A character for each byte, to find weak secrets, which are often words."""
        return self.value.decode("latin-1")


def read_secret(path: str, encoding: Encoding = "text") -> Secret:
    """Read one secret. Raises ValueError with what to do if it cannot be read, is too short, or is no secret."""
    content = read_content(path)
    if _KEY_FILE.search(content):  # a public key is no secret: anybody could sign with it (RFC 8725 §2.1)
        raise ValueError(f"{path}: is a key or certificate, not a secret: name the issuer's jwksUrl instead")
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if content != content.strip():
        raise ValueError(f"{path}: starts or ends with white space: remove it")
    value = _decoded(content, path) if encoding == "base64" else content
    if len(value) < MIN_SECRET_BYTES:
        made = "openssl rand -base64 32" if encoding == "base64" else "openssl rand -hex 32"
        raise ValueError(f"{path}: has {len(value)} bytes, at least {MIN_SECRET_BYTES} are needed: `{made}` makes one")
    return Secret(value)


def read_secrets(paths: Sequence[str], encoding: Encoding = "text") -> tuple[Secret, ...]:
    """Read one secret of each file. Raises as `read_secret` does, and ValueError if two are equal."""
    secrets = tuple(read_secret(path, encoding) for path in paths)
    if len(set(secrets)) < len(secrets):
        raise ValueError(f"{' and '.join(paths)} hold the same secret: name it once")
    return secrets


def read_content(path: str) -> bytes:
    """Return what a small file contains. Raises ValueError if it cannot be read, or is too large for a secret."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: has more than {MAX_FILE_BYTES} bytes, so it is not one secret")
    return content


def _decoded(content: bytes, path: str) -> bytes:
    text = content.decode("ascii", errors="replace").removeprefix("whsec_")
    if not _BASE64.fullmatch(text):
        raise ValueError(f"{path}: is not base64")
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ValueError(f"{path}: is not base64") from None
