"""Find the fields of payloads that hold bytes: those whose schema says `contentEncoding: base64`. No I/O.

fields = BinaryFields()
fields.learn(catalogue)
fields.with_bytes(message)      # a publisher's message, with bytes in the place of base64
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.pointers import NotFound, follow

_SAME_VALUE = ("allOf", "anyOf", "oneOf")
ENCODING = "base64"


class _Place:
    """What a schema says about the values at one place of payloads."""

    __slots__ = ("fields", "is_binary", "items", "others", "same")

    def __init__(self) -> None:
        self.is_binary = False
        self.fields: dict[str, _Place] = {}
        self.others: _Place | None = None
        """Of fields that are not named."""
        self.items: list[_Place] = []
        """Of every item of a list. The places of its first items are here, too."""
        self.same: list[_Place] = []
        """Further schemas of the same value: alternatives, and what is referred to."""


class BinaryFields:
    """The fields of all types of the revisions that it has learned.

    A version of a type never changes which of its fields are bytes. So the newest revision may answer for earlier ones.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], _Place] = {}

    def learn(self, catalogue: Catalogue) -> None:
        """Take in a revision."""
        for versions in catalogue.types.values():
            for version, event_type in versions.items():
                key = event_type.name, version
                if key not in self._places and (place := _place_of(event_type.schema)) is not None:
                    self._places[key] = place

    def with_bytes(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a valid message of a publisher with bytes in the place of base64. It changes the message itself."""
        place = self._places.get((message["type"], message["version"]))
        if place is not None:
            message["payload"] = _converted(message["payload"], [place])
        return message


def _place_of(schema: Mapping[str, Any]) -> _Place | None:
    """Return what a payload's schema says. None if no field is binary."""
    known: dict[int, _Place] = {}

    def read(node: Any) -> _Place:
        if id(node) in known:
            return known[id(node)]
        place = known[id(node)] = _Place()
        if not isinstance(node, Mapping):
            return place
        place.is_binary = node.get("contentEncoding") == ENCODING
        if isinstance(node.get("$ref"), str):
            place.same.append(read(_target(schema, node["$ref"])))
        for keyword in _SAME_VALUE:
            place.same += [read(one) for one in node.get(keyword, ())]
        place.fields = {name: read(one) for name, one in node.get("properties", {}).items()}
        if isinstance(node.get("additionalProperties"), Mapping):
            place.others = read(node["additionalProperties"])
        for found in (node[keyword] for keyword in ("items", "prefixItems", "additionalItems") if keyword in node):
            place.items += map(read, found if isinstance(found, list) else [found])
        return place

    top = read(schema)
    return top if any(place.is_binary for place in known.values()) else None


def _target(schema: Mapping[str, Any], reference: str) -> Any:
    try:
        return follow(schema, reference.removeprefix("#"))[0]
    except NotFound:
        return None


def _converted(value: Any, places: Iterable[_Place]) -> Any:
    """Return a value with bytes where any of the places has them."""
    if not isinstance(value, str | dict | list):
        return value
    found = _with_same(places)
    if isinstance(value, str):
        return _bytes_of(value) if any(place.is_binary for place in found) else value
    if isinstance(value, list):
        items = [one for place in found for one in place.items]
        return [_converted(one, items) for one in value] if items else value
    for name, one in value.items():
        inner = [place.fields.get(name) or place.others for place in found]
        wanted = [place for place in inner if place is not None]
        if wanted:
            value[name] = _converted(one, wanted)
    return value


def _with_same(places: Iterable[_Place]) -> list[_Place]:
    """Return the places with all further schemas of the same value, once each."""
    found: list[_Place] = []
    todo = list(places)
    while todo:
        place = todo.pop()
        if place not in found:
            found.append(place)
            todo += place.same
    return found


def _bytes_of(text: str) -> bytes | str:
    """Return the bytes. The text itself, if an alternative of the schema allows what is not base64."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return text
