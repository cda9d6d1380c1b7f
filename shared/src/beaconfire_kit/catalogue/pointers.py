"""Name places in a document: JSON Pointers (RFC 6901), and the local references that use them. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote


class NotFound(LookupError):
    """A reference leads nowhere. The text says why, as the end of a sentence about the reference."""


def pointer(*tokens: str | int) -> str:
    """Return the JSON Pointer of a path: `/channels/parcel/address`."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def below(place: str, *tokens: str | int) -> str:
    """Return the pointer of something inside a place."""
    return place + pointer(*tokens)


def tokens(place: str) -> tuple[str, ...]:
    """Return the path that a JSON Pointer names. Raises ValueError if it does not begin with `/`."""
    if not place:
        return ()
    if not place.startswith("/"):
        raise ValueError(f"{place[:80]!r} is not a JSON Pointer: it must begin with /")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in place[1:].split("/"))


def value_at(document: Any, place: str) -> Any:
    """Return what stands at a place. Raises NotFound."""
    found = document
    for token in tokens(place):
        if isinstance(found, Mapping) and token in found:
            found = found[token]
        elif _is_list(found) and token.isascii() and token.isdigit() and int(token) < len(found):
            found = found[int(token)]
        else:
            raise NotFound(f"there is no {token[:80]!r} in the document at this place")
    return found


def target_of(reference: Any) -> str:
    """Return the place that a local reference names: `#/components/schemas/Parcel`. Raises NotFound for any other."""
    if not isinstance(reference, str):
        raise NotFound("it is not a text")
    if not reference.startswith("#"):
        raise NotFound("it leads out of the document, and only references like '#/components/…' are followed")
    if not reference.startswith("#/"):
        raise NotFound("it is not a path like '#/components/…'")
    return unquote(reference[1:])


def follow(document: Any, place: str) -> tuple[Any, str]:
    """Return what stands at a place after following its references, and where that is. Raises NotFound."""
    found, seen = value_at(document, place), {place}
    while isinstance(found, Mapping) and "$ref" in found:
        place = target_of(found["$ref"])
        if place in seen:
            raise NotFound("it leads back to itself")
        seen.add(place)
        found = value_at(document, place)
    return found, place


def locate(document: Any, place: str, *path: str | int) -> str:
    """Return where a path from a place really leads, through references. It ends where the document ends."""
    for token in path:
        try:
            found, real = follow(document, place)
        except NotFound:
            return place
        is_there = token in found if isinstance(found, Mapping) else _is_list(found) and int(token) < len(found)
        if not is_there:
            return real
        place = below(real, token)
    return place


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
