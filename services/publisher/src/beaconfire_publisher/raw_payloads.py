"""Cut the payloads out of a request's body as its sender wrote them.

A payload is published as it came. Parsing and writing it again would change numbers: `1.50`, `1e2`, `9007199254740993`.
"""

import json
import re
from collections.abc import Iterator

_space = re.compile(r"[ \t\n\r]*").match
_value_at = json.JSONDecoder().raw_decode


def raw_payloads(text: str) -> list[str | None]:
    """Return the text of each event's `payload`, for one event or a list. None if it has none, or is not an object.

    The text must be valid JSON, without a key twice.
    """
    at = _skip(text, 0)
    if text[at] == "{":
        return [_payload_at(text, at)[0]]
    return [payload for payload, _ in _items(text, at)]


def _items(text: str, at: int) -> Iterator[tuple[str | None, int]]:
    at = _skip(text, at + 1)
    while text[at] != "]":
        payload, end = _payload_at(text, at) if text[at] == "{" else (None, _value_at(text, at)[1])
        yield payload, end
        at = _next(text, end)


def _payload_at(text: str, at: int) -> tuple[str | None, int]:
    """Return the text of the payload in the object at this place, and where the object ends."""
    found = None
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _value_at(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _value_at(text, start)
        if key == "payload":
            found = text[start:end]
        at = _next(text, end)
    return found, at + 1


def _next(text: str, at: int) -> int:
    """Return where the next member or item begins, or the closing bracket."""
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    space = _space(text, at)
    assert space is not None
    return space.end()
