"""Seal what gateway processes say about a connection, with its sid as the key.

Requests between processes carry tokens, events and whole sessions. Every gateway's broker user may hear and send them,
so a stolen password of that user would be enough to read or forge them. A sid is known to its client, to the process
that has the connection, and to the one that the client asks. So only these can read a sealed text or make one.

    sid = <process id> . <name> <secret>        the name is sent, and the sid never
"""

import hashlib
import re
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NAME_BYTES = 9
NAME_CHARS = 12
"""The length of `name_of`, in Base64."""
_SECRET_BYTES = 15
_NONCE_BYTES = 12
_sid = re.compile(r"([0-9a-f]{16})\.[A-Za-z0-9_-]{32}").fullmatch


class Unreadable(Exception):
    """The text was sealed with another sid, for another purpose, or not at all."""


def new_sid(process_id: str) -> str:
    """Return the sid of a new connection of this process."""
    return f"{process_id}.{secrets.token_urlsafe(_NAME_BYTES)}{secrets.token_urlsafe(_SECRET_BYTES)}"


def process_of(sid: str) -> str | None:
    """Return the id of the process that has the connection. None if this is not a sid."""
    parts = _sid(sid)
    return parts and parts[1]


def name_of(sid: str) -> str:
    """Return the part of a sid that is no secret."""
    return sid.partition(".")[2][:NAME_CHARS]


def seal(sid: str, text: bytes, purpose: bytes) -> bytes:
    """Return a text that only `unseal` with the same sid and purpose can read."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(sid).encrypt(nonce, text, purpose)


def unseal(sid: str, sealed: bytes, purpose: bytes) -> bytes:
    """Return the text. Raises Unreadable."""
    try:
        return _cipher(sid).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose)
    except (InvalidTag, ValueError):
        raise Unreadable from None


def _cipher(sid: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"beaconfire relay " + sid.encode()).digest())
