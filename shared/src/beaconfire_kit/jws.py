"""Read a JWS in its compact form (RFC 7515 §7.1) strictly, so that a token has exactly one text.

With a lenient reader one token can be written in many ways (padding, unused bits, other encodings, a key twice). Then
two parts of a system may read it differently, or a list of revoked texts may miss one.
"""

import base64
import json
import re
from typing import Any, NamedTuple, NoReturn

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class Malformed(ValueError):
    """The text is not a JWS in its compact form. The message contains the problem, but no part of the text."""


class Parts(NamedTuple):
    """The content of a token, without any verification."""

    header: dict[str, Any]
    claims: dict[str, Any]


def parse(token: str) -> Parts:
    """Return header and claims. Raises Malformed.

    Padding, unused bits and any other character in base64url are refused. So is JSON that is not UTF-8, starts with a
    byte-order mark, or has a key twice in one object. So are NaN, Infinity and lone surrogates.
    """
    found = _COMPACT.fullmatch(token)
    if found is None:
        raise Malformed("not three parts in base64url without padding")
    header, claims, signature = found.groups()
    _bytes(signature)
    return Parts(_object(header), _object(claims))


def _bytes(part: str) -> bytes:
    if len(part) % 4 == 1:
        raise Malformed("a part of it has no whole number of bytes")
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
        raise Malformed("a part of it has unused bits that are set")
    return raw


def _object(part: str) -> dict[str, Any]:
    raw = _bytes(part)
    try:
        text = raw.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():  # an escaped surrogate; a lone one cannot be encoded
            json.dumps(value, ensure_ascii=False).encode()
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("a part of it is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise Malformed("a part of it is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise Malformed("a key occurs twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")
