"""Check that a document is plain JSON of a reasonable size, before anything else reads it. No I/O.

A document may come from a YAML parser, which makes dates, numbers as keys and shared branches of what it reads, or from
a script. After this check every part of it is a text, a number, true, false, null, a list or a mapping.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from beaconfire_kit.catalogue.fragment import Problem
from beaconfire_kit.catalogue.pointers import below

MAX_BYTES = 200 * 1024
"""Of the document as compact JSON. All fragments together are read by each gateway when it starts."""
MAX_DEPTH = 100
"""Mappings and lists inside one another. The deepest of our own have 14."""
_INTEGERS = range(-(2**63), 2**64)

# Bidirectional overrides and isolates make a terminal or page show another text than the one that is there.
_DECEPTIVE = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
_LAYOUT = frozenset("\n\r\t")
_MAX_PROBLEMS = 50


def problems_of(document: Any) -> list[Problem]:
    """Return what makes a document unreadable. Empty if it is plain."""
    found: list[Problem] = []
    room = MAX_BYTES
    todo: list[tuple[Any, str, int]] = [(document, "", 1)]
    while todo:
        value, place, depth = todo.pop()
        if isinstance(value, Mapping | list | tuple):
            if depth > MAX_DEPTH:
                found.append(Problem(place, f"It is nested deeper than {MAX_DEPTH} levels. Take levels away."))
                break
            todo += reversed([(one, below(place, key), depth + 1) for key, one in _inside(value)])
            found += _wrong_keys(value, place)
        elif problem := _wrong(value):
            found.append(Problem(place, problem))
        room -= _bytes(value)
        if room < 0:
            found.append(
                Problem("", f"The document is larger than {MAX_BYTES // 1024} KiB. Split it into several fragments.")
            )
            break
        if len(found) >= _MAX_PROBLEMS:
            break
    return found


def _inside(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return [(key, one) for key, one in value.items() if isinstance(key, str) and not _wrong_text(key)]
    return list(enumerate(value))


def _wrong_keys(value: Any, place: str) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        return
    for key in value:
        if not isinstance(key, str):
            yield Problem(place, f"The key {key!r} is not a text. Put it into quotes.")
        elif problem := _wrong_text(key):
            yield Problem(place, f"The key {key[:80]!r}: {problem}")


def _wrong(value: Any) -> str:
    if isinstance(value, str):
        return _wrong_text(value)
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if value in _INTEGERS else "The number does not fit into 64 bits. Use a smaller one."
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is not a number of JSON. Write a number."
    return f"{value!r:.80} is a {type(value).__name__} here, and JSON has none. Put it into quotes to make it a text."


def _wrong_text(text: str) -> str:
    if text.isprintable():
        return ""
    for character in text:
        if "\ud800" <= character <= "\udfff":
            return f"U+{ord(character):04X} is half a character. Take it away."
        is_control = character < " " or "\x7f" <= character <= "\x9f"
        if (is_control and character not in _LAYOUT) or character in _DECEPTIVE:
            return f"The invisible character U+{ord(character):04X} is not allowed. Take it away."
    return ""


def _bytes(value: Any) -> int:
    """Return how many bytes of compact JSON a value has without the values inside."""
    if isinstance(value, str):
        return len(value.encode(errors="replace")) + 2
    if isinstance(value, Mapping):
        return 2 + sum(len(str(key).encode(errors="replace")) + 4 for key in value)
    if isinstance(value, list | tuple):
        return 2 + len(value)
    # Python refuses to print very large numbers, and looks for a float in a range one by one.
    is_short = not isinstance(value, int | float) or (isinstance(value, int) and value not in _INTEGERS)
    return 4 if is_short else len(repr(value))
